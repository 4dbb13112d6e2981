"""From a study to its folder: what is missing is done by workers, then everything is gathered into tables.

`lingraft study`: from the words of a command line to how a study is carried out, and its outcome for people.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.errors import LingraftError, RecipeError, did_you_mean
from lingraft.formatting import duration, number
from lingraft.pipeline import Graph, build_graph
from lingraft.pipeline.run_folder import is_run, remove_leftovers, run_damage
from lingraft.pipeline.runner import run_key
from lingraft.pipeline.versions import package_versions
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Runtime
from lingraft.recipe.old_names import names_of_0_1
from lingraft.store import Store, digest
from lingraft.study.cells import Cell, axes_of, cells_of
from lingraft.study.config import Study
from lingraft.study.executors import LogOutcome, Pack, Processes, Ray, one_by_one
from lingraft.study.run_task import WriteReport, parcel_of
from lingraft.study.statistics import difference_rows, differences, ranking
from lingraft.study.study_folder import (
    CELLS,
    CURVES,
    DIFFERENCES,
    STUDY,
    TABLE,
    StudyFolder,
    read_study_folder,
    working_on,
)
from lingraft.study.study_schedule import Built, Outcome, StudySchedule, schedule_of
from lingraft.study.study_table import COLUMNS, CURVE_COLUMNS, curve_of, rows_of, write_table
from lingraft.workers import EXECUTORS

FORMAT = 1
Execute = Callable[[StudySchedule, Pack, LogOutcome], None]


@dataclass(frozen=True)
class StudyRuntime:
    """How a study is carried out: nothing here changes what comes out.

    `workers` tasks at a time; more than one are processes. With `ray` they are tasks of a cluster.
    """

    runtime: Runtime = field(default_factory=Runtime)
    workers: int = 1
    ray: Ray | None = None

    def executor(self) -> Execute:
        """Return what carries tasks out."""
        if self.ray is not None:
            return self.ray
        return Processes(self.workers) if self.workers > 1 else one_by_one


@dataclass(frozen=True)
class Laid:
    """Cells with their graphs; `broken` are those whose graph cannot be drawn (no such model or text), and why."""

    cells: Sequence[Cell]
    graphs: Mapping[str, Graph]
    broken: Mapping[str, str]

    def run_keys(self) -> dict[str, str]:
        """Return the address of each cell's run."""
        return {
            cell.name: run_key(cell.recipe, self.graphs[cell.name])
            for cell in self.cells
            if cell.name in self.graphs
        }


def laid_out(study: Study, folder: Path = Path()) -> Laid:
    """Return the cells of a study and what each of them asks for."""
    cells = cells_of(study, folder)
    graphs, broken = {}, {}
    for cell in cells:
        try:
            graphs[cell.name] = build_graph(cell.recipe)
        except LingraftError as error:
            broken[cell.name] = str(error)
    return Laid(cells, graphs, broken)


def run_study(
    study: Study,
    how: StudyRuntime,
    *,
    write_report: WriteReport,
    folder: Path = Path(),
    log: LogLine = discard_line,
) -> StudyFolder:
    """Carry out a study and return its folder, in which failed cells are named beside the finished ones.

    What the store or an earlier study of this name holds is not made again; a study that is finished is left alone.
    `folder` is where the study's relative paths may begin. Raises `LingraftError` where nothing could be done.
    """
    target = how.runtime.runs / study.name
    laid = laid_out(study, folder)
    settings = names_of_0_1(study.model_dump(mode="json", exclude={"scales"}))
    key = digest([FORMAT, settings, laid.run_keys()])[:20]
    remove_leftovers(target)
    if not laid.broken and _finished(target, key):
        log(f"{target}: this study is finished already, nothing to do")
        return StudyFolder(target)
    started, begun = time.time(), time.monotonic()
    with working_on(target, {cell.name for cell in laid.cells}) as scratch_dir:
        outcomes, asked = _work(laid, how, scratch_dir, write_report, log)
        record = {
            "format": FORMAT,
            "key": key,
            **_description(study),
            **_gathered(study, laid, scratch_dir, outcomes),
            "stages": _stages(laid, outcomes, asked),
            "versions": package_versions(),
            "workers": how.workers,
            "executor": "ray" if how.ray else "local",
            "started": _clock(started),
            "finished": _clock(time.time()),
            "seconds": round(time.monotonic() - begun, 1),
        }
        (scratch_dir / STUDY).write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return StudyFolder(target)


