"""From settings to a finished corpus in two passes.

The first pass reads and cleans every source once, and keeps what remains in a shuffle on disk. Then
all sizes are known, the thresholds of the splits are set, and the second pass writes the splits in
shuffled order.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lingraft.corpus.chat import as_bytes, from_bytes, normalised
from lingraft.corpus.cleaning import Cleaner, Reason, Tally, language_filter, sum_of_drops
from lingraft.corpus.config import CorpusSettings, Limit, Source
from lingraft.corpus.corpus import COUNTS, Counts, DocumentWriter
from lingraft.corpus.findings import Findings
from lingraft.corpus.language import parse_language
from lingraft.corpus.readers import read_source
from lingraft.corpus.splits import (
    EVERYTHING,
    DocumentHashes,
    Shuffle,
    ShuffledDocument,
    SplitTable,
)
from lingraft.errors import CorpusError
from lingraft.progress import progress
from lingraft.store import Draft


@dataclass
class Gathered:
    """The documents that pass cleaning: text in the shuffle, hashes and sizes in the table."""

    shuffle: Shuffle
    tallies: list[Tally]
    cleaner: Cleaner
    seed: int
    form: Literal["NFC", "NFKC"] | None = None
    table: SplitTable = field(default_factory=SplitTable)
    findings: Findings = field(default_factory=Findings)

    def take(self, source: int, text: str) -> DocumentHashes | None:
        """Keep or drop a document and count it; return its hashes where it is kept."""
        text = normalised(text, self.form) if self.form else text
        size, tally = len(text.encode()), self.tallies[source]
        tally.count(size)
        reason, digest = self.cleaner.filter(text)
        if reason is not None:
            tally.drop(reason, size)
            return None
        self.findings.look(text)
        hashes = DocumentHashes.of(digest, self.seed)
        self.shuffle.put(ShuffledDocument(hashes.order, source, digest, as_bytes(text)))
        self.table.add(source, hashes, size)
        return hashes


def build_corpus(settings: CorpusSettings, language: str, draft: Draft) -> None:
    """Write train.parquet, heldout.parquet and counts.json, and the drops into the notes.

    Raises `CorpusError` where text is missing, malformed or all dropped, `HubError` where a hub
    fails, `RecipeError` for an unknown language, and `MissingExtraError` for a language check
    without lingua.
    """
    language = parse_language(language)
    in_language = (
        language_filter(settings.language_check, language) if settings.language_check else None
    )
    with TemporaryDirectory(dir=draft.folder, prefix="shuffle-") as scratch:
        heldout = None
        if settings.heldout:
            cleaner = Cleaner(settings, in_language=in_language)
            heldout = _gather(
                _plain_texts(settings.heldout, language),
                cleaner,
                settings,
                Path(scratch, "heldout"),
            )
        cleaner = Cleaner(
            settings,
            in_language=in_language,
            heldout=heldout.cleaner.seen if heldout else frozenset(),
        )
        train = _gather(
            _bounded_texts(settings, language), cleaner, settings, Path(scratch, "train")
        )
        counts, notes = _write_splits(settings, train, heldout, draft)
    report = {split: asdict(count) for split, count in counts.items()}
    draft.note(report | notes)
    for warning in train.findings.warnings():
        draft.warn(f"text in {language}: {warning}")
    content = {"format": 1, "language": language, "splits": report, **notes}
    draft.path(COUNTS).write_text(
        json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"
    )


@dataclass(frozen=True)
class SourceTexts:
    """A source with its texts, and a limit on the kept train text that can be used of it."""

    label: str
    texts: Generator[str, None, None]
    needed: Limit | None = None


def _plain_texts(sources: Sequence[Source], language: str) -> list[SourceTexts]:
    return [SourceTexts(source.label, read_source(source, language)) for source in sources]


def _bounded_texts(settings: CorpusSettings, language: str) -> list[SourceTexts]:
    """Open the train sources; a streamed data set is read up to its share of the limit."""
    inputs = _plain_texts(settings.sources, language)
    if settings.limit is None:
        return inputs
    weights = sum(source.weight or 0 for source in settings.sources)
    for index, source in enumerate(settings.sources):
        if source.hub is not None and source.streaming:
            share = source.weight / weights if source.weight else 1
            size = settings.limit.bytes and max(1, round(settings.limit.bytes * share))
            needed = settings.limit.model_copy(update={"bytes": size})
            inputs[index] = replace(inputs[index], needed=needed)
    return inputs


def _gather(
    inputs: Sequence[SourceTexts], cleaner: Cleaner, settings: CorpusSettings, folder: Path
) -> Gathered:
    """Read and clean all sources."""
    gathered = Gathered(
        Shuffle(folder),
        [Tally(source.label) for source in inputs],
        cleaner,
        settings.seed,
        settings.unicode_normalization,
    )
    to_hold_out = int((settings.share or 0) * EVERYTHING)
    with gathered.shuffle, progress("reading text", unit="documents") as advance:
        for index, source in enumerate(inputs):
            documents = size = 0
            with closing(source.texts) as texts:
                for number, text in enumerate(texts, start=1):
                    hashes = gathered.take(index, text)
                    if hashes is not None:
                        _check_length(text, source.label, settings)
                    if number % 1000 == 0:
                        advance(1000)
                    if source.needed is None or hashes is None or hashes.split < to_hold_out:
                        continue
                    documents, size = documents + 1, size + len(text.encode())
                    if not source.needed.allows(documents, size):
                        gathered.tallies[index].stopped_early = True
                        break
    return gathered


def _check_length(text: str, label: str, settings: CorpusSettings) -> None:
    """Raise `CorpusError` where a document would take more memory to tokenise than is allowed."""
    size = len(text.encode()) if 4 * len(text) > settings.max_document_bytes else 0
    if size > settings.max_document_bytes:
        limit = f"{settings.max_document_bytes / 1e6:g} MB"
        msg = (
            f"{label}: a document of {size / 1e6:.1f} MB, which begins with {text[:40]!r}; "
            f"documents are tokenised whole, and max_document_bytes is {limit}; cut it "
            "(document_unit: paragraph or line), drop it (max_characters), or raise the limit"
        )
        raise CorpusError(msg)


def _write_splits(
    settings: CorpusSettings, train: Gathered, heldout: Gathered | None, draft: Draft
) -> tuple[dict[str, Counts], dict[str, Any]]:
    """Write both splits; return their counts and the notes."""
    _require(len(train.table), train, "sources")
    threshold = 0
    if heldout is None:
        if len(train.table) == 1:
            msg = (
                "sources: only one document is left, and one has to be held out; name more text, "
                "or "
                "set heldout"
            )
            raise CorpusError(msg)
        threshold = train.table.heldout_threshold(settings.share or 0, settings.heldout_bytes)
    chats = any(
        source.format == "chat" for source in (*settings.sources, *(settings.heldout or ()))
    )
    with (
        DocumentWriter(draft.path("train.parquet"), chats=chats) as train_file,
        DocumentWriter(draft.path("heldout.parquet"), chats=chats) as heldout_file,
    ):
        _write_train(settings, train, threshold, train_file, heldout_file)
        if heldout is not None:
            _write_heldout(settings, heldout, heldout_file)
            _require(heldout_file.documents, heldout, "heldout")
        _require(train_file.documents, train, "sources")
    groups = {"sources": train.tallies, "heldout_sources": heldout.tallies if heldout else []}
    notes: dict[str, Any] = {
        "dropped": sum_of_drops([tally for group in groups.values() for tally in group])
    }
    notes |= {name: [tally.report() for tally in group] for name, group in groups.items()}
    notes["findings"] = train.findings.notes()
    return {"train": train_file.counts, "heldout": heldout_file.counts}, notes


def _write_train(
    settings: CorpusSettings,
    train: Gathered,
    threshold: int,
    train_file: DocumentWriter,
    heldout_file: DocumentWriter,
) -> None:
    """Write the train split; documents with `split` below the threshold are held out."""
    used = train.table.train_thresholds(_weights(settings, train), threshold)
    full = False
    for _, source, digest, content in train.shuffle.documents():
        text = from_bytes(content)
        tally, size = train.tallies[source], len(text.encode())
        hashes = DocumentHashes.of(digest, train.seed)
        if hashes.split < threshold:
            tally.keep("heldout", size)
            heldout_file.write(text, size)
            continue
        if hashes.select >= used[source]:
            tally.drop(Reason.share, size)
            continue
        full = full or (
            settings.limit is not None
            and not settings.limit.allows(train_file.documents + 1, train_file.bytes + size)
        )
        if full:
            tally.drop(Reason.limit, size)
            continue
        tally.keep("train", size)
        train_file.write(text, size)


def _weights(settings: CorpusSettings, train: Gathered) -> list[float] | None:
    """Return the weights, or `None`.

    Raises `CorpusError` for a weighted source that has no text left.
    """
    weights = [source.weight for source in settings.sources if source.weight is not None]
    if not weights:
        return None
    for index, tally in enumerate(train.tallies):
        if tally.read[0] == sum(documents for documents, _ in tally.dropped.values()):
            raise CorpusError(_no_text_message([tally], f"sources.{index}"))
    return weights


def _write_heldout(settings: CorpusSettings, heldout: Gathered, file: DocumentWriter) -> None:
    full = False
    for _, source, _, content in heldout.shuffle.documents():
        text = from_bytes(content)
        size = len(text.encode())
        full = full or (
            settings.heldout_bytes is not None and file.bytes + size > settings.heldout_bytes
        )
        if full:
            heldout.tallies[source].drop(Reason.heldout_bytes, size)
        else:
            heldout.tallies[source].keep("heldout", size)
            file.write(text, size)


def _require(documents: int, gathered: Gathered, field: str) -> None:
    if not documents:
        raise CorpusError(_no_text_message(gathered.tallies, field))


def _no_text_message(tallies: list[Tally], field: str) -> str:
    """Return the message for sources that give no text, with the reasons of all drops."""
    read = sum(tally.read[0] for tally in tallies)
    places = ", ".join(tally.label for tally in tallies)
    if not read:
        return f"{field}: {places} holds no document"
    reasons = ", ".join(
        f"{cell['documents']} {reason}" for reason, cell in sum_of_drops(tallies).items()
    )
    return (
        f"{field}: none of the {read} documents of {places} is left: {reasons}; relax the settings "
        "that drop them"
    )
