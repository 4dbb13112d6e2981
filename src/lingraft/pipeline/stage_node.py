"""A recipe as a graph of stages.

Each `StageNode` is a stage of the store (its settings, and the keys of its inputs) and the function that builds its output.
All keys are known before anything runs: a plan needs no computing, and a changed setting changes the keys of exactly
those steps that depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import names_of_0_1
from lingraft.store import Draft, Stage, Store
from lingraft.training import Execution


@dataclass(frozen=True)
class StageContext:
    """What a function that builds a stage output works with: a draft to fill, and the folders of its inputs.

    `scratch_dir` survives a killed process, for stages that can resume. `trunks` survives the output, for stages
    that can resume from another stage.
    """

    recipe: Recipe
    runtime: Runtime
    draft: Draft
    folders: Mapping[str, Path]
    scratch_dir: Path
    trunks: Path

    @property
    def execution(self) -> Execution:
        """How to compute, the device found out."""
        runtime = self.runtime
        return Execution(
            device=runtime.resolved_device(),
            precision=runtime.precision,
            recompute=runtime.recompute,
            sharded=runtime.launch is not None,
            trackers=runtime.trackers,
            tracking=runtime.runs / "tracking",
            tracking_name=self.recipe.run_name,
            checkpoint_seconds=runtime.checkpoint_seconds,
        )


Make = Callable[[StageContext], None]


@dataclass(frozen=True)
class StageNode:
    """A stage, and the function that builds its output."""

    title: str
    stage: Stage
    make: Make
    inputs: Mapping[str, StageNode] = field(default_factory=dict)

    def done(self, store: Store) -> bool:
        """Say whether the output is stored."""
        return store.has(self.stage)

    def build(self, store: Store, recipe: Recipe, runtime: Runtime) -> Path:
        """Return the output folder; build the output if it is missing."""
        folders = {role: store.folder(one.stage) for role, one in self.inputs.items()}

        def make(draft: Draft) -> None:
            self.make(
                StageContext(
                    recipe,
                    runtime,
                    draft,
                    folders,
                    store.scratch_dir(self.stage),
                    store.trunks(self.stage),
                )
            )

        return store.build(self.stage, make)


def step(
    title: str,
    name: str,
    version: int,
    settings: Mapping[str, Any],
    make: Make,
    **inputs: StageNode | None,
) -> StageNode:
    """Build a step whose stage names the keys of its inputs; an input of `None` is none.

    The key of a stage is made of the setting names of 0.1, so that outputs that 0.1 stored are found.
    """
    given = {role: made for role, made in inputs.items() if made is not None}
    stage = Stage(
        name,
        version,
        names_of_0_1(settings),
        {role: made.stage.key for role, made in given.items()},
    )
    return StageNode(title, stage, make, given)
