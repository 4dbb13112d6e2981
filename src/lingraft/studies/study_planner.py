"""Predicts what a study would do: the state of each cell, and of each kind of stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.errors import RecipeError
from lingraft.pipeline import Graph
from lingraft.pipeline.run_identity import finished_line
from lingraft.pipeline.stage_node import StageNode
from lingraft.store import Store
from lingraft.studies.axes import Label
from lingraft.studies.config import Study
from lingraft.studies.study_folder import CELLS, scratch_dir_of
from lingraft.studies.study_runner import (
    CellGraphs,
    StudyRuntime,
    build_cell_graphs,
    task_fault,
)

FINISHED, TO_DO = "finished", "to do"


@dataclass(frozen=True)
class CellPlan:
    """What a study would do for a cell.

    `state` is "finished", "to do", or the reason why the cell cannot be run. `cached` and `to_do`
    are numbers of stages; `shared` is how many of those to do are needed by other cells, too.
    """

    name: str
    labels: dict[str, Label]
    seed: int
    state: str
    cached: int
    to_do: int
    shared: int


@dataclass(frozen=True)
class StagePlan:
    """What a study would do for the stages of one name.

    The cells need it `asked` times; `different` of these have different keys, and `cached` of those
    are in the store.
    """

    name: str
    asked: int
    different: int
    cached: int

    @property
    def to_do(self) -> int:
        """Number of stages to build."""
        return self.different - self.cached


@dataclass(frozen=True)
class StudyPlan:
    """What a study would do, by cells and by kinds of stages."""

    cells: tuple[CellPlan, ...]
    stages: tuple[StagePlan, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "cells": list(map(asdict, self.cells)),
            "stages": [{**asdict(stage), "to_do": stage.to_do} for stage in self.stages],
        }

    def raise_for_broken(self) -> None:
        """Raise `RecipeError` with the reason of the first cell that cannot be run, if any."""
        broken = [cell for cell in self.cells if cell.state not in {FINISHED, TO_DO}]
        if broken:
            msg = (
                f"{len(broken)} of {len(self.cells)} cells cannot run; the first of them is "
                f"{broken[0].name}: {broken[0].state}"
            )
            raise RecipeError(msg)


def study_plan(study: Study, how: StudyRuntime, folder: Path = Path()) -> StudyPlan:
    """Return what a study would do, without doing it."""
    cells, store = build_cell_graphs(study, folder), Store(how.runtime.store)
    return StudyPlan(
        tuple(_plan_cells(cells, how.runtime.runs / study.name, store)),
        tuple(_plan_stages(cells.graphs.values(), store)),
    )


def _plan_cells(cells: CellGraphs, target: Path, store: Store) -> Iterator[CellPlan]:
    uses: Counter[str] = Counter()
    task_faults: dict[str, str] = {}
    for graph in cells.graphs.values():
        uses.update({node.stage.key for node in graph})
    for cell in cells.cells:
        labels = dict(cell.labels)
        if cell.name in cells.broken:
            yield CellPlan(cell.name, labels, cell.seed, cells.broken[cell.name], 0, 0, 0)
            continue
        graph = cells.graphs[cell.name]
        nodes = {node.stage.key: node for node in graph}
        to_do = shared = 0
        for stage_key, node in nodes.items():
            if not node.is_cached(store):
                to_do += 1
                shared += uses[stage_key] > 1
        # A study that was stopped has left its finished runs in the scratch directory.
        runs = (target / CELLS / cell.name, scratch_dir_of(target) / CELLS / cell.name)
        is_finished = any(finished_line(run, cell.recipe, graph) for run in runs)
        state = FINISHED if is_finished else TO_DO
        if not is_finished and (fault := task_fault(cell.recipe, graph, store, task_faults)):
            yield CellPlan(cell.name, labels, cell.seed, fault, 0, 0, 0)
            continue
        cached = len(nodes) - to_do
        yield CellPlan(cell.name, labels, cell.seed, state, cached, to_do, shared)


def _plan_stages(graphs: Iterable[Graph], store: Store) -> Iterator[StagePlan]:
    by_name: dict[str, list[StageNode]] = {}
    for graph in graphs:
        for node in graph:
            by_name.setdefault(node.stage.name, []).append(node)
    for name, nodes in by_name.items():
        different = {node.stage.key: node for node in nodes}
        cached = sum(node.is_cached(store) for node in different.values())
        yield StagePlan(name, len(nodes), len(different), cached)


def study_plan_tables(plan: StudyPlan) -> list[Table]:
    """Return the plan as tables to print: cells, then stages."""
    cells = Table(pad_edge=False, box=None)
    axes = list(plan.cells[0].labels)
    for heading in (*axes, "seed", "state", "stages cached", "to do", "of these shared"):
        cells.add_column(heading, justify="left" if heading in {*axes, "state"} else "right")
    for cell in plan.cells:
        labels = map(str, cell.labels.values())
        numbers = (cell.cached, cell.to_do, cell.shared)
        cells.add_row(*labels, str(cell.seed), cell.state, *map(str, numbers))
    stages = Table(pad_edge=False, box=None, show_footer=True)
    stages.add_column("stage", footer="total")
    counts = {"needed": "asked", "different": "different", "cached": "cached", "to do": "to_do"}
    for heading, name in counts.items():
        total = sum(getattr(stage, name) for stage in plan.stages)
        stages.add_column(heading, justify="right", footer=str(total))
    for stage in plan.stages:
        numbers_of_stage = (stage.asked, stage.different, stage.cached, stage.to_do)
        stages.add_row(stage.name, *map(str, numbers_of_stage))
    return [cells, stages]
