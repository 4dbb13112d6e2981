"""The tasks of `evaluation.tasks: auto`: those of a documented list that exist in a language.

The list is auto_tasks.toml: tasks of lingraft and of lm-eval that rank given answers. A task is
chosen if the installed lm-eval has it, and its data are a local file of the settings or can be had
from the Hub. Why a task is left out, or that a language has none, is a line for plan and run. This
module does not import lm-eval.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import langcodes
from langcodes.tag_parser import LanguageTagError

from lingraft.corpus.language import is_domain
from lingraft.evaluation.tasks.config import AUTO, TaskSettings
from lingraft.evaluation.tasks.data_sets import data_set_problem
from lingraft.evaluation.tasks.task_catalogue import families, find_task
from lingraft.evaluation.tasks.task_names import data_of, has_builtin_name

NOT_INSTALLED = "lm-eval is not installed: pip install 'lingraft[eval]'"


@dataclass(frozen=True)
class ListedTask:
    """A task of the list in one language, and the data set that it needs."""

    name: str
    data: str
    revision: str


@dataclass(frozen=True)
class ChosenTasks:
    """Task settings without `auto`, and a line about each language for which it was replaced.

    `unavailable` has the named and listed tasks that cannot be measured here, with the reason.
    """

    settings: TaskSettings
    lines: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)


def choose_tasks(settings: TaskSettings, languages: Sequence[str]) -> ChosenTasks:
    """Return the settings with `auto` replaced by the tasks of the languages.

    Settings without `auto` stay as they are. The Hub is asked which data sets it has.
    """
    named = [name for name in settings.names if name != AUTO]
    unavailable = {} if _is_installed() else dict.fromkeys(named, NOT_INSTALLED)
    if AUTO not in settings.names:
        return ChosenTasks(settings, unavailable=unavailable)
    lines = []
    for language in languages:
        names, line = _choose(settings, language, unavailable)
        named += names
        lines.append(f"tasks in {language} (auto): {line}")
    chosen = settings.model_copy(update={"names": tuple(dict.fromkeys(named))})
    return ChosenTasks(chosen, tuple(lines), unavailable)


def _is_installed() -> bool:
    return find_spec("lm_eval") is not None


def _choose(
    settings: TaskSettings, language: str, unavailable: dict[str, str]
) -> tuple[list[str], str]:
    """Return the names of the tasks in a language, and the line about them.

    Those that are left out are put into `unavailable`.
    """
    if is_domain(language):
        return [], "none, because a domain has no tasks"
    listed = list(listed_tasks(language))
    if not _is_installed():
        unavailable.update((task.name, NOT_INSTALLED) for task in listed)
        return [], f"none, because {NOT_INSTALLED}"
    if not listed:
        return [], "none of the listed tasks has the language; name tasks with their data"
    names: list[str] = []
    downloads: dict[str, None] = {}
    left_out: dict[str, list[str]] = {}
    for task in listed:
        is_local = data_of(task.name, settings) is not None
        problem = _problem(task, is_local=is_local)
        if problem:
            left_out.setdefault(problem, []).append(task.name)
            continue
        names.append(task.name)
        if not is_local:
            downloads[task.data] = None
    parts = [", ".join(names) or "none"]
    if downloads:
        parts.append(f"with data from the Hub: {', '.join(downloads)}")
    for problem, tasks in left_out.items():
        unavailable.update(dict.fromkeys(tasks, problem))
        parts.append(f"left out {', '.join(tasks)} ({problem})")
    return names, "; ".join(parts)


def _problem(task: ListedTask, *, is_local: bool) -> str | None:
    """Return why a task cannot run, `None` if it can."""
    if find_task(task.name) is None and not has_builtin_name(task.name):
        return "not in the installed lm-eval"
    return None if is_local else data_set_problem(task.data, task.revision)


def listed_tasks(language: str) -> Iterator[ListedTask]:
    """Yield the tasks of the list in a language, whatever is installed or can be downloaded.

    >>> [task.name for task in listed_tasks("te")][:2]
    ['belebele-tel_Telu', 'xstorycloze-te']
    """
    for entry in _entries():
        code = _code_for(language, entry["codes"].split())
        if code is not None:
            name = _task_name(entry["name"], code, language)
            yield ListedTask(name, entry["data"], entry.get("revision", "main"))


@cache
def _entries() -> list[dict[str, str]]:
    path = Path(__file__).with_suffix(".toml")
    entries: list[dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8"))["tasks"]
    return entries


def _task_name(template: str, code: str, language: str) -> str:
    """Return the name of a task; an included one is named by the language that its file lists."""
    family = template.partition("-")[0]
    if family in families():
        for known, own_code in families()[family]["lingraft"]["codes"].items():
            is_language = language_and_script(known) == language_and_script(language)
            if own_code == code and is_language:
                return f"{family}-{known}"
    return template.replace("{code}", code)


def _code_for(language: str, codes: Sequence[str]) -> str | None:
    """Return the code of a language among those of a data set, `None` if it has none.

    >>> _code_for("ar", ["ary_Arab", "arb_Arab"]), _code_for("hi-Latn", ["hi"])
    ('arb_Arab', None)
    """
    found = None
    for entry in codes:
        tag, _, code = entry.rpartition("=")
        if (tag or code) == language:
            return code
        if found is None and language_and_script(tag or code) == language_and_script(language):
            found = code
    return found


@cache
def language_and_script(tag: str) -> tuple[str | None, str | None]:
    """Return the language of a tag or data set's code, as a macrolanguage, and its script.

    >>> language_and_script("swh_Latn") == language_and_script("sw") == ("sw", "Latn")
    True
    """
    try:
        likely = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True)).maximize()
    except LanguageTagError:
        return None, None
    return likely.language, likely.script
