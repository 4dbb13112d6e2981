"""lm-eval, datasets and transformers without their own bars, warnings and log lines; what counts is in our results.

Which names there are beyond the catalogue: lm-eval's own, and those of the user's folder.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.evaluation.tasks.config import TaskData, TaskSettings
from lingraft.evaluation.tasks.task_catalogue import expand, families, find, known_names

LOUD = (
    "lm_eval",
    "lm-eval",
    "datasets",
    "transformers",
    "sacrebleu",
    "evaluate",
    "accelerate",
    "huggingface_hub",
    "httpx",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep other libraries silent while the block runs, and put everything back after it."""
    from tqdm import std

    levels = {name: logging.getLogger(name).level for name in LOUD}
    begin = std.tqdm.__init__
    try:
        for name in LOUD:
            logging.getLogger(name).setLevel(logging.ERROR)
        std.tqdm.__init__ = lambda bar, *values, **settings: begin(
            bar, *values, **{**settings, "disable": True}
        )
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        std.tqdm.__init__ = begin
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


NAME = re.compile(
    r"""^["']?(task|group|tag)["']?: *[\["']?([^"'\]#\n]+)|^ *- ["']?([\w.+-]+)["']? *$""",
    re.MULTILINE,
)


def data_of(name: str, settings: TaskSettings) -> TaskData | None:
    """Return the local files of a task: its own, or those of its family."""
    own = settings.data.get(name)
    return (
        own if own is not None or find(name) is None else settings.data.get(name.partition("-")[0])
    )


def manager_of(name: str, folder: str | None) -> Any:
    """Return an lm-eval TaskManager that knows the name; raises `RecipeError` with the nearest known one.

    lm-eval parses some fourteen thousand files to know all its names (7 s of CPU); their lines are looked through in
    half a second, and for a single task only its own folder is parsed.
    """
    own = _manager(folder, None) if folder else None
    if own is not None and name in own.all_tasks:
        return own
    builtin = _builtin()
    if name not in builtin:
        known = [*known_names(), *(own.all_tasks if own else []), *builtin]
        nearest = difflib.get_close_matches(name, known, n=1)
        mistake = f"did you mean {nearest[0]!r}? " if nearest else ""
        msg = (
            f"there is no task called {name!r}; {mistake}the tasks that come along are FAMILY-LANGUAGE with the "
            f"families {', '.join(families())}; those of lm-eval are listed by: lm-eval ls tasks"
        )
        raise RecipeError(msg)
    parent = builtin[name]
    single = _manager(folder, str(parent)) if parent else None
    return single if single is not None and name in single.all_subtasks else _manager(folder, "")


@cache
def _manager(own: str | None, builtin: str | None) -> Any:
    """Index the user's folder and one folder of lm-eval's (`""` for all of them)."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingExtraError("lm_eval", extra="eval") from error

    if own is not None and not Path(own).expanduser().is_dir():
        msg = f"evaluation.tasks.tasks_folder: {own} is no folder; expected one with YAML files of lm-eval's format"
        raise RecipeError(msg)
    folders = [str(Path(own).expanduser())] if own else []
    with quiet():
        return TaskManager(
            include_path=[*folders, *([builtin] if builtin else [])], include_defaults=builtin == ""
        )


@cache
def _builtin() -> dict[str, Path | None]:
    """Return every word in lm-eval's files that may be a name, with the folder of the task that it names."""
    from importlib.util import find_spec

    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("lm_eval", extra="eval")
    names: dict[str, Path | None] = {}
    for path in (Path(spec.submodule_search_locations[0]) / "tasks").rglob("*"):
        if path.suffix in {".py", ".pyc", ".md", ".txt", ".json", ".jsonl"} or not path.is_file():
            continue
        for kind, named, listed in NAME.findall(path.read_text(encoding="utf-8", errors="replace")):
            for name in (named or listed).replace(",", " ").split():
                names[name] = path.parent if kind == "task" else names.get(name)
    return names


def named_families(settings: TaskSettings) -> dict[str, list[str]]:
    """Return the named tasks by family; those beyond the catalogue are their own family."""
    result: dict[str, list[str]] = {}
    for name in expand(settings.names):
        task = find(name)
        result.setdefault(task.family if task else name, []).append(name)
    return result
