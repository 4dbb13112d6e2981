"""Build a corpus from its settings in two passes.

The first pass reads and filters every source once, and stores the kept documents in a shuffle on
disk. Then the size of each source is known, which determines the thresholds of the splits. The
second pass writes the splits in shuffled order. Both passes are done for the sources of held-out
text first, if there are any, because their documents are dropped from the training text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lingraft.corpus.chat import decode_document
from lingraft.corpus.cleaning import Cleaner, Reason, Tally, language_filter, sum_drops
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.corpus import Counts, DocumentWriter, write_counts
from lingraft.corpus.evaluation_sources import index_evaluation_text
from lingraft.corpus.health import NAMED_RECORDS, HealthReport, TextHealth
from lingraft.corpus.health_checks import refuse
from lingraft.corpus.hub_dataset import commit_of
from lingraft.corpus.kept_documents import KeptDocuments
from lingraft.corpus.language import parse_language
from lingraft.corpus.listing import Listing
from lingraft.corpus.near_duplicates import NearDuplicates
from lingraft.corpus.readers import read_documents
from lingraft.corpus.source import Limit, Source
from lingraft.corpus.splits import (
    HASH_RANGE,
    DocumentHashes,
    Shuffle,
)
from lingraft.corpus.text_repairs import add_counts
from lingraft.errors import CorpusError
from lingraft.progress import progress
from lingraft.store import Draft


def build_corpus(
    settings: CorpusSettings, language: str, draft: Draft, listing: Listing | None = None
) -> None:
    """Write train.parquet, heldout.parquet and counts.json, and report the drops in the notes.

    `listing` holds the files of the sources, by default as they are now.
    Raises `CorpusError` if text is missing, malformed or all dropped, `HubError` if a hub fails,
    `RecipeError` for an unknown language, and `MissingExtraError` for a language check without
    lingua and near-duplicates without rensa.
    """
    language = parse_language(language)
    settings = settings.resolve(language)
    listing = listing or Listing.of(settings.all_sources)
    check = settings.language_check
    in_language = language_filter(check, language) if check else None
    # In the draft's folder: its disk has to hold the corpus anyway, and the shuffle is as large as
    # the kept text.
    with (
        TemporaryDirectory(dir=draft.folder, prefix="shuffle-") as scratch,
        _near_duplicates(settings, Path(scratch, "shingles")) as near,
        _writer(settings, draft, "heldout") as heldout_file,
    ):
        # Held-out text is written first: its documents are dropped from the training text.
        heldout: KeptDocuments | None = None
        withheld: set[bytes] = set()
        if settings.heldout:
            heldout = _read_heldout(settings, language, listing, Path(scratch), in_language)
            _check_health("held-out text", heldout, settings, draft)
            withheld = _write_heldout(settings, heldout, heldout_file, near)
        evaluation = index_evaluation_text(settings, language, listing)
        train = _read_sources(
            settings.sources,
            Cleaner(settings, in_language=in_language, heldout=withheld, evaluation=evaluation),
            settings,
            language,
            listing=listing,
            folder=Path(scratch, "train"),
            near_duplicates=near,
            needed=_needed(settings),
        )
        health = _check_health("text", train, settings, draft)
        counts, notes = _write_splits(settings, train, heldout, draft, heldout_file)
    report = {split: asdict(count) for split, count in counts.items()}
    notes |= _health_notes(health, train, heldout)
    draft.note(report | notes | _commits(settings))
    scripts = {"scripts": list(settings.scripts)} if settings.scripts else {}
    write_counts(draft, language, report, notes | scripts)


def _near_duplicates(
    settings: CorpusSettings, path: Path
) -> AbstractContextManager[NearDuplicates | None]:
    threshold = settings.cleaning.near_duplicates if settings.cleaning else None
    return NearDuplicates(threshold, path) if threshold else nullcontext()


def _writer(settings: CorpusSettings, draft: Draft, split: str) -> DocumentWriter:
    all_sources = (*settings.sources, *(settings.heldout or ()))
    chats = any(source.format == "chat" for source in all_sources)
    return DocumentWriter(draft.path(f"{split}.parquet"), chats=chats)


def _check_health(
    what: str, kept: KeptDocuments, settings: CorpusSettings, draft: Draft
) -> HealthReport:
    """Return the health of text, and warn of it; raises `CorpusError` if it refuses the text."""
    health = kept.health.report()
    refuse(health.findings, f"{what} in {health.language}", settings.allow)
    for warning in [*_malformed_warning(what, kept), *health.warnings(what)]:
        draft.warn(warning)
    return health


def _health_notes(
    health: HealthReport, train: KeptDocuments, heldout: KeptDocuments | None
) -> dict[str, Any]:
    """Return the notes about the kept training text, and about what was changed in all text."""
    notes: dict[str, Any] = {"health": health.as_json()}
    repairs = [kept.repairs.counts() for kept in (train, heldout) if kept]
    if changed := add_counts(*repairs):
        notes["changed"] = changed
    examples = [kept.near_duplicate for kept in (train, heldout) if kept and kept.near_duplicate]
    if examples:
        notes["near_duplicates"] = examples[0]
    if train.weights.weighted:
        notes["weights"] = asdict(train.weights)
    if train.malformed:  # only crawls have such records
        notes["malformed records"] = train.malformed[:NAMED_RECORDS]
    return notes


def _malformed_warning(what: str, kept: KeptDocuments) -> list[str]:
    if not kept.malformed:
        return []
    first = "; ".join(kept.malformed[:NAMED_RECORDS])
    where, count = f"{what} in {kept.health.language}", f"{len(kept.malformed):,}"
    return [f"{where}: malformed records are left out: {count}; the first: {first}"]


def _commits(settings: CorpusSettings) -> dict[str, dict[str, str]]:
    """Return the note of the commits of the hub data sets that were read, if there are any."""
    commits = {}
    for source in settings.all_sources:
        if source.hub is not None:
            commits[f"{source.hub}@{source.revision or 'main'}"] = commit_of(source)
    return {"commits": commits} if commits else {}


def _needed(settings: CorpusSettings) -> list[Limit | None]:
    """Return the limit of each training source: of a streamed one, its share of the limit."""
    total_weight = sum(source.weight or 0 for source in settings.sources)
    needed: list[Limit | None] = []
    for source in settings.sources:
        if settings.limit is None or not source.is_streamed:
            needed.append(None)
            continue
        share = source.weight / total_weight if source.weight else 1
        size = settings.limit.bytes and max(1, round(settings.limit.bytes * share))
        needed.append(settings.limit.model_copy(update={"bytes": size}))
    return needed


def _read_heldout(
    settings: CorpusSettings,
    language: str,
    listing: Listing,
    scratch: Path,
    in_language: Callable[[str], bool] | None,
) -> KeptDocuments:
    """Read and filter the held-out sources."""
    with _near_duplicates(settings, scratch / "heldout-shingles") as near:
        return _read_sources(
            settings.heldout or (),
            Cleaner(settings, in_language=in_language),
            settings,
            language,
            listing=listing,
            folder=scratch / "heldout",
            near_duplicates=near,
        )


def _read_sources(
    sources: Sequence[Source],
    cleaner: Cleaner,
    settings: CorpusSettings,
    language: str,
    *,
    listing: Listing,
    folder: Path,
    near_duplicates: NearDuplicates | None,
    needed: Sequence[Limit | None] = (),
) -> KeptDocuments:
    """Read and filter sources; each is read until its kept training text exceeds `needed`."""
    kept = KeptDocuments(
        Shuffle(folder),
        [Tally(source.label) for source in sources],
        cleaner,
        settings,
        settings.repairs(language),
        # The language of generated stories is known, and identifying it takes a second.
        TextHealth(
            language,
            identify=any(not source.miniature for source in sources),
            scripts=settings.scripts,
        ),
        [source.document_weight for source in sources],
        near_duplicates,
        0 if near_duplicates is None else len(near_duplicates),
    )
    heldout_threshold = int((settings.share or 0) * HASH_RANGE)
    with kept.shuffle, progress("reading text", unit="documents") as advance:
        for index, source in enumerate(sources):
            limit = needed[index] if needed else None
            documents = size = 0
            # Closing the generator ends a download that is not read to its end.
            with closing(read_documents(source, language, listing)) as stream:
                for number, document in enumerate(stream, start=1):
                    added = kept.add(index, document)
                    if number % 1000 == 0:
                        advance(1000)
                    if limit is None or added is None:
                        continue
                    if added.hashes.split < heldout_threshold:
                        continue  # only training text counts towards the limit
                    documents, size = documents + added.copies, size + added.size * added.copies
                    if not limit.allows(documents, size):
                        kept.tallies[index].stopped_early = True
                        break
    return kept


def _write_splits(
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
    with _writer(settings, draft, "train") as train_file:
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
    train_thresholds = train.table.train_thresholds(_weights(settings, train), threshold)
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


def _weights(settings: CorpusSettings, train: KeptDocuments) -> list[float] | None:
    """Return the weights of the sources, `None` if there are none.

    Raises `CorpusError` for a weighted source of which no text is left.
    """
    weights = [source.weight for source in settings.sources if source.weight is not None]
    if not weights:
        return None
    for index, tally in enumerate(train.tallies):
        if tally.read[0] == sum(documents for documents, _ in tally.dropped.values()):
            raise CorpusError(_no_text_message([tally], f"sources.{index}"))
    return weights


def _write_heldout(
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
