"""The second pass of building a corpus: the kept documents are written in shuffled order.

Each document goes to the held-out or the train split by its hash, or is dropped for the share of
its source or the limit. Every drop is counted.
"""

from __future__ import annotations

from typing import Any

from lingraft.corpus.chat import decode_document
from lingraft.corpus.cleaning import Reason, Tally, sum_drops
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.corpus import Counts, DocumentWriter
from lingraft.corpus.kept_documents import KeptDocuments
from lingraft.corpus.near_duplicates import NearDuplicates
from lingraft.corpus.splits import DocumentHashes
from lingraft.errors import CorpusError
from lingraft.store import Draft


def split_writer(settings: CorpusSettings, draft: Draft, split: str) -> DocumentWriter:
    """Return the writer of a split, which keeps conversations if a source has them."""
    return DocumentWriter(draft.path(f"{split}.parquet"), chats=settings.holds_chats)


def write_splits(
    settings: CorpusSettings,
    train: KeptDocuments,
    heldout: KeptDocuments | None,
    draft: Draft,
    heldout_file: DocumentWriter,
) -> tuple[dict[str, Counts], dict[str, Any]]:
    """Write the train split, and the held-out one if no source is named for it.

    Return the counts of both and the notes.
    """
    _check_not_empty(len(train.table), train, "sources")
    threshold = 0
    if heldout is None:
        if len(train.table) == 1:
            msg = (
                f"{settings.sources[0].label}: only one document is left, and at least one must be "
                "held out; add text, split it (document_unit: paragraph), or set heldout"
            )
            raise CorpusError(msg)
        threshold = train.table.heldout_threshold(settings.share or 0, settings.heldout_bytes)
    with split_writer(settings, draft, "train") as train_file:
        _write_train(settings, train, threshold, train_file, heldout_file)
        _check_not_empty(train_file.documents, train, "sources")
    heldout_tallies = heldout.tallies if heldout else []
    notes = {
        "dropped": sum_drops([*train.tallies, *heldout_tallies]),
        "sources": list(map(Tally.report, train.tallies)),
        "heldout_sources": list(map(Tally.report, heldout_tallies)),
    }
    return {"train": train_file.counts, "heldout": heldout_file.counts}, notes


def _write_train(
    settings: CorpusSettings,
    train: KeptDocuments,
    threshold: int,
    train_file: DocumentWriter,
    heldout_file: DocumentWriter,
) -> None:
    """Write the train split; documents with `split` below the threshold are held out."""
    train_thresholds = train.table.train_thresholds(_weights(settings, train, threshold), threshold)
    # After the first document that exceeds the limit, all others are dropped, also shorter ones:
    # the result is a prefix of the corpus without a limit.
    full = False
    for document in train.shuffle.documents():
        source, is_first = document.source, document.copy == 0
        text = decode_document(document.content)
        tally, size = train.tallies[source], len(text.encode())
        hashes = DocumentHashes.of(document.digest, train.settings.seed)
        if hashes.split < threshold:
            # A held-out document counts once, in the place that it has without a weight.
            if document.order == hashes.order:
                tally.keep("heldout", size)
                heldout_file.write(text, size)
            continue
        if hashes.select >= train_thresholds[source]:
            if is_first:
                tally.drop(Reason.share, size)
            continue
        full = full or (
            settings.limit is not None
            and not settings.limit.allows(train_file.documents + 1, train_file.bytes + size)
        )
        if full:
            if is_first:
                tally.drop(Reason.limit, size)
            continue
        if is_first:
            tally.keep("train", size)
        else:
            tally.repeat(size)
        train_file.write(text, size)


def _weights(settings: CorpusSettings, train: KeptDocuments, threshold: int) -> list[float] | None:
    """Return the weights of the sources, `None` if there are none.

    Raises `CorpusError` for a weighted source of which no text is left to train on: a share of
    nothing would leave nothing of the other sources.
    """
    weights = [source.weight for source in settings.sources if source.weight is not None]
    if not weights:
        return None
    for index, tally in enumerate(train.tallies):
        if tally.read[0] == sum(documents for documents, _ in tally.dropped.values()):
            raise CorpusError(_no_text_message([tally], f"sources.{index}"))
        if not train.table.has_training_text(index, threshold):
            msg = (
                f"sources.{index}: all usable documents of {tally.label} are held out, and its "
                "weight is a share of the training text; add text, split it (document_unit: "
                "paragraph), lower heldout_share, or set heldout"
            )
            raise CorpusError(msg)
    return weights


def write_heldout(
    settings: CorpusSettings,
    heldout: KeptDocuments,
    file: DocumentWriter,
    near_duplicates: NearDuplicates | None,
) -> set[bytes]:
    """Write the documents of held-out sources up to the limit, and return the digests of all.

    All are added to `near_duplicates`: what is named as held-out text is not trained on, whether
    this run measures it or not.
    """
    digests: set[bytes] = set()
    full = False
    for document in heldout.shuffle.documents():
        tally, text = heldout.tallies[document.source], decode_document(document.content)
        digests.add(document.digest)
        if near_duplicates is not None:
            near_duplicates.add(text, tally.label)
        size = len(text.encode())
        limit = settings.heldout_bytes
        full = full or (limit is not None and file.bytes + size > limit)
        if full:
            tally.drop(Reason.heldout_bytes, size)
            continue
        tally.keep("heldout", size)
        file.write(text, size)
    _check_not_empty(file.documents, heldout, "heldout")
    return digests


def _check_not_empty(documents: int, kept: KeptDocuments, field: str) -> None:
    if not documents:
        raise CorpusError(_no_text_message(kept.tallies, field))


def _no_text_message(tallies: list[Tally], field: str) -> str:
    """Return the message for sources without usable text, with the reasons of all drops."""
    places = ", ".join(tally.label for tally in tallies)
    if not any(tally.read[0] for tally in tallies):
        return f"{field}: {places} contains no document; name a source with text"
    drops = sum_drops(tallies).items()
    reasons = []
    for reason, counts in drops:
        documents = counts["documents"]
        reasons.append(f"{documents} {reason}")
    return (
        f"{field}: all documents of {places} are dropped ({', '.join(reasons)}); relax the "
        "settings that drop them"
    )
