"""The key of a run, and whether a folder is the finished run of a recipe.

Which tasks `auto` stands for, and the version of lm-eval in the keys of their scores, depend on
what is installed and can be downloaded. A finished run keeps scores that cannot be measured here:
it is compared with the keys that its record has for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.pipeline.evaluation_stages import TASKS_OF
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.run_folder import FORMAT, is_run, read_record
from lingraft.pipeline.stages import choose_recipe_tasks
from lingraft.recipe import Recipe, recipe_values
from lingraft.recipe.old_names import names_of_0_1
from lingraft.store import digest

REPORT_VERSION = 6
"""Raise it when run folders change: older ones are then written again from stored outputs."""


def run_key(recipe: Recipe, graph: Graph) -> str:
    """Return the key of a run: the hash of its recipe and of the keys of its stages."""
    return _key(recipe, [node.stage.key for node in graph])


def finished_line(folder: Path, recipe: Recipe, graph: Graph) -> str:
    """Return a message that a folder holds the finished run of a recipe; "" if it does not.

    If a file has been changed since the run ended, it does not.
    """
    line = f"{folder}: this run is finished already, nothing to do"
    if is_run(folder, run_key(recipe, graph)):
        return line
    kept = _kept_tasks(folder, recipe, graph)
    return (
        f"{line}; it keeps its task scores, which cannot be measured here ({kept})" if kept else ""
    )


def _kept_tasks(folder: Path, recipe: Recipe, graph: Graph) -> str:
    """Return why tasks of the finished run of a recipe cannot be measured here.

    "" if they can, or if the folder is not that run.
    """
    unavailable = choose_recipe_tasks(recipe).unavailable
    try:
        record = read_record(folder) if unavailable else {}
    except StoreError:
        return ""
    scored = [stage for stage in record.get("stages", ()) if stage["name"] == "tasks"]
    measured = {name for stage in scored for name in stage["notes"].get("tasks", ())}
    reasons = dict.fromkeys(unavailable[name] for name in measured if name in unavailable)
    if not reasons or not is_run(folder, _key_with_tasks(recipe, graph, scored)):
        return ""
    return "; ".join(reasons)


def _key_with_tasks(recipe: Recipe, graph: Graph, scored: list[Mapping[str, Any]]) -> str:
    """Return the key of a run whose stages that score tasks are these of a record."""
    evaluation = graph.evaluation.stage
    inputs = {role: key for role, key in evaluation.inputs.items() if not role.startswith("tasks:")}
    for stage in scored:
        inputs[f"tasks:{stage['title'].removeprefix(TASKS_OF)}"] = stage["key"]
    measuring = (*graph.tasks, graph.evaluation)
    keys = [node.stage.key for node in graph if node not in measuring]
    keys += [*(stage["key"] for stage in scored), replace(evaluation, inputs=inputs).key]
    return _key(recipe, keys)


def _key(recipe: Recipe, stage_keys: list[str]) -> str:
    # Keys of runs, like those of stages, use the setting names of lingraft 0.1.
    values = names_of_0_1(recipe_values(recipe))
    return digest([FORMAT, REPORT_VERSION, values, stage_keys])[:20]