def _finished(target: Path, key: str) -> bool:
    try:
        record = read_study_folder(target)
    except LingraftError:
        return False
    return (
        record["key"] == key
        and not record["failures"]
        and all(
            (target / CELLS / cell["name"] / "run.json").is_file()
            and not run_damage(target / CELLS / cell["name"])
            for cell in record["cells"]
        )
    )


def _work(
    laid: Laid, how: StudyRuntime, scratch_dir: Path, write_report: WriteReport, log: LogLine
) -> tuple[dict[str, Outcome], int]:
    """Carry out what is not finished; return the outcomes and how many stages were not in the store."""
    runtime = Runtime(
        scratch_dir / CELLS, how.runtime.store, how.runtime.device, how.runtime.precision
    )
    store, keys = Store(runtime.store), laid.run_keys()
    todo = {
        name: graph
        for name, graph in laid.graphs.items()
        if not is_run(runtime.runs / name, keys[name])
    }
    schedule = schedule_of(todo, {cell.name: cell.recipe for cell in laid.cells}, store)
    missing = {
        node.stage.key for graph in todo.values() for node in graph if not node.is_cached(store)
    }
    titles = {task.name: task.title for task in schedule.tasks}
    log(
        f"{len(laid.cells)} cells, {len(laid.cells) - len(todo) - len(laid.broken)} finished; "
        f"{len(missing)} stages to make"
    )

    def told(outcome: Outcome) -> None:
        result = f"FAILED: {outcome.error}" if outcome.error else duration(outcome.seconds)
        log(f"[{len(schedule.outcomes)}/{len(schedule.tasks)}] {titles[outcome.task]}  {result}")

    if schedule.tasks:
        how.executor()(schedule, lambda task: parcel_of(task, runtime, write_report), told)
    return {
        **schedule.outcomes,
        **{name: Outcome(name, error) for name, error in laid.broken.items()},
    }, len(missing)


def _description(study: Study) -> dict[str, Any]:
    axes = [
        {
            "name": axis.name,
            "values": [
                {"label": value.label, "settings": dict(value.settings)} for value in axis.values
            ],
        }
        for axis in axes_of(study)
    ]
    return {
        "name": study.name,
        "question": study.question,
        "scale": study.scale,
        "recipe": study.recipe,
        "settings": study.settings,
        "axes": axes,
        "seeds": list(study.seeds),
        "compare": [one.model_dump() for one in study.compare],
    }


