"""The data of a hand-over: training text and held-out text in the forms that an engine reads.

The text and its order are those of lingraft's loop. Held-out text is the text that evaluation
scores, packed like training text, and in files of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.corpus import Corpus
from lingraft.corpus.corpus import MULTIPLE_LANGUAGES
from lingraft.packing.blocks import Blocks
from lingraft.progress import progress
from lingraft.trainers.indexed_files import write_indexed
from lingraft.trainers.manifest import DataKind, DataRecord, PlanRecord, TextRole
from lingraft.trainers.plain_text import TextMixture, write_text
from lingraft.trainers.sequences import (
    SequenceColumns,
    mixed_sequences,
    stored_sequences,
    write_sequences,
)
from lingraft.training.phase_steps import PhaseSteps, TrainingText


@dataclass(frozen=True)
class HeldoutText:
    """Held-out documents of one language, and the same documents packed.

    `text` is the role of the language in training.
    """

    language: str
    text: TextRole
    documents: Sequence[str]
    blocks: Blocks


@dataclass(frozen=True)
class HandoverText:
    """What data is written from: packed text, its phases, and the corpora that it was packed from.

    `vocabulary` is the number of ids of the tokenizer. `targets` are the corpora of the target
    languages; `replay` is None if nothing is replayed.
    """

    packed: TrainingText
    phases: Sequence[PhaseSteps]
    plan: PlanRecord
    targets: Sequence[Corpus]
    replay: Corpus | None
    heldout: Sequence[HeldoutText]
    vocabulary: int

    @property
    def corpora(self) -> list[Corpus]:
        """The corpora of training: target text, then replay."""
        return [*self.targets, *([self.replay] if self.replay else [])]

    @property
    def language(self) -> str:
        """The language of all target text."""
        return self.targets[0].language if len(self.targets) == 1 else MULTIPLE_LANGUAGES


def write_data(
    text: HandoverText, kinds: Collection[DataKind], folder: Path, columns: SequenceColumns
) -> list[DataRecord]:
    """Write the data in these forms into `folder/data`; return their records.

    `columns` are those of `sequences`.
    """
    records: list[DataRecord] = []
    with progress("writing the training data"):
        if "sequences" in kinds:
            records += _write_sequences(text, folder, columns)
        if "megatron" in kinds:
            records += _write_megatron(text, folder)
        if "text" in kinds:
            records += _write_text(text, folder)
    return records


def train_names(phases: int) -> list[str]:
    """Return the name of the training data of each phase.

    >>> train_names(1), train_names(2)
    (['train'], ['train-1', 'train-2'])
    """
    return ["train"] if phases == 1 else [f"train-{number + 1}" for number in range(phases)]


def heldout_name(language: str) -> str:
    """Return the name of the held-out data of a language; `domain:law` has no colon in it."""
    return f"heldout-{language.replace(':', '-')}"


def _write_sequences(
    text: HandoverText, folder: Path, columns: SequenceColumns
) -> Iterator[DataRecord]:
    packed = text.packed.target
    for number, name in enumerate(train_names(len(text.phases))):
        steps, path = text.phases[number], f"data/sequences/{name}"
        rows = mixed_sequences(steps.mixture, steps.sequences)
        yield DataRecord(
            path=path,
            kind="sequences",
            use="train",
            language=text.language,
            text="mixture",
            phase=number,
            bytes=text.plan.phases[number].bytes,
            sequences=steps.sequences,
            tokens=write_sequences(rows, steps.sequences, packed, folder / path, columns),
            columns=columns.names,
        )
    for heldout in text.heldout:
        path, blocks = f"data/sequences/{heldout_name(heldout.language)}", heldout.blocks
        rows = stored_sequences(blocks)
        yield DataRecord(
            path=path,
            kind="sequences",
            use="heldout",
            language=heldout.language,
            text=heldout.text,
            bytes=blocks.summary.bytes,
            documents=blocks.summary.documents,
            sequences=len(blocks),
            tokens=write_sequences(rows, len(blocks), blocks, folder / path, columns),
            columns=columns.names,
        )


def _write_megatron(text: HandoverText, folder: Path) -> Iterator[DataRecord]:
    for index, source in enumerate(text.packed.sources):
        weights = tuple(steps.mixture.rates[index] for steps in text.phases)
        role: TextRole = "replay" if source is text.packed.replay else "target"
        name: str = role
        if role == "target" and len(text.targets) > 1:
            name = f"target-{source.name.replace(':', '-')}"
        written = _indexed(source.blocks, text.vocabulary, folder, f"data/megatron/{name}")
        yield replace(written, language=source.name, text=role, weights=weights)
    for heldout in text.heldout:
        path = f"data/megatron/{heldout_name(heldout.language)}"
        written = _indexed(heldout.blocks, text.vocabulary, folder, path)
        yield replace(written, language=heldout.language, text=heldout.text, use="heldout")


def _indexed(blocks: Blocks, vocabulary: int, folder: Path, path: str) -> DataRecord:
    """Write packed text in Megatron-LM's format; return its record as that of target text."""
    counts = write_indexed(blocks, vocabulary, folder / path)
    return DataRecord(
        path=path,
        kind="megatron",
        use="train",
        language="",
        text="target",
        bytes=blocks.summary.bytes,
        documents=counts.documents,
        tokens=counts.tokens,
        dtype=counts.dtype,
    )


def _write_text(text: HandoverText, folder: Path) -> Iterator[DataRecord]:
    mixture = TextMixture({corpus.language: corpus for corpus in text.corpora})
    for number, name in enumerate(train_names(len(text.phases))):
        phase = text.plan.phases[number]
        path = f"data/text/{name}.jsonl"
        documents = mixture.documents(phase.text_bytes)
        counts = write_text(documents, folder / path)
        yield DataRecord(
            path=path,
            kind="text",
            use="train",
            language=text.language,
            text="mixture",
            phase=number,
            bytes=counts.bytes,
            documents=counts.documents,
        )
    for heldout in text.heldout:
        path = f"data/text/{heldout_name(heldout.language)}.jsonl"
        counts = write_text(heldout.documents, folder / path)
        yield DataRecord(
            path=path,
            kind="text",
            use="heldout",
            language=heldout.language,
            text=heldout.text,
            bytes=counts.bytes,
            documents=counts.documents,
        )
