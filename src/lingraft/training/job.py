"""What `train` is called with, and what follows from it before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Mixture, Start
from lingraft.store import digest
from lingraft.training.execution import Execution
from lingraft.training.legs import Leg, leg_of
from lingraft.training.plan import TrainingPlan

Heldout = Callable[[Any], Mapping[str, float]]
"""Measures a model: language -> bits per byte."""


@dataclass(frozen=True)
class Text:
    """What is trained on: packed target text, and packed replay text with its share of the bytes."""

    target: Blocks
    replay: Blocks | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Job:
    """The arguments of `train`; `trunks` is where runs leave what longer ones go on from."""

    model_folder: Path
    text: Text
    plan: TrainingPlan
    workplace: Path
    added: tuple[int, ...]
    seed: int
    execution: Execution
    heldout: Heldout | None
    trunks: Path | None = None

    def folder(self, phase: int) -> Path:
        """Return the folder of the model that a phase begins with."""
        return self.workplace / f"phase-{phase}" if phase else self.model_folder

    def legs(self, parameters: int) -> list[Leg]:
        """Work out the phases; raises `RecipeError` where one replays and there is no text to replay."""
        legs, start = [], Start()
        for phase in self.plan.phases:
            share = self.text.share if phase.replay is None else phase.replay
            if share and self.text.replay is None:
                msg = (f"training replays a share of {share:g}, but there is no replay text; "
                       f"name some under replay, or set training.replay: 0")
                raise RecipeError(msg)
            mixture = Mixture(self.text.target, self.text.replay, share, self.seed, start)
            legs.append(leg_of(mixture, phase.budget, phase.rows_of_a_step(self.text.target.summary.block, parameters)))
            start = mixture.used(legs[-1].rows)
        return legs

    def fingerprint(self, parameters: int) -> str:
        """Return what tells the progress of one job from that of another."""
        return digest([self.plan.model_dump(mode="json"), *self.identity(parameters)])

    def identity(self, parameters: int) -> list[Any]:
        """Return what a run depends on besides its plan and its model."""
        blocks = [vars(blocks.summary) for blocks in (self.text.target, self.text.replay) if blocks]
        return [self.text.share, self.seed, self.added, parameters, *blocks]
