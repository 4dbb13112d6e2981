"""From settings to a finished corpus: read and clean, then draw and write.

The first pass reads every source once, drops what is to be dropped, and keeps the rest in a shuffle on disk. Then
all sizes are known, the draw is made, and the second pass writes the splits in shuffled order.
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
from lingraft.corpus.cleaning import Cleaner, Reason, Tally, sum_of_drops
from lingraft.corpus.config import CorpusSettings, Limit, Source
from lingraft.corpus.corpus import COUNTS, Counts, DocumentWriter
from lingraft.corpus.findings import Findings
from lingraft.corpus.language import parse_language
from lingraft.corpus.language_check import language_judge
from lingraft.corpus.readers import read_source
from lingraft.corpus.shuffling import Kept, Shuffle
from lingraft.corpus.splits import EVERYTHING, Ledger, Lots
from lingraft.errors import CorpusError
from lingraft.progress import progress
from lingraft.store import Draft


@dataclass
class Gathered:
    """The documents that survive cleaning: their text in the shuffle, their numbers in the ledger."""

    shuffle: Shuffle
    tallies: list[Tally]
    cleaner: Cleaner
    seed: int
    form: Literal["NFC", "NFKC"] | None = None
    ledger: Ledger = field(default_factory=Ledger)
    findings: Findings = field(default_factory=Findings)

    def take(self, source: int, text: str) -> Lots | None:
        """Keep or drop a document, counted either way; return its numbers where it is kept."""
        text = normalised(text, self.form) if self.form else text
        size, tally = len(text.encode()), self.tallies[source]
        tally.count(size)
        reason, digest = self.cleaner.judge(text)
        if reason is not None:
            tally.drop(reason, size)
            return None
        self.findings.look(text)
        lots = Lots.of(digest, self.seed)
        self.shuffle.put(Kept(lots.order, source, digest, as_bytes(text)))
        self.ledger.add(source, lots, size)
        return lots


def build_corpus(settings: CorpusSettings, language: str, draft: Draft) -> None:
    """Write train.parquet, heldout.parquet and counts.json into the draft, and what was dropped into its notes.

    Raises `CorpusError` where text is missing, malformed or all dropped, `HubError` where a hub fails,
    `RecipeError` for a language that is none, and `MissingExtraError` for a language check without lingua.
    """
    language = parse_language(language)
    in_language = language_judge(settings.language_check, language) if settings.language_check else None
    with TemporaryDirectory(dir=draft.folder, prefix="shuffle-") as scratch:
        heldout = None
        if settings.heldout:
            cleaner = Cleaner(settings, in_language=in_language)
            heldout = _gather(_plain_texts(settings.heldout, language), cleaner, settings, Path(scratch, "heldout"))
        cleaner = Cleaner(settings, in_language=in_language, heldout=heldout.cleaner.seen if heldout else frozenset())
        train = _gather(_bounded_texts(settings, language), cleaner, settings, Path(scratch, "train"))
        counts, notes = _draw(settings, train, heldout, draft)
    report = {split: asdict(count) for split, count in counts.items()}
    draft.note(report | notes)
    for warning in train.findings.warnings():
        draft.warn(f"text in {language}: {warning}")
    content = {"format": 1, "language": language, "splits": report, **notes}
    draft.path(COUNTS).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True)
class Input:
    """A source with its texts, and how much kept train text of it is all that can be used."""

    label: str
    texts: Generator[str, None, None]
    suffices: Limit | None = None


def _plain_texts(sources: Sequence[Source], language: str) -> list[Input]:
    return [Input(source.label, read_source(source, language)) for source in sources]


def _bounded_texts(settings: CorpusSettings, language: str) -> list[Input]:
    """Open the train sources: a streamed hub data set is read no further than its share of the limit."""
    inputs = _plain_texts(settings.sources, language)
    if settings.limit is None:
        return inputs
    weights = sum(source.weight or 0 for source in settings.sources)
    for index, source in enumerate(settings.sources):
        if source.hub is not None and source.streaming:
            share = source.weight / weights if source.weight else 1
            size = settings.limit.bytes and max(1, round(settings.limit.bytes * share))
            suffices = settings.limit.model_copy(update={"bytes": size})
            inputs[index] = replace(inputs[index], suffices=suffices)
    return inputs


def _gather(inputs: Sequence[Input], cleaner: Cleaner, settings: CorpusSettings, folder: Path) -> Gathered:
    """Read and clean all sources."""
    gathered = Gathered(Shuffle(folder), [Tally(source.label) for source in inputs], cleaner, settings.seed,
                        settings.unicode_normalization)
    to_hold_out = int((settings.share or 0) * EVERYTHING)
    with gathered.shuffle, progress("reading text", unit="documents") as advance:
        for index, source in enumerate(inputs):
            documents = size = 0
            with closing(source.texts) as texts:
                for number, text in enumerate(texts, start=1):
                    lots = gathered.take(index, text)
                    if lots is not None:
                        _check_length(text, source.label, settings)
                    if number % 1000 == 0:
                        advance(1000)
                    if source.suffices is None or lots is None or lots.split < to_hold_out:
                        continue
                    documents, size = documents + 1, size + len(text.encode())
                    if not source.suffices.allows(documents, size):
                        gathered.tallies[index].stopped_early = True
                        break
    return gathered


def _check_length(text: str, label: str, settings: CorpusSettings) -> None:
    """Raise `CorpusError` where a document would take more memory to tokenise than is allowed."""
    size = len(text.encode()) if 4 * len(text) > settings.max_document_bytes else 0
    if size > settings.max_document_bytes:
        most = f"{settings.max_document_bytes / 1e6:g} MB"
        msg = (f"{label}: a document of {size / 1e6:.1f} MB, which begins with {text[:40]!r}; documents are tokenised "
               f"whole, so no more than max_document_bytes: {most} are taken: cut it "
               f"(document_unit: paragraph or line), "
               f"drop it (max_characters), or raise max_document_bytes")
        raise CorpusError(msg)


def _draw(settings: CorpusSettings, train: Gathered, heldout: Gathered | None,
          draft: Draft) -> tuple[dict[str, Counts], dict[str, Any]]:
    """Write both splits; return their counts and the notes."""
    _require(len(train.ledger) > 0, train, "sources")
    threshold = 0
    if heldout is None:
        if len(train.ledger) == 1:
            msg = "sources: only one document is left, and one has to be held out; name more text, or heldout"
            raise CorpusError(msg)
        threshold = train.ledger.heldout_threshold(settings.share or 0, settings.heldout_bytes)
    chats = any(source.format == "chat" for source in (*settings.sources, *(settings.heldout or ())))
    with (DocumentWriter(draft.path("train.parquet"), chats=chats) as train_file,
          DocumentWriter(draft.path("heldout.parquet"), chats=chats) as heldout_file):
        _write_train(settings, train, threshold, train_file, heldout_file)
        if heldout is not None:
            _write_heldout(settings, heldout, heldout_file)
            _require(heldout_file.documents > 0, heldout, "heldout")
        _require(train_file.documents > 0, train, "sources")
    groups = {"sources": train.tallies, "heldout_sources": heldout.tallies if heldout else []}
    notes: dict[str, Any] = {"dropped": sum_of_drops([tally for group in groups.values() for tally in group])}
    notes |= {name: [tally.report() for tally in group] for name, group in groups.items()}
    notes["findings"] = train.findings.notes()
    return {"train": train_file.counts, "heldout": heldout_file.counts}, notes


def _write_train(settings: CorpusSettings, train: Gathered, threshold: int, train_file: DocumentWriter,
                 heldout_file: DocumentWriter) -> None:
    """Write the train split, and the documents whose `split` number is below the threshold as held-out."""
    used = train.ledger.train_thresholds(_weights(settings, train), threshold)
    full = False
    for _, source, digest, content in train.shuffle.documents():
        text = from_bytes(content)
        tally, size, lots = train.tallies[source], len(text.encode()), Lots.of(digest, train.seed)
        if lots.split < threshold:
            tally.keep("heldout", size)
            heldout_file.write(text, size)
            continue
        if lots.select >= used[source]:
            tally.drop(Reason.share, size)
            continue
        full = full or (settings.limit is not None and not settings.limit.allows(
            train_file.documents + 1, train_file.bytes + size))
        if full:
            tally.drop(Reason.limit, size)
            continue
        tally.keep("train", size)
        train_file.write(text, size)


def _weights(settings: CorpusSettings, train: Gathered) -> list[float] | None:
    """Return the weights, `None` without any; a source of which nothing is left could have no share."""
    weights = [source.weight for source in settings.sources if source.weight is not None]
    if not weights:
        return None
    for index, tally in enumerate(train.tallies):
        if tally.read[0] == sum(documents for documents, _ in tally.dropped.values()):
            raise CorpusError(_nothing_left([tally], f"sources.{index}"))
    return weights


def _write_heldout(settings: CorpusSettings, heldout: Gathered, file: DocumentWriter) -> None:
    full = False
    for _, source, _, content in heldout.shuffle.documents():
        text = from_bytes(content)
        size = len(text.encode())
        full = full or (settings.heldout_bytes is not None and file.bytes + size > settings.heldout_bytes)
        if full:
            heldout.tallies[source].drop(Reason.heldout_bytes, size)
        else:
            heldout.tallies[source].keep("heldout", size)
            file.write(text, size)


def _require(there_is_text: bool, gathered: Gathered, field: str) -> None:  # noqa: FBT001 - a guard, not a mode
    if not there_is_text:
        raise CorpusError(_nothing_left(gathered.tallies, field))


def _nothing_left(tallies: list[Tally], field: str) -> str:
    """Say that sources have given nothing, with all the reasons."""
    read = sum(tally.read[0] for tally in tallies)
    places = ", ".join(tally.label for tally in tallies)
    if not read:
        return f"{field}: {places} holds no document"
    reasons = ", ".join(f"{cell['documents']} {reason}" for reason, cell in sum_of_drops(tallies).items())
    return f"{field}: none of the {read} documents of {places} is left: {reasons}; loosen what drops them"
