"""Which names there are beyond the catalogue: lm-eval's own, and those of the user's folder."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError, did_you_mean
from lingraft.tasks.catalogue import expand, families, find, known_names
from lingraft.tasks.settings import TaskData, TaskSettings


def data_of(name: str, settings: TaskSettings) -> TaskData | None:
    """Return the local files of a task: its own, or those of its family."""
    own = settings.data.get(name)
    return own if own is not None or find(name) is None else settings.data.get(name.partition("-")[0])


def manager_of(name: str, folder: str | None) -> Any:
    """Return an lm-eval TaskManager that knows the name; raises `RecipeError` with the nearest known one.

    lm-eval reads some fourteen thousand files to know all its names (6 s), so a single task is looked for among
    the lines that name tasks first, and only its own folder is read.
    """
    single = _folder_of(name)
    for manager in ([_manager(folder, None)] if folder else []) + ([_manager(folder, single)] if single else []):
        if name in manager.all_subtasks:
            return manager
    manager = _manager(folder, "")
    if name in manager.all_tasks:
        return manager
    nearest = did_you_mean(name, [*known_names(), *manager.all_tasks])
    mistake = nearest.split(";")[0].split("?")[0] + "; " if nearest.startswith("did you mean") else ""
    msg = (f"there is no task called {name!r}; {mistake}the tasks that come along are FAMILY-LANGUAGE with "
           f"{', '.join(families())}; those of lm-eval: lm-eval ls tasks")
    raise RecipeError(msg)


@cache
def _manager(own: str | None, builtin: str | None) -> Any:
    """Index the user's folder and one folder of lm-eval's (`""` for all of them)."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingExtraError("lm_eval", extra="eval") from error
    from lingraft.tasks.quiet import quiet

    if own is not None and not Path(own).expanduser().is_dir():
        msg = f"evaluation.tasks.tasks_folder: {own} is no folder; expected one with YAML files of lm-eval's format"
        raise RecipeError(msg)
    folders = [str(Path(own).expanduser())] if own else []
    with quiet():
        return TaskManager(include_path=[*folders, *([builtin] if builtin else [])], include_defaults=builtin == "")


@cache
def _folder_of(name: str) -> str | None:
    """Return the folder of lm-eval's whose files name this task."""
    from importlib.util import find_spec

    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("lm_eval", extra="eval")
    line = re.compile(rf"^task: *[\"']?{re.escape(name)}[\"']? *$", re.MULTILINE)
    for path in sorted((Path(spec.submodule_search_locations[0]) / "tasks").rglob("*.yaml")):
        if line.search(path.read_text(encoding="utf-8", errors="replace")):
            return str(path.parent)
    return None


def named_families(settings: TaskSettings) -> dict[str, list[str]]:
    """Return the named tasks by family; those beyond the catalogue are their own family."""
    result: dict[str, list[str]] = {}
    for name in expand(settings.names):
        task = find(name)
        result.setdefault(task.family if task else name, []).append(name)
    return result
