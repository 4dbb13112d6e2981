"""What a worker does with a task, in whatever process or machine it runs.

A task travels as plain JSON and is read again there: a recipe that is written out gives the same keys.
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

from lingraft.errors import Interrupted, LingraftError
from lingraft.pipeline import Graph, build_graph
from lingraft.pipeline.runner import build_node, quiet_libraries, run
from lingraft.recipe import Runtime, parse_recipe, recipe_values
from lingraft.recipe.tree import Tree
from lingraft.store import Manifest, Store
from lingraft.study.study_schedule import Built, Outcome, StudyTask

WriteReport = Callable[[Path], Any]


@dataclass(frozen=True)
class Parcel:
    """A task as it is sent: everything that carrying it out depends on."""

    task: str
    key: str | None
    recipe: dict[str, Any]
    runtime: Runtime
    directory: str
    write_report: WriteReport


def parcel_of(task: StudyTask, runtime: Runtime, write_report: WriteReport) -> Parcel:
    """Pack a task for sending."""
    here = os.getcwd()  # noqa: PTH109 - a string that pickles anywhere
    return Parcel(task.name, task.key, recipe_values(task.recipe), runtime, here, write_report)


def work(parcel: Parcel) -> Outcome:
    """Carry a task out; what goes wrong is told in the outcome. Only an interruption is raised."""
    started = time.monotonic()
    error = trace = ""
    built: list[Built] = []
    with chdir(parcel.directory):
        try:
            _carry_out(parcel, built)
        except Interrupted:
            raise
        except LingraftError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001 - a bug in one cell must not take the others along
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]} (a bug in lingraft or a library)"
            trace = traceback.format_exc()
    return Outcome(parcel.task, error, trace, tuple(built), round(time.monotonic() - started, 3))


def _carry_out(parcel: Parcel, built: list[Built]) -> None:
    recipe = parse_recipe(Tree(parcel.recipe))
    graph, store = build_graph(recipe), Store(parcel.runtime.store)
    quiet_libraries()
    if parcel.key is not None:
        node = next(node for node in graph if node.stage.key == parcel.key)
        done = build_node(node, recipe, parcel.runtime, store, _say_nothing)
        if not done.cached:
            built.append(Built(node.stage.name, node.stage.key, done.manifest.seconds))
        return
    missing = [node for node in graph if not node.is_cached(store)]
    try:
        run(recipe, parcel.runtime, write_report=parcel.write_report)
    finally:
        built += [
            Built(node.stage.name, node.stage.key, Manifest.read(store.folder(node.stage)).seconds)
            for node in missing
            if node.is_cached(store)
        ]


def _say_nothing(_line: str) -> None:
    """Take no line: the study tells what is done."""


def stages_of(graph: Graph) -> dict[str, str]:
    """Return the names of a graph's stages by key."""
    return {node.stage.key: node.stage.name for node in graph}
