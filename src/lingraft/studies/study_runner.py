"""Runs a study: workers build what is missing, then the results are written to the study folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lingraft.errors import HubError, LingraftError, StoreError
from lingraft.evaluation.tasks import check_tasks
from lingraft.formatting import duration
from lingraft.pipeline import Graph, build_graph
from lingraft.pipeline.run_folder import (
    RUN,
    clock,
    foreign_file_of_run,
    remove_leftovers,
    run_damage,
)
from lingraft.pipeline.run_identity import finished_line, run_key
from lingraft.pipeline.stage_node import must_build
from lingraft.pipeline.stages import choose_recipe_tasks
from lingraft.pipeline.versions import package_versions
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import names_of_0_1
from lingraft.store import Store, check_creatable, digest, file_digest, find_damage, write_json
from lingraft.studies.axes import axes_of
from lingraft.studies.cells import Cell, cells_of
from lingraft.studies.config import Study
from lingraft.studies.executors import LogOutcome, Pack, Processes, Ray, run_in_this_process
from lingraft.studies.run_task import WriteReport, pack_task
from lingraft.studies.study_folder import (
    CELLS,
    CURVES,
    DIFFERENCES,
    STUDY,
    TABLE,
    StudyFolder,
    open_scratch_dir,
    read_study_folder,
)
from lingraft.studies.study_results import gather_results
from lingraft.studies.study_schedule import Built, Outcome, StudySchedule, build_schedule

FORMAT = 1
"""Version of the study folder; part of the key of a study."""

Execute = Callable[[StudySchedule, Pack, LogOutcome], None]


@dataclass(frozen=True)
class StudyRuntime:
    """How a study is run; none of it changes the results.

    `workers` is how many tasks run at a time, each in a process of its own if it is above 1. With
    `ray`, tasks run on a Ray cluster instead.
    """

    runtime: Runtime = field(default_factory=Runtime)
    workers: int = 1
    ray: Ray | None = None

    def executor(self) -> Execute:
        """Return the function that runs the tasks of a schedule."""
        if self.ray is not None:
            return self.ray
        return Processes(self.workers) if self.workers > 1 else run_in_this_process


@dataclass(frozen=True)
class CellGraphs:
    """The cells of a study and the stages of each.

    `broken` maps each cell whose model or text does not exist to the error; it has no graph.
    """

    cells: Sequence[Cell]
    graphs: Mapping[str, Graph]
    broken: Mapping[str, str]

    def run_keys(self) -> dict[str, str]:
        """Return the key of the run of each cell that has a graph."""
        keys = {}
        for cell in self.cells:
            if cell.name in self.graphs:
                keys[cell.name] = run_key(cell.recipe, self.graphs[cell.name])
        return keys


FROM_HUB = {"model", "target", "extra_targets", "replay", "chat_vector", "evaluation"}
"""The settings of a recipe that may name something on the Hub."""


def build_cell_graphs(study: Study, folder: Path = Path()) -> CellGraphs:
    """Return the cells of a study and the stages of each."""
    cells = cells_of(study, folder)
    graphs, broken = {}, {}
    # Without a connection the Hub's client tries for 45 seconds, which once is enough.
    hub_errors: dict[str, str] = {}
    for cell in cells:
        sources = cell.recipe.model_dump_json(include=FROM_HUB)
        if sources in hub_errors:
            broken[cell.name] = hub_errors[sources]
            continue
        try:
            graphs[cell.name] = build_graph(cell.recipe)
        except LingraftError as error:
            broken[cell.name] = str(error)
            if isinstance(error, HubError):
                hub_errors[sources] = str(error)
    return CellGraphs(cells, graphs, broken)


def run_study(
    study: Study,
    runtime: StudyRuntime,
    *,
    write_report: WriteReport,
    folder: Path = Path(),
    log: LogLine = discard_line,
) -> StudyFolder:
    """Run a study and return its folder, whose study.json lists finished and failed cells.

    Stages in the store and runs of an earlier study with this name are not built again; a finished
    study is left as it is. A relative path in the study is looked up in the current directory, then
    in `folder`. A cell that fails does not stop the others. Raises `LingraftError` for a study that
    is not valid, or if the study folder cannot be written.
    """
    target = runtime.runtime.runs / study.name
    cells = build_cell_graphs(study, folder)
    # Of all scales, the chosen one is part of the other settings: the rest changes no result.
    settings = names_of_0_1(study.model_dump(mode="json", exclude={"scales"}))
    key = digest([FORMAT, settings, cells.run_keys()])[:20]
    remove_leftovers(target)
    # A broken cell is not part of the finished runs: its error is reported again.
    if not cells.broken and _has_runs(target, key):
        damage = find_damage(target, read_study_folder(target).get("files", {}))
        if not damage:
            log(f"{target}: this study is finished already, nothing to do")
            return StudyFolder(target)
        log(f"{damage}; writing the tables again")
    started, timer = time.time(), time.monotonic()
    with open_scratch_dir(target, {cell.name for cell in cells.cells}) as scratch_dir:
        outcomes, missing = _run_cells(cells, runtime, scratch_dir, write_report, log)
        record = {
            "format": FORMAT,
            "key": key,
            **_description(study),
            **gather_results(study, cells.cells, scratch_dir, outcomes),
            "stages": _stages(cells, outcomes, missing),
            "versions": package_versions(),
            "workers": runtime.workers,
            "executor": "ray" if runtime.ray else "local",
            "started": clock(started),
            "finished": clock(time.time()),
            "seconds": round(time.monotonic() - timer, 1),
            "files": _tables(scratch_dir),
        }
        write_json(scratch_dir / STUDY, record)
    return StudyFolder(target)


def _tables(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and checksum of the tables of a study; the report is written later."""
    tables = {}
    for name in (TABLE, CURVES, DIFFERENCES):
        for path in (folder / name, (folder / name).with_suffix(".csv")):
            tables[path.name] = path.stat().st_size, file_digest(path)
    return tables


