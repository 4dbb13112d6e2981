"""Nodes of the stage graph: a stage, the function that builds its output, and its inputs.

The key of a stage is known before anything runs, because it depends only on the stage's settings,
the keys of its inputs and a version number (`lingraft.pipeline.versions`). So a plan builds
nothing, and a changed setting changes the keys of the stages that depend on it and no others.
`Stage.key` in `lingraft.store` makes the hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.pipeline.versions import STAGE_VERSIONS
from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import names_of_0_1
from lingraft.registry import code_of_methods
from lingraft.store import Draft, Stage, Store
from lingraft.training import Execution


@dataclass(frozen=True)
class StageContext:
    """The argument of a function that builds a stage output.

    `draft` is the output to fill. `folders` maps the role of each input to its folder.
    `scratch_dir` is for progress of the stage: it survives a killed process and is removed when the
    output is complete. `prefix_dir` is kept longer, for progress from which a stage with the same
    inputs but other settings can continue.
    """

    recipe: Recipe
    runtime: Runtime
    draft: Draft
    folders: Mapping[str, Path]
    scratch_dir: Path
    prefix_dir: Path

    @property
    def execution(self) -> Execution:
        """The settings of the runtime that computing needs, with `auto` as a real device."""
        runtime = self.runtime
        return Execution(
            device=runtime.available_device(),
            precision=runtime.precision,
            recompute=runtime.recompute,
            compile=runtime.compile,
            sharded=runtime.launch is not None,
            trackers=runtime.trackers,
            tracking=runtime.runs / "tracking",
            tracking_name=self.recipe.run_name,
            checkpoint_seconds=runtime.checkpoint_seconds,
        )


Make = Callable[[StageContext], None]


@dataclass(frozen=True)
class StageNode:
    """A stage, the function that builds its output, and its input nodes by role.

    `unread` says that the key is not known: a plan did not read the text on which it depends.
    `read_again` returns the settings with the hashes that the files of the user have now. They were
    hashed for the key, and are read when the stage is built, which may be hours later.
    """

    title: str
    stage: Stage
    make: Make
    inputs: Mapping[str, StageNode] = field(default_factory=dict)
    unread: bool = False
    read_again: Callable[[], Mapping[str, Any]] | None = None

    def is_cached(self, store: Store) -> bool:
        """Say whether the output is stored."""
        return store.has(self.stage)

    def context(self, store: Store, recipe: Recipe, runtime: Runtime, draft: Draft) -> StageContext:
        """Return the argument for `make`, which fills `draft`."""
        folders = {role: store.folder(node.stage) for role, node in self.inputs.items()}
        scratch_dir, prefix_dir = store.scratch_dir(self.stage), store.prefix_dir(self.stage)
        return StageContext(recipe, runtime, draft, folders, scratch_dir, prefix_dir)

    def build(self, store: Store, recipe: Recipe, runtime: Runtime) -> Path:
        """Return the output folder; build the output if it is missing.

        Raises `StoreError` if a file is no longer what the key was made of: its output would be
        taken for that of the earlier file by every later run.
        """

        def make(draft: Draft) -> None:
            self.make(self.context(store, recipe, runtime, draft))
            self._check_unchanged()

        return store.build(self.stage, make)

    def _check_unchanged(self) -> None:
        if self.read_again is None:
            return
        if versioned_stage(self.stage.name, self.read_again()).settings != self.stage.settings:
            msg = f"{self.title}: a file that it reads changed after its hash was taken; run again"
            raise StoreError(msg)


def must_build(nodes: Iterable[StageNode], runtime: Runtime, store: Store) -> bool:
    """Say whether an output is missing; raises `RecipeError` if the device to build it on is, too.

    A missing device must not be found after hours of reading text, nor stop what is only read.
    """
    if all(node.is_cached(store) for node in nodes):
        return False
    runtime.available_device()
    return True


def stage_node(
    title: str,
    name: str,
    settings: Mapping[str, Any],
    make: Make,
    **inputs: StageNode | None,
) -> StageNode:
    """Return the node of a stage, whose key depends on the keys of its inputs.

    `name` is an entry of `STAGE_VERSIONS`. Inputs that are `None` are left out.
    """
    nodes = {role: node for role, node in inputs.items() if node is not None}
    keys = {role: node.stage.key for role, node in nodes.items()}
    unread = any(node.unread for node in nodes.values())
    return StageNode(title, versioned_stage(name, settings, keys), make, nodes, unread)


def file_reading_node(
    title: str,
    name: str,
    settings: Callable[[], Mapping[str, Any]],
    make: Make,
    **inputs: StageNode | None,
) -> StageNode:
    """Return the node of a stage whose settings contain hashes of the user's files."""
    return replace(stage_node(title, name, settings(), make, **inputs), read_again=settings)


def versioned_stage(
    name: str, settings: Mapping[str, Any], inputs: Mapping[str, str] | None = None
) -> Stage:
    """Return a stage of the current code, given its settings and the keys of its inputs."""
    # The output of a method that is not lingraft's own depends on its code, too.
    code = code_of_methods(settings)
    settings = {**settings, "code": code} if code else settings
    # Keys keep the setting names of lingraft 0.1: a setting that is only renamed would otherwise
    # run every stage again that depends on it.
    return Stage(name, STAGE_VERSIONS[name], names_of_0_1(settings), inputs or {})
