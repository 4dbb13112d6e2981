"""The texts of a training, the share and the epochs of each, and the steps of each phase.

Shares follow from the limits of epochs (`packing.epoch_limits`), which need expected amounts only.
The sequences of a phase are then counted exactly. No step has two epochs of one document: where a
text is read more than once, its order depends on how many of its sequences a step can have, and
where there is no such order, its share is lowered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.packing.epoch_limits import lead_text, plan_reading
from lingraft.packing.epoch_order import EpochOrder
from lingraft.packing.mixture import Batch, Mixture
from lingraft.packing.reading_plan import PhaseLength, ReadingPlan, TextAmount

CHUNK = 65536
"""Sequences that are measured at a time, at most, to find where a budget ends."""

MIN_EPOCHS = 1e-6
"""Share of a text below which its place is not given to others: then all texts are too small."""


@dataclass(frozen=True)
class TextSource:
    """Packed text in one language, its share of the bytes, and how often it may be read.

    `share` is relative to the other target texts; for replay it is the share of all text.
    """

    blocks: Blocks
    name: str = "text"
    share: float = 1.0
    max_epochs: float | None = None

    def amount(self) -> TextAmount:
        """Return the counts of the text."""
        summary = self.blocks.summary
        counts = (summary.bytes, summary.tokens, summary.documents, summary.rows)
        return TextAmount(self.name, *counts, self.share, self.max_epochs)


@dataclass(frozen=True)
class TrainingText:
    """Packed target texts, and packed replay text.

    With `keeps_epochs_apart`, no optimizer step has two epochs of a document.
    """

    targets: tuple[TextSource, ...]
    replay: TextSource | None = None
    keeps_epochs_apart: bool = False

    @classmethod
    def of(cls, target: Blocks, replay: Blocks | None = None, share: float = 0.0) -> TrainingText:
        """Return texts that are read as often as the budget asks for."""
        replayed = TextSource(replay, "replay", share) if replay is not None else None
        return cls((TextSource(target),), replayed)

    @property
    def target(self) -> Blocks:
        """The first target text. All texts are packed in the same way."""
        return self.targets[0].blocks

    @property
    def sources(self) -> tuple[TextSource, ...]:
        """All texts: the targets, then replay."""
        return (*self.targets, *([self.replay] if self.replay else []))

    def epochs(self, sequences: Sequence[int]) -> dict[str, float]:
        """Return how often each text is read with so many sequences of each, by its name."""
        epochs = {}
        for source, count in zip(self.sources, sequences, strict=True):
            epochs[source.name] = round(count / len(source.blocks), 4)
        return epochs


@dataclass(frozen=True)
class PhaseSteps:
    """The steps of a phase: `sequences` in all, `sequences_per_step` in each step but the last.

    `sequence_tokens` is the mean length of a sequence, `reached` what the phase reads, in the unit
    of its budget. `asked` are the sequences that the budget asks for, with a part of the last one.
    """

    mixture: Mixture
    sequences: int
    sequences_per_step: int
    sequence_tokens: int
    reached: float
    asked: float

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return math.ceil(self.sequences / self.sequences_per_step)

    def epochs(self, text: TrainingText) -> dict[str, float]:
        """Return how often this phase reads each text, by its name."""
        return text.epochs(self.mixture.counts(self.sequences))

    def batch(self, step: int) -> Batch:
        """Return the sequences of a step (from 0)."""
        first = step * self.sequences_per_step
        return self.mixture.batch(first, min(self.sequences_per_step, self.sequences - first))


@dataclass(frozen=True)
class TrainingSteps:
    """The steps of all phases, and one line for each text that is not read as the recipe says."""

    phases: tuple[PhaseSteps, ...]
    warnings: tuple[str, ...] = ()

    def epochs(self, text: TrainingText) -> dict[str, float]:
        """Return how often each text is read, by its name."""
        if not self.phases:
            return {source.name: 0.0 for source in text.sources}
        used = self.phases[-1].mixture.offsets_after(self.phases[-1].sequences)
        return text.epochs(used)


def plan_steps(text: TrainingText, phases: Sequence[PhaseLength], seed: int) -> TrainingSteps:
    """Return the steps of phases.

    Raises `RecipeError` if the target texts are too small for steps without two epochs of a
    document.
    """
    if not phases:
        return TrainingSteps(())
    targets = [source.amount() for source in text.targets]
    replay = text.replay.amount() if text.replay else None
    # The number of epochs of this text is set by a budget, not by its share.
    set_by_budget = lead_text(targets) if any(one.unit == "epochs" for one in phases) else None
    while True:
        reading = plan_reading(targets, replay, phases)
        mixture = _mixture(text, reading, seed)
        counted = _count(mixture, reading, phases)
        windows = _windows(counted) if text.keeps_epochs_apart else ()
        small = _too_small(counted, windows)
        if small is None:
            break
        # Fewer of its sequences in a step leave more choice, down to one, which always fits.
        if small == len(targets) and replay is not None and reading.replay is not None:
            replay = replace(replay, separable_epochs=reading.replay.epochs / 2)
        elif (
            len(targets) == 1
            or small == set_by_budget
            or targets[small].separable_epochs < MIN_EPOCHS
        ):
            raise RecipeError(_too_small_message(text.targets[small], counted, small))
        else:
            # Where all texts pass their limits, it is the limits that decide the shares.
            limit = targets[small].limit() / targets[small].bytes
            less = min(reading.targets[small].epochs, limit) / 2
            targets[small] = replace(targets[small], separable_epochs=less)
    if windows:
        counted = _count(mixture.with_windows(windows), reading, phases, counted)
    return TrainingSteps(tuple(counted), tuple(reading.warnings))


def _mixture(text: TrainingText, reading: ReadingPlan, seed: int) -> Mixture:
    """Return the mixture of texts with these shares, in orders that are independent."""
    targets = [
        (source.blocks, share) for source, share in zip(text.targets, reading.shares, strict=True)
    ]
    return Mixture.of(targets, text.replay.blocks if text.replay else None, seed=seed)


def _count(
    mixture: Mixture,
    reading: ReadingPlan,
    lengths: Sequence[PhaseLength],
    expected: Sequence[PhaseSteps] = (),
) -> list[PhaseSteps]:
    """Return the steps of each phase; `expected` are about those steps, where they are known.

    The sum of the budgets of a unit is rounded up, not each of them: phases of parts of a budget
    read what one phase would, and an epoch in parts reads no text twice.
    """
    lead = lead_text([source.text for source in reading.targets])
    phases: list[PhaseSteps] = []
    left: dict[str, float] = {}
    for number, length in enumerate(lengths):
        left[length.unit] = left.get(length.unit, 0) + length.amount
        offsets = phases[-1].mixture.offsets_after(phases[-1].sequences) if phases else ()
        share = reading.replay_share(length.replay_share)
        of_phase = mixture.with_replay(share, offsets)
        about = expected[number].sequences if expected else None
        due = replace(length, amount=left[length.unit])
        phases.append(phase_steps(of_phase, due, lead, about))
        left[length.unit] -= phases[-1].reached
    return phases


def phase_steps(
    mixture: Mixture, length: PhaseLength, lead: int = 0, expected: int | None = None
) -> PhaseSteps:
    """Return the phase with the smallest number of sequences, at least 1, that reaches the budget.

    Epochs are those of the target text `lead`. Without `expected`, a guess of the number, more
    epochs of a small text may be ordered than the phase reads.
    """
    unit, amount = length.unit, length.amount
    per_step, of_sequence = length.sequences_per_step, length.sequence_tokens
    if unit == "steps":
        count = int(amount) * per_step
        return PhaseSteps(mixture, count, per_step, of_sequence, amount, count)
    of_unit = len(mixture.targets[lead].blocks) if unit == "epochs" else 1
    # Rounded, because a tenth and nine tenths of 3 epochs are a little more than 3.
    amount = max(1, math.ceil(round(amount * of_unit, 6)))
    # Sequences differ in tokens, bytes and documents, so they are counted to the end of the budget.
    first, reached = 0, 0
    for count in _chunks(expected, per_step):
        measures = mixture.measures(first, count)
        target = mixture.is_target(measures[:, 0])
        each = {
            "tokens": measures[:, 1],
            "bytes": measures[:, 2] * target,
            "documents": measures[:, 3] * target,
            "epochs": (measures[:, 0] == lead).astype(np.int64),
        }[unit]
        sums = reached + np.cumsum(each)
        if sums[-1] >= amount:
            last = int(np.searchsorted(sums, amount))
            total, read = first + last + 1, float(sums[last])
            asked = total * amount / read
            return PhaseSteps(mixture, total, per_step, of_sequence, read / of_unit, asked)
        first, reached = first + count, int(sums[-1])
    raise AssertionError  # `_chunks` does not end


def _chunks(expected: int | None, per_step: int) -> Iterator[int]:
    """Yield the numbers of sequences that are measured at a time."""
    if expected is None:
        # Few at first, because every epoch of a small text is ordered.
        count = per_step
        while True:
            yield count
            count = min(2 * count, CHUNK)
    for first in range(0, expected, CHUNK):
        yield min(CHUNK, expected - first)
    yield from repeat(per_step)


def _windows(phases: Sequence[PhaseSteps]) -> tuple[int, ...]:
    """Return how many sequences of each text a step can have; () if no text is read twice."""
    last = phases[-1]
    used = last.mixture.offsets_after(last.sequences)
    texts = last.mixture.texts
    if all(count <= len(text.blocks) for text, count in zip(texts, used, strict=True)):
        return ()
    of_phases = [phase.mixture.windows(phase.sequences_per_step) for phase in phases]
    return tuple(map(max, zip(*of_phases, strict=True)))


def _too_small(phases: Sequence[PhaseSteps], windows: Sequence[int]) -> int | None:
    """Return a text that is too small for steps without two epochs of a document, if any is."""
    last = phases[-1]
    used = last.mixture.offsets_after(last.sequences)
    for index, window in enumerate(windows):
        order = last.mixture.texts[index].order
        epochs = math.ceil(used[index] / len(order.blocks))
        if not EpochOrder(order.blocks, window, *order.seeds).separates(epochs):
            return index
    return None


def _too_small_message(source: TextSource, phases: Sequence[PhaseSteps], index: int) -> str:
    """Return the error for a text whose place no other text can take."""
    last, blocks = phases[-1], source.blocks
    order = last.mixture.targets[index].order
    epochs = math.ceil(last.mixture.offsets_after(last.sequences)[index] / len(blocks))
    per_step = max(phase.sequences_per_step for phase in phases)
    fitting, of_sequence = per_step, last.sequence_tokens
    while fitting > 1 and not EpochOrder(blocks, fitting, *order.seeds).separates(epochs):
        fitting //= 2
    return (
        f"text in {source.name}: {blocks.summary.documents:,} documents in {len(blocks):,} "
        f"sequences are so few that a step of {per_step:,} sequences would have two epochs of one "
        f"document; set training.batch_tokens: {fitting * of_sequence}, train for at most "
        "1 epoch, or give more or shorter documents"
    )