def _has_runs(target: Path, key: str) -> bool:
    """Say whether a folder holds the study with this key, with all runs unchanged."""
    try:
        record = read_study_folder(target)
    except LingraftError:
        return False
    if record["key"] != key or record["failures"]:
        return False
    for cell in record["cells"]:
        run = target / CELLS / cell["name"]
        if not (run / RUN).is_file() or run_damage(run):
            return False
    return True


def _run_cells(
    cells: CellGraphs,
    how: StudyRuntime,
    scratch_dir: Path,
    write_report: WriteReport,
    log: LogLine,
) -> tuple[dict[str, Outcome], int]:
    """Run the cells that are not finished; return outcomes and how many stages were missing."""
    common = how.runtime
    # A cell writes its run into the scratch directory. The other settings of the runtime belong to
    # a single run: a launcher's processes, trackers.
    runtime = Runtime(scratch_dir / CELLS, common.store, common.device, common.precision)
    store, recipes = Store(runtime.store), {cell.name: cell.recipe for cell in cells.cells}
    unfinished: dict[str, Graph] = {}
    missing: set[str] = set()
    broken, task_faults = dict(cells.broken), dict[str, str]()
    for name, graph in cells.graphs.items():
        if not finished_line(runtime.runs / name, recipes[name], graph):
            # Before the stages that cells share: a mistake must not wait for their training.
            if fault := task_fault(recipes[name], graph, store, task_faults):
                broken[name] = fault
                continue
            if foreign := foreign_file_of_run(runtime.runs / name):
                msg = (
                    f"{CELLS}/{name} of this study holds {foreign}, which lingraft did not write, "
                    "and the cell has to run again; move the file away"
                )
                raise StoreError(msg)
            unfinished[name] = graph
            missing |= {node.stage.key for node in graph if not node.is_cached(store)}
            if how.ray is None:  # a machine of the cluster may have the device
                must_build(graph, runtime, store)
    schedule = build_schedule(unfinished, recipes, store)
    titles = {task.name: task.title for task in schedule.tasks}
    finished = len(cells.cells) - len(unfinished) - len(broken)
    log(f"{len(cells.cells)} cells, {finished} finished; {len(missing)} stages to build")

    def log_outcome(outcome: Outcome) -> None:
        result = f"FAILED: {outcome.error}" if outcome.error else duration(outcome.seconds)
        log(f"[{len(schedule.outcomes)}/{len(schedule.tasks)}] {titles[outcome.task]}  {result}")

    if schedule.tasks:
        check_creatable(store.root / "any", option="--store")
        how.executor()(schedule, lambda task: pack_task(task, runtime, write_report), log_outcome)
    outcomes = dict(schedule.outcomes)
    for name, error in broken.items():
        outcomes[name] = Outcome(name, error)
    return outcomes, len(missing)


def task_fault(recipe: Recipe, graph: Graph, store: Store, known: dict[str, str]) -> str:
    """Return what is wrong with the tasks of a cell, "" if nothing is; `known` are earlier checks.

    Many cells have the same tasks, whose check reads their files.
    """
    if all(node.is_cached(store) for node in graph.tasks):
        return ""
    settings = choose_recipe_tasks(recipe).settings
    key = settings.model_dump_json()
    if key not in known:
        try:
            check_tasks(settings)
            known[key] = ""
        except LingraftError as error:
            known[key] = str(error)
    return known[key]


def _description(study: Study) -> dict[str, Any]:
    return {
        "name": study.name,
        "question": study.question,
        "scale": study.scale,
        "recipe": study.recipe,
        "settings": study.settings,
        "axes": list(map(asdict, axes_of(study))),
        "seeds": list(study.seeds),
        "compare": [compared.model_dump() for compared in study.compare],
    }


def _stages(cells: CellGraphs, outcomes: Mapping[str, Outcome], missing: int) -> dict[str, Any]:
    """Return how many stages the cells need, how many of these differ, and what was built."""
    built: list[Built] = []
    for outcome in outcomes.values():
        built += outcome.built
    keys: list[str] = []
    for graph in cells.graphs.values():
        keys += [node.stage.key for node in graph]
    return {
        "asked": len(keys),
        "different": len(set(keys)),
        "missing": missing,
        "built": len(built),
        "built_by_name": dict(Counter(stage.stage for stage in built)),
        "made": list(map(asdict, built)),
    }
