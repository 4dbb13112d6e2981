"""What a study would do: each cell and each kind of stage, with what is there and what is to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.pipeline import Graph
from lingraft.pipeline.run_folder import is_run
from lingraft.store import Store
from lingraft.study.config import Study
from lingraft.study.study_folder import CELLS, scratch_dir_of
from lingraft.study.study_runner import Laid, StudyRuntime, laid_out


@dataclass(frozen=True)
class CellPlan:
    """A cell: how many of its stages are in the store, how many are to do, of which others need some too.

    `state` is "finished", "to do", or why it cannot be done.
    """

    name: str
    labels: dict[str, str | float | int]
    seed: int
    state: str
    cached: int
    to_do: int
    shared: int


@dataclass(frozen=True)
class StagePlan:
    """A kind of stage: how often cells ask for it, how many different ones that makes, and how many are there."""

    name: str
    asked: int
    different: int
    cached: int

    @property
    def to_do(self) -> int:
        """How many are to be made."""
        return self.different - self.cached


@dataclass(frozen=True)
class StudyPlan:
    """Everything that would be done."""

    cells: tuple[CellPlan, ...]
    stages: tuple[StagePlan, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "cells": [asdict(cell) for cell in self.cells],
            "stages": [{**asdict(stage), "to_do": stage.to_do} for stage in self.stages],
        }


def study_plan(study: Study, how: StudyRuntime, folder: Path = Path()) -> StudyPlan:
    """Return what a study would do; nothing is done."""
    laid, store = laid_out(study, folder), Store(how.runtime.store)
    return StudyPlan(
        tuple(_cells(laid, how.runtime.runs / study.name, store)),
        tuple(_stages(laid.graphs.values(), store)),
    )


def _cells(laid: Laid, target: Path, store: Store) -> Iterable[CellPlan]:
    asked: dict[str, int] = {}
    for graph in laid.graphs.values():
        for key in {node.stage.key for node in graph}:
            asked[key] = asked.get(key, 0) + 1
    keys = laid.run_keys()
    for cell in laid.cells:
        if cell.name in laid.broken:
            yield CellPlan(cell.name, dict(cell.labels), cell.seed, laid.broken[cell.name], 0, 0, 0)
            continue
        nodes = {node.stage.key: node.is_cached(store) for node in laid.graphs[cell.name]}
        done = any(
            is_run(place / CELLS / cell.name, keys[cell.name])
            for place in (target, scratch_dir_of(target))
        )
        missing = [key for key, there in nodes.items() if not there]
        yield CellPlan(
            cell.name,
            dict(cell.labels),
            cell.seed,
            "finished" if done else "to do",
            len(nodes) - len(missing),
            len(missing),
            sum(asked[key] > 1 for key in missing),
        )


def _stages(graphs: Iterable[Graph], store: Store) -> Iterable[StagePlan]:
    nodes = [node for graph in graphs for node in graph]
    for name in dict.fromkeys(node.stage.name for node in nodes):
        different = {node.stage.key: node for node in nodes if node.stage.name == name}
        yield StagePlan(
            name,
            sum(node.stage.name == name for node in nodes),
            len(different),
            sum(node.is_cached(store) for node in different.values()),
        )


def study_plan_tables(plan: StudyPlan) -> list[Table]:
    """Return the plan for people: its cells, then its stages."""
    cells = Table(pad_edge=False, box=None)
    axes = list(plan.cells[0].labels)
    for heading in (*axes, "seed", "state", "stages there", "to do", "of them shared"):
        cells.add_column(heading, justify="left" if heading in {*axes, "state"} else "right")
    for cell in plan.cells:
        cells.add_row(
            *(str(cell.labels[axis]) for axis in axes),
            str(cell.seed),
            cell.state,
            str(cell.cached),
            str(cell.to_do),
            str(cell.shared),
        )
    stages = Table(pad_edge=False, box=None, show_footer=True)
    stages.add_column("stage", footer="in all")
    for heading, numbers in (
        ("asked for", [stage.asked for stage in plan.stages]),
        ("different", [stage.different for stage in plan.stages]),
        ("there", [stage.cached for stage in plan.stages]),
        ("to do", [stage.to_do for stage in plan.stages]),
    ):
        stages.add_column(heading, justify="right", footer=str(sum(numbers)))
    for stage in plan.stages:
        stages.add_row(
            stage.name, str(stage.asked), str(stage.different), str(stage.cached), str(stage.to_do)
        )
    return [cells, stages]
