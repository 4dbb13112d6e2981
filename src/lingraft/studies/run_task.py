"""Runs a task of a study, in any process and on any machine.

The recipe of a task is sent to the worker as plain JSON and parsed again there. It gives the same
keys as in the process that sent it.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import LingraftError, one_line
from lingraft.pipeline import build_graph
from lingraft.pipeline.build_stage import build_node, quiet_libraries
from lingraft.pipeline.runner import run
from lingraft.pipeline.stage_node import must_build
from lingraft.progress import discard_line
from lingraft.recipe import Runtime, parse_recipe, recipe_values
from lingraft.recipe.tree import Tree
from lingraft.store import Manifest, Store
from lingraft.studies.study_schedule import Built, Outcome, StudyTask

WriteReport = Callable[[Path], Any]


@dataclass(frozen=True)
class PackedTask:
    """A task as it is sent to a worker: the shared stage `key`, or a whole cell if it is `None`.

    `directory` is the current directory of the study, to which paths in `recipe` are relative.
    """

    task: str
    key: str | None
    recipe: dict[str, Any]
    runtime: Runtime
    directory: str
    write_report: WriteReport


def pack_task(task: StudyTask, runtime: Runtime, write_report: WriteReport) -> PackedTask:
    """Pack a task for a worker."""
    here = os.getcwd()  # noqa: PTH109 - a string can be unpickled on any system
    return PackedTask(task.name, task.key, recipe_values(task.recipe), runtime, here, write_report)


def run_task(packed: PackedTask) -> Outcome:
    """Run a task; an error becomes part of the outcome. Only `Interrupted` is raised."""
    started = time.monotonic()
    error = trace = ""
    built: list[Built] = []
    with chdir(packed.directory):
        try:
            _build(packed, built)
        except LingraftError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001 - a bug in one cell must not stop the others
            error = (
                f"{type(problem).__name__}: {one_line(problem)} (a bug in lingraft or a library)"
            )
            trace = traceback.format_exc()
    return Outcome(packed.task, error, trace, tuple(built), round(time.monotonic() - started, 3))


def _build(packed: PackedTask, built: list[Built]) -> None:
    """Build a shared stage, or run a cell; append each stage that was built to `built`.

    `built` is an argument because it also has to hold the stages built before an error.
    """
    recipe = parse_recipe(Tree(packed.recipe))
    graph, store = build_graph(recipe), Store(packed.runtime.store)
    quiet_libraries()  # in each worker: the setting belongs to a process
    if packed.key is not None:
        node = next(node for node in graph if node.stage.key == packed.key)
        must_build((node,), packed.runtime, store)
        done = build_node(node, recipe, packed.runtime, store, discard_line)
        if not done.cached:
            built.append(Built(node.stage.name, node.stage.key, done.manifest.seconds))
        return
    missing = [node.stage for node in graph if not node.is_cached(store)]
    try:
        run(recipe, packed.runtime, write_report=packed.write_report)
    finally:
        # A cell that fails reports the stages that it has finished, which stay in the store.
        for stage in missing:
            if store.has(stage):
                seconds = Manifest.read(store.folder(stage)).seconds
                built.append(Built(stage.name, stage.key, seconds))
