"""`lingraft.study`: a study from Python, as `lingraft study` runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.library.arguments import (
    argument_names,
    assignments,
    check_number,
    given_path,
    given_store,
    plain_value,
)
from lingraft.progress import LogLine, say, send_lines_to
from lingraft.recipe import Runtime
from lingraft.recipe.tree import Tree
from lingraft.report import write_report, write_study_report
from lingraft.studies import StudyFolder, StudyRuntime, read_study, run_study
from lingraft.studies.study_command import raise_for_failures
from lingraft.studies.study_file import parse_study


def study(
    definition: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
    store: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    precision: str = "auto",
    log: LogLine | None = None,
) -> StudyFolder:
    """Run a recipe for every combination of axis values and seeds, and compare the runs.

    Stages that several cells share are computed once. A finished study is returned at once, and the
    same call runs only what is missing.

    Args:
        definition: a study, as a YAML file or as a mapping with the same content. Paths in a file
            are relative to the file, those in a mapping to the current directory.
        overrides: changes of the study (`{"seeds": [0, 1, 2]}`), of the values of an axis, or of a
            setting of the recipe in every cell, by their dotted path.
        workers: how many cells or stages run at a time, each in a process of its own if above 1.
        store: where finished stages are cached (default: LINGRAFT_STORE, or `runs/.store`).
        runs: the folder that receives the study.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, float32, bfloat16 or tf32.
        log: receives each line of progress and each warning. By default, they go to standard error.

    Returns:
        The finished study: `table()` and `to_pandas()` have all measurements of all cells,
        `differences()` the paired differences, and `cell(name)` is the run folder of a cell.

    Raises:
        StudyError: if cells failed; its attribute `study` has the results of the others.
        LingraftError: for a study that is not valid.
    """
    changes = assignments(overrides, "overrides")
    check_number(workers, "workers", at_least=1)
    if not isinstance(definition, str | os.PathLike | Mapping):
        msg = f"definition: of type {type(definition).__name__}; give a study file or a mapping"
        raise RecipeError(msg)
    places = (given_path(runs, "runs"), given_store(store))
    with send_lines_to(log), argument_names(study):
        how = StudyRuntime(Runtime(*places, str(device), str(precision)), workers)
        if isinstance(definition, Mapping):
            folder = Path()
            tree = Tree(plain_value(dict(definition), "definition"))
            chosen = parse_study(tree, folder / "study", changes)
        else:
            file = given_path(definition, "definition")
            folder = file.parent
            chosen = read_study(file, changes)
        finished = run_study(chosen, how, write_report=write_report, folder=folder, log=say)
        write_study_report(finished.folder)
    raise_for_failures(finished)
    return finished
