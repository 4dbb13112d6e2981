"""A training job: the arguments of `train`, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.store import cached_sha256, digest
from lingraft.training.execution import Execution
from lingraft.training.phase_outline import few_steps_lines, phase_lengths
from lingraft.training.phase_steps import PhaseSteps, TrainingSteps, TrainingText, plan_steps
from lingraft.training.plan import TrainingPlan

Heldout = Callable[[Any], Mapping[str, float]]
"""Measures a model on held-out text and returns language -> bits per byte.

`HeldoutBits` have the in-context gains of the documents as well.
"""
InContext = Callable[[Any], Mapping[str, Mapping[str, float]]]
"""Measures what a model learns from its context: probe -> `gain`, `low` and `high`."""


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
    in_context: InContext | None = None
    curve: str = ""

    def folder(self, phase: int, iteration: int = 0) -> Path:
        """Return the folder of the model that a phase, or an iteration of branches, starts with."""
        if iteration:
            return self.scratch_dir / f"phase-{phase}-iteration-{iteration}"
        return self.scratch_dir / f"phase-{phase}" if phase else self.model_folder

    def steps(self, parameters: int) -> TrainingSteps:
        """Return the steps of each phase for a model of this size.

        Raises `RecipeError` if a phase replays text and there is none, if a text is too small, or
        if a branch would have no step.
        """
        shares = []
        for phase in self.plan.phases:
            share = phase.share_replayed(self.text.replay.share if self.text.replay else 0.0)
            if share and self.text.replay is None:
                msg = (
                    f"training replays a share of {share:g}, but there is no replay text; "
                    f"name some under replay, or set training.replay_share: 0"
                )
                raise RecipeError(msg)
            shares.append(share)
        block, text = self.text.target.summary.block, self.text
        targets = [source.amount() for source in text.targets]
        replay = text.replay.amount() if text.replay else None
        lengths = phase_lengths(self.plan.phases, shares, block, parameters, (targets, replay))
        planned = plan_steps(text, lengths, self.seed)
        for phase, steps in zip(self.plan.phases, planned.phases, strict=True):
            phase.branches(steps.steps)
        # Text that initialisations and base models train on has no recipe of a run.
        few = few_steps_lines(self.plan.phases, planned.phases, self.plan.packing, block)
        if text.keeps_epochs_apart:
            planned = replace(planned, warnings=(*planned.warnings, *few))
        return planned

    def fingerprint(self, parameters: int, phases: Sequence[PhaseSteps]) -> str:
        """Return a hash of the job: a checkpoint is resumed only if its fingerprint is equal."""
        plan = self.plan.model_dump(mode="json")
        weights = list(map(cached_sha256, sorted(self.model_folder.glob("*.safetensors"))))
        return digest([plan, weights, *self.identity(parameters, phases)])

    def identity(self, parameters: int, phases: Sequence[PhaseSteps]) -> list[Any]:
        """Return what the result depends on, except for the plan and the weights.

        The tables of defaults are part of it, because a release may change them.
        """
        blocks = [vars(source.blocks.summary) for source in self.text.sources]
        order = [phase.mixture.identity() for phase in phases]
        tables = [phase.tables() for phase in self.plan.phases]
        return [order, self.seed, self.added, parameters, tables, *blocks]