def _gathered(
    study: Study, laid: Laid, scratch_dir: Path, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Write the tables; return what study.json says of the cells and of the differences."""
    axes = [axis.name for axis in axes_of(study)]
    rows, curves, cells = [], [], []
    for cell in laid.cells:
        error = outcomes[cell.name].error if cell.name in outcomes else ""
        run = scratch_dir / CELLS / cell.name
        if not error:
            rows += rows_of(cell, run)
            curves += curve_of(cell, run)
        cells.append(
            {
                "name": cell.name,
                "labels": dict(cell.labels),
                "seed": cell.seed,
                "status": "failed" if error else "done",
                "error": error,
                "folder": "" if error else f"{CELLS}/{cell.name}",
            }
        )
    found = [one for compared in study.compare for one in differences(rows, axes, compared)]
    rankings = [
        one
        for compared in study.compare
        for axis in axes
        for one in ranking(rows, axes, axis, compared)
    ]
    for name, table in (
        (TABLE, rows),
        (CURVES, curves),
        (DIFFERENCES, difference_rows(found, axes)),
    ):
        write_table(table, scratch_dir / name)
    ranked = [
        {
            "axis": one.axis,
            "metric": one.metric,
            "subject": one.subject,
            "language": one.language,
            "order": list(one.order),
            "means": list(one.means),
            "carried": [list(pair) for pair in one.carried],
            "best": one.best,
            "sentence": one.sentence,
        }
        for one in rankings
    ]
    failures = [
        {"cell": cell.name, "error": outcomes[cell.name].error, "trace": outcomes[cell.name].trace}
        for cell in laid.cells
        if cell.name in outcomes and outcomes[cell.name].error
    ]
    return {
        "cells": cells,
        "failures": failures,
        "rankings": ranked,
        "columns": COLUMNS,
        "curve_columns": CURVE_COLUMNS,
    }


def _stages(laid: Laid, outcomes: Mapping[str, Outcome], missing: int) -> dict[str, Any]:
    """Return how many stages were asked for, how many different ones these are, and what this call made."""
    built: list[Built] = [one for outcome in outcomes.values() for one in outcome.built]
    asked = [node.stage for graph in laid.graphs.values() for node in graph]
    return {
        "asked": len(asked),
        "different": len({stage.key for stage in asked}),
        "missing": missing,
        "built": len(built),
        "built_by_name": dict(Counter(one.stage for one in built)),
        "made": [{"stage": one.stage, "key": one.key, "seconds": one.seconds} for one in built],
    }


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


class StudyError(LingraftError):
    """A study of which some cells failed; the others are whole."""

    exit_code = 3


def how_to_run(
    runtime: Runtime, workers: int, executor: str, address: str, resources: tuple[float, float]
) -> StudyRuntime:
    """Return how to carry a study out; raises `RecipeError` for an option that would not act."""
    if executor not in EXECUTORS:
        msg = f"--executor {executor!r} is not known; {did_you_mean(executor, EXECUTORS)}"
        raise RecipeError(msg)
    if executor == "ray":
        return StudyRuntime(runtime, workers, Ray(address, workers, *resources))
    if address or resources != (1.0, 0.0):
        msg = "--ray-address, --cpus and --gpus are of --executor ray; local workers share this machine out (--workers)"
        raise RecipeError(msg)
    return StudyRuntime(runtime, workers)


def outcome_tables(study: StudyFolder) -> list[Table]:
    """Return what came out: the differences averaged over the other axes, and what may be said of each axis."""
    record = study.record
    table = Table(
        pad_edge=False, box=None, title=record["question"] or record["name"], title_justify="left"
    )
    for heading in ("axis", "metric", "language", "mean of each value, best first"):
        table.add_column(heading)
    for one in record["rankings"]:
        means = "  ".join(
            f"{label} {number(mean)}"
            for label, mean in zip(one["order"], one["means"], strict=True)
        )
        table.add_row(one["axis"], f"{one['metric']} ({one['subject']})", one["language"], means)
    said = Table(pad_edge=False, box=None, show_header=False)
    said.add_column()
    for one in record["rankings"]:
        said.add_row(one["sentence"])
    stages = record["stages"]
    said.add_row(
        f"{len(record['cells'])} cells, {len(record['failures'])} failed; {stages['asked']} stages asked for, "
        f"{stages['different']} different ones, {stages['built']} made in {duration(record['seconds'])}"
    )
    return [table, said]


def refuse_failures(study: StudyFolder) -> None:
    """Raise `StudyError`, with the first cell that failed and why, where any did."""
    failures = study.record["failures"]
    if failures:
        cells = ", ".join(failure["cell"] for failure in failures[:5]) + (
            ", ..." if len(failures) > 5 else ""
        )
        msg = (
            f"{len(failures)} of {len(study.record['cells'])} cells failed ({cells}): {failures[0]['error']}; "
            "the same command tries them again"
        )
        raise StudyError(msg)
