"""Task names that are not in the catalogue: those of lm-eval and those of the user's folder.

`quiet` silences lm-eval, datasets and transformers: their progress bars, warnings and log lines
would hide those of lingraft. Everything that matters is in the results.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.evaluation.tasks.config import TaskData, TaskSettings
from lingraft.evaluation.tasks.task_catalogue import expand_names, families, find_task, known_names
from lingraft.store import expanded

NOISY_LOGGERS = (
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
    """Silence other libraries while the block runs, and restore everything after it."""
    from tqdm import std

    levels = {}
    original = std.tqdm.__init__
    try:
        for name in NOISY_LOGGERS:
            levels[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.ERROR)
        # Their bars have no switch in common; each of them is a subclass of this tqdm.
        std.tqdm.__init__ = lambda bar, *values, **settings: original(
            bar, *values, **{**settings, "disable": True}
        )
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        std.tqdm.__init__ = original
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


NAME_LINE = re.compile(
    r"""^["']?(task|group|tag)["']?: *[\["']?([^"'\]#\n]+)|^ *- ["']?([\w.+-]+)["']? *$""",
    re.MULTILINE,
)
"""A line of YAML that may hold names: `task: NAME`, `group:`, `tag:` (also lists), or `- NAME`."""


def data_of(name: str, settings: TaskSettings) -> TaskData | None:
    """Return the local files of a task: its own, or those of its family; `None` without any."""
    own = settings.data.get(name)
    if own is None and find_task(name) is not None:
        return settings.data.get(name.partition("-")[0])
    return own


def find_manager(name: str, folder: str | None) -> Any:
    """Return an lm-eval `TaskManager` that knows a task, group or tag of this name.

    Raises `RecipeError` with the nearest known name if there is none.
    """
    # lm-eval parses about 14,000 files to know all its names (7 s of CPU). Searching their lines
    # takes half a second, and then only the folder of the task is parsed.
    own = _manager(folder, None) if folder else None
    if own is not None and name in own.all_tasks:
        return own
    builtin = _builtin_names()
    if name not in builtin:
        known = [*known_names(), *(own.all_tasks if own else []), *builtin]
        nearest = difflib.get_close_matches(name, known, n=1)
        mistake = f"did you mean {nearest[0]!r}? " if nearest else ""
        msg = (
            f"there is no task called {name!r}; {mistake}included tasks are FAMILY-LANGUAGE "
            f"with the families {', '.join(families())}; `lm-eval ls tasks` lists those of lm-eval"
        )
        raise RecipeError(msg)
    # A word in a file need not be a name. So if one folder is not enough, all are parsed.
    parent = builtin[name]
    single = _manager(folder, str(parent)) if parent else None
    return single if single is not None and name in single.all_subtasks else _manager(folder, "")


@cache
def _manager(own: str | None, builtin: str | None) -> Any:
    """Index the user's folder and one folder of lm-eval (`""` for all of them)."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingExtraError("lm_eval", extra="eval") from error

    if own is not None and not expanded(own).is_dir():
        msg = (
            f"evaluation.tasks.tasks_folder: {own} is not a folder; "
            "expected one with YAML files in lm-eval's format"
        )
        raise RecipeError(msg)
    folders = [str(expanded(own))] if own else []
    with quiet():
        return TaskManager(
            include_path=[*folders, *([builtin] if builtin else [])], include_defaults=builtin == ""
        )


@cache
def _builtin_names() -> dict[str, Path | None]:
    """Return every word in lm-eval's files that may be a name, with its folder if it is a task."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("lm_eval", extra="eval")
    names: dict[str, Path | None] = {}
    for path in (Path(spec.submodule_search_locations[0]) / "tasks").rglob("*"):
        if path.suffix in {".py", ".pyc", ".md", ".txt", ".json", ".jsonl"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for kind, named, listed in NAME_LINE.findall(text):
            for name in (named or listed).replace(",", " ").split():
                names[name] = path.parent if kind == "task" else names.get(name)
    return names


def has_builtin_name(name: str) -> bool:
    """Return whether the installed lm-eval has a task of this name."""
    return _builtin_names().get(name) is not None


def named_families(settings: TaskSettings) -> dict[str, list[str]]:
    """Return the task names by family; a task outside the catalogue is its own family."""
    result: dict[str, list[str]] = {}
    for name in expand_names(settings.names):
        task = find_task(name)
        result.setdefault(task.family if task else name, []).append(name)
    return result
