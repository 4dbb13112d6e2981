"""A training job: the arguments of `train`, and the steps of each phase that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Batch, Mixture, StreamOffsets
from lingraft.store import digest
from lingraft.training.budget import Budget
from lingraft.training.config import TrainingPlan
from lingraft.training.execution import Execution

Heldout = Callable[[Any], Mapping[str, float]]
"""Measures a model on held-out text and returns language -> bits per byte."""

CHUNK = 65536
"""Sequences that are measured at a time to find where a budget ends."""


@dataclass(frozen=True)
class TrainingText:
    """Packed target text, packed replay text, and the share of bytes that are replayed."""

    target: Blocks
    replay: Blocks | None = None
    share: float = 0.0


@dataclass(frozen=True)
class PhaseSteps:
    """The steps of a phase: `sequences` in all, `sequences_per_step` in each step but the last."""

    mixture: Mixture
    sequences: int
    sequences_per_step: int

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return math.ceil(self.sequences / self.sequences_per_step)

    def batch(self, step: int) -> Batch:
        """Return the sequences of a step (from 0)."""
        first = step * self.sequences_per_step
        return self.mixture.batch(first, min(self.sequences_per_step, self.sequences - first))


@dataclass(frozen=True)
class Job:
    """The arguments of `train` and of `train_model`, which explain them."""

    model_folder: Path
    text: TrainingText
    plan: TrainingPlan
    scratch_dir: Path
    added: tuple[int, ...]
    seed: int
    execution: Execution
    heldout: Heldout | None
    prefix_dir: Path | None = None
    title: str = "training"

    def folder(self, phase: int) -> Path:
        """Return the folder of the model that a phase starts with."""
        return self.scratch_dir / f"phase-{phase}" if phase else self.model_folder

    def phases(self, parameters: int) -> list[PhaseSteps]:
        """Return the steps of each phase for a model of this size.

        Raises `RecipeError` if a phase replays text and there is none.
        """
        phases, offsets = [], StreamOffsets()
        for phase in self.plan.phases:
            share = self.text.share if phase.replay_share is None else phase.replay_share
            if share and self.text.replay is None:
                msg = (
                    f"training replays a share of {share:g}, but there is no replay text; "
                    f"name some under replay, or set training.replay_share: 0"
                )
                raise RecipeError(msg)
            mixture = Mixture(self.text.target, self.text.replay, share, self.seed, offsets)
            per_step = phase.sequences_per_step(self.text.target.summary.block, parameters)
            phases.append(phase_steps(mixture, phase.budget, per_step))
            offsets = mixture.offsets_after(phases[-1].sequences)
        return phases

    def fingerprint(self, parameters: int) -> str:
        """Return a hash of the job: a checkpoint is resumed only if its fingerprint is equal."""
        return digest([self.plan.model_dump(mode="json"), *self.identity(parameters)])

    def identity(self, parameters: int) -> list[Any]:
        """Return what the result depends on, except for the plan and the weights."""
        blocks = [vars(blocks.summary) for blocks in (self.text.target, self.text.replay) if blocks]
        return [self.text.share, self.seed, self.added, parameters, *blocks]


def phase_steps(mixture: Mixture, budget: Budget, sequences_per_step: int) -> PhaseSteps:
    """Return the phase with the smallest number of sequences that reaches the budget."""
    unit, amount = budget.amount
    if unit == "steps":
        return PhaseSteps(mixture, int(amount) * sequences_per_step, sequences_per_step)
    if unit == "epochs":
        unit, amount = "target sequences", math.ceil(amount * len(mixture.target))
    # Sequences differ in tokens, bytes and documents, so they are counted to the end of the budget.
    first, reached = 0, 0
    while True:
        measures = mixture.measures(first, CHUNK)
        target = 1 - measures[:, 0]
        each = {
            "tokens": measures[:, 1],
            "bytes": measures[:, 2] * target,
            "documents": measures[:, 3] * target,
            "target sequences": target,
        }[unit]
        sums = reached + np.cumsum(each)
        if sums[-1] >= amount:
            sequences = first + int(np.searchsorted(sums, amount)) + 1
            return PhaseSteps(mixture, sequences, sequences_per_step)
        first, reached = first + CHUNK, int(sums[-1])
