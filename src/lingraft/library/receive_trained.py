"""`lingraft.receive`: a model that another engine trained becomes a run, as with the command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.library.arguments import (
    argument_names,
    assignments,
    check_path,
    given_path,
    given_store,
)
from lingraft.pipeline import Run
from lingraft.progress import LogLine, say, send_lines_to
from lingraft.recipe import Runtime
from lingraft.report import write_report
from lingraft.store import expanded
from lingraft.trainers.origin import store_of
from lingraft.trainers.receive_model import Origin, receive_model


def receive(
    folder: str | os.PathLike[str],
    run: str | os.PathLike[str] | Run,
    *,
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    log: LogLine | None = None,
) -> Run:
    """Check a model that another engine trained, measure it and report on it as a run.

    Args:
        folder: the Hugging Face checkpoint that the engine wrote; it is only read.
        run: what it was trained from: the folder of a hand-over, a finished run (a folder, or a
            `Run`), or a recipe file.
        name: the name of the new run (default: that of `run`, followed by -received).
        overrides: other settings of a recipe file by their dotted path.
        store: where finished stages are cached (default: that of `run`, LINGRAFT_STORE, or
            `runs/.store`).
        runs: the folder of all run folders.
        device: auto, cpu, cuda, cuda:1 or mps.
        log: receives each line of progress and each warning, by default on standard error.

    Returns:
        The finished run, with its model, measurements and report.

    Raises:
        LingraftError: with one line that says which fault refuses the checkpoint, and its cure.
    """
    changes = assignments(overrides, "overrides")
    given = run.folder if isinstance(run, Run) else run
    check_path(given, "run", "a path, or a Run")
    trained, place = given_path(folder, "folder"), given_path(runs, "runs")
    stored = given_store(store)
    if name is not None and not isinstance(name, str):
        msg = f"name: of type {type(name).__name__}; give the name of a run folder"
        raise RecipeError(msg)
    with send_lines_to(log), argument_names(receive):
        path = expanded(Path(given))
        origin = Origin.find(path, changes)
        runtime = Runtime(place, stored if store else store_of(path), str(device))
        return receive_model(
            trained, origin, runtime, write_report=write_report, name=name, log=say
        )
