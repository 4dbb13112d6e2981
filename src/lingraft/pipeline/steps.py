"""A recipe as a graph of questions.

Each `Step` is a question for the store (its settings, and the keys of what it builds on) and the function that
answers it. All keys are known before anything runs: a plan needs no computing, and a changed setting changes the keys
of exactly those steps that depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.recipe import Recipe, Runtime
from lingraft.store import Draft, Stage, Store
from lingraft.training import Execution


@dataclass(frozen=True)
class Work:
    """What the maker of an answer works with: a draft to fill, and the folders of the answers that it builds on.

    `workplace` outlives a killed process, for stages that can go on where they stopped; `trunks` outlives the answer,
    for stages that can go on where another one was.
    """

    recipe: Recipe
    runtime: Runtime
    draft: Draft
    folders: Mapping[str, Path]
    workplace: Path
    trunks: Path

    @property
    def execution(self) -> Execution:
        """How to compute, the device found out."""
        runtime = self.runtime
        return Execution(device=runtime.resolved_device(), precision=runtime.precision, recompute=runtime.recompute,
                         sharded=runtime.launch is not None, trackers=runtime.trackers,
                         tracking=runtime.runs / "tracking", tracking_name=self.recipe.run_name,
                         checkpoint_seconds=runtime.checkpoint_seconds)


Make = Callable[[Work], None]


@dataclass(frozen=True)
class Step:
    """A question, and how it is answered."""

    title: str
    stage: Stage
    make: Make
    inputs: Mapping[str, Step] = field(default_factory=dict)

    def done(self, store: Store) -> bool:
        """Say whether the answer is there."""
        return store.has(self.stage)

    def answer(self, store: Store, recipe: Recipe, runtime: Runtime) -> Path:
        """Return the folder of the answer, made where it is not there."""
        folders = {role: store.folder(one.stage) for role, one in self.inputs.items()}

        def make(draft: Draft) -> None:
            self.make(Work(recipe, runtime, draft, folders, store.workplace(self.stage), store.trunks(self.stage)))

        return store.answer(self.stage, make)


def step(title: str, name: str, version: int, settings: Mapping[str, Any], make: Make, **inputs: Step | None) -> Step:
    """Build a step whose stage names the keys of its inputs; an input of `None` is none."""
    given = {role: made for role, made in inputs.items() if made is not None}
    stage = Stage(name, version, dict(settings), {role: made.stage.key for role, made in given.items()})
    return Step(title, stage, make, given)
