"""The steps, the batch, the warm-up and the peak learning rates of phases, each with its reason.

A plan makes them from estimates, the trainer from counted sequences. Both print the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lingraft.formatting import counted
from lingraft.packing.config import PackingSettings
from lingraft.packing.epoch_limits import expected_sequences, sequence_tokens
from lingraft.packing.reading_plan import PhaseLength, TextAmount
from lingraft.strategies.base import Rates
from lingraft.training.batch_rule import batch_reason, few_steps_warning
from lingraft.training.config import Phase
from lingraft.training.schedules import MIN_WARMUP

Texts = tuple[Sequence[TextAmount], TextAmount | None]
"""The amounts of the target texts, and of the replay text if there is any."""


class CountedSteps(Protocol):
    """The steps of a phase: counted (`PhaseSteps`) or expected (`ExpectedSteps`)."""

    @property
    def sequences(self) -> int:
        """The number of sequences."""

    @property
    def sequences_per_step(self) -> int:
        """The number of sequences in each step but the last."""

    @property
    def sequence_tokens(self) -> int:
        """The mean tokens of a sequence."""

    @property
    def asked(self) -> float:
        """The sequences that the budget asks for, of which the last one may be a part."""

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""


@dataclass(frozen=True)
class ExpectedSteps:
    """The steps of a phase over an estimated amount of text."""

    sequences: int
    sequences_per_step: int
    sequence_tokens: int
    asked: float

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return -(-self.sequences // self.sequences_per_step)


@dataclass(frozen=True)
class PhaseOutline:
    """The steps of a phase, the tokens of each step, the warm-up and the rates, with reasons.

    `branches` describes the branches of a phase that has some. The warm-up is then that of each.
    `is_estimate` if the text was not counted, as in a plan.
    """

    steps: int
    tokens_per_step: int
    batch_why: str
    warmup_steps: int
    warmup_why: str
    rates: Rates
    branches: str = ""
    is_estimate: bool = False

    def notes(self) -> dict[str, Any]:
        """Return the entries of the manifest; `outline_of_notes` reads them."""
        return {
            "tokens_of_a_step": {"tokens": self.tokens_per_step, "why": self.batch_why},
            "warmup": {"steps": self.warmup_steps, "why": self.warmup_why},
            **({"branches": self.branches} if self.branches else {}),
            "learning_rates": {
                "body": self.rates.body,
                "added_rows": self.rates.added_rows,
                "why": self.rates.why,
            },
        }

    @property
    def line(self) -> str:
        """Everything in one line.

        >>> rates = Rates(6e-4, 6e-3, "as the recipe says")
        >>> PhaseOutline(400, 2048, "by size", 12, "3% of the steps", rates).line
        ... # doctest: +NORMALIZE_WHITESPACE
        '400 steps of 2,048 tokens (by size); warm-up 12 steps (3% of the steps); peak learning
        rates: body 0.0006, added rows 0.006 (as the recipe says)'
        """
        about = "about " if self.is_estimate else ""
        return (
            f"{about}{counted(self.steps, 'step')} of {self.tokens_per_step:,} tokens "
            f"({self.batch_why})"
            f"{f', in {self.branches}' if self.branches else ''}; "
            f"warm-up {counted(self.warmup_steps, 'step')}"
            f"{' of each branch' if self.branches else ''} ({self.warmup_why}); peak learning "
            f"rates: body {self.rates.body:g}, added rows {self.rates.added_rows:g} "
            f"({self.rates.why})"
        )


def outline_phase(phase: Phase, steps: CountedSteps, kind: str, parameters: int) -> PhaseOutline:
    """Return the outline of a phase of a model of type `kind` and of this size."""
    per_step, merging = steps.sequences_per_step, phase.branch_and_merge
    tokens = steps.sequence_tokens
    scheduled = phase.steps_of_schedule(steps.steps)
    return PhaseOutline(
        steps.steps,
        per_step * tokens,
        batch_reason(per_step, tokens, parameters, batch_tokens=phase.batch_tokens),
        phase.schedule.rise(scheduled),
        phase.schedule.rise_reason(scheduled),
        phase.rates(kind, parameters, tokens, per_step),
        # Without a step for each branch, there are none: `few_steps_lines` says so.
        merging.describe(steps.steps) if merging and scheduled else "",
        isinstance(steps, ExpectedSteps) and phase.budget.amount[0] != "steps",
    )


def outline_lines(outlines: Sequence[PhaseOutline]) -> list[str]:
    """Return a line for each phase, for a log or a plan."""
    if len(outlines) == 1:
        return [f"training: {outlines[0].line}"]
    return [f"training, phase {number + 1}: {one.line}" for number, one in enumerate(outlines)]


def outline_of_notes(notes: Mapping[str, Any]) -> PhaseOutline | None:
    """Return the outline in the notes of a phase; None if an earlier version wrote them.

    >>> outline = PhaseOutline(8, 512, "by size", 4, "at most half", Rates(6e-4, 6e-3))
    >>> outline_of_notes({"steps": 8, **outline.notes()}) == outline
    True
    """
    if "tokens_of_a_step" not in notes:
        return None
    batch, warmup = notes["tokens_of_a_step"], notes["warmup"]
    rates = Rates(**notes["learning_rates"])
    return PhaseOutline(
        notes["steps"],
        batch["tokens"],
        batch["why"],
        warmup["steps"],
        warmup["why"],
        rates,
        notes.get("branches", ""),
    )


def phase_lengths(
    phases: Sequence[Phase],
    replay_shares: Sequence[float],
    block: int,
    parameters: int,
    texts: Texts | None,
) -> list[PhaseLength]:
    """Return the lengths of phases, with a batch that leaves enough steps over all phases together.

    Phases whose budget is in steps have the batch by model size. Sequences have at most `block`
    tokens. `texts` is None if the amount of a text is not known.
    """
    lengths = []
    for phase, share in zip(phases, replay_shares, strict=True):
        tokens = sequence_tokens(block, *texts, share) if texts else block
        per_step = phase.sequences_per_step(tokens, parameters)
        lengths.append(PhaseLength(*phase.budget.amount, share, per_step, tokens))
    by_size = expected_steps(lengths, texts)
    if by_size is None:
        return lengths
    # One batch size for all phases: a phase over a tenth of the text has a tenth of the steps.
    total = 0
    for steps, length in zip(by_size, lengths, strict=True):
        total += 0 if length.unit == "steps" else steps.sequences
    chosen = []
    for phase, length in zip(phases, lengths, strict=True):
        expected = None if length.unit == "steps" else total
        per_step = phase.sequences_per_step(length.sequence_tokens, parameters, expected)
        chosen.append(replace(length, sequences_per_step=per_step))
    return chosen


def expected_steps(
    lengths: Sequence[PhaseLength], texts: Texts | None
) -> list[ExpectedSteps] | None:
    """Return about how many steps each phase has; None if that depends on an unknown amount."""
    if texts is not None:
        counts = expected_sequences(*texts, lengths)
    elif all(length.unit in {"tokens", "steps"} for length in lengths):
        counts = []
        for length in lengths:
            is_steps, per_step = length.unit == "steps", length.sequences_per_step
            counts.append(length.amount * (per_step if is_steps else 1 / length.sequence_tokens))
    else:
        return None
    steps: list[ExpectedSteps] = []
    so_far, before = 0.0, 0
    for count, length in zip(counts, lengths, strict=True):
        # A budget ends with the sequence that reaches it, and the next phase starts after that.
        so_far += count
        end = math.ceil(round(so_far, 6))
        sequences, per_step = max(1, end - before), length.sequences_per_step
        steps.append(ExpectedSteps(sequences, per_step, length.sequence_tokens, count))
        before = end
    return steps


def few_steps_lines(
    phases: Sequence[Phase], steps: Sequence[CountedSteps], packing: PackingSettings, block: int
) -> list[str]:
    """Return a warning if all phases together have few steps, or a phase's branches or warm-up do.

    They name the settings that give more, for sequences of at most `block` tokens.
    """
    few = few_steps_warning(
        sum(phase.steps for phase in steps),
        sum(phase.asked for phase in steps),
        steps[0].sequence_tokens if steps else block,
        [phase.budget.amount for phase in phases],
        # Documents would lose their ends.
        shortens=packing.layout == "stream",
        sets_batch=any(phase.batch_tokens for phase in phases),
    )
    lines = [few] if few else []
    for number, (phase, of_phase) in enumerate(zip(phases, steps, strict=True)):
        short = phase.branch_and_merge and phase.branch_and_merge.warning(of_phase.steps)
        lines += [short] if short else []
        scheduled = phase.steps_of_schedule(of_phase.steps)
        if setting := phase.schedule.short_warmup(scheduled):
            where = "training" if len(phases) == 1 else f"training.phases.{number}"
            rise = counted(phase.schedule.rise(scheduled), "step")
            lines.append(
                f"the warm-up has {rise} of {scheduled:,}; set {where}.{setting} for 1% of them, "
                f"and at least {MIN_WARMUP}"
            )
    return lines
