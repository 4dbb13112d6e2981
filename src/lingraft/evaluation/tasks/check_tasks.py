"""Checks of task settings before anything runs, and the identity of their data.

Importing this module does not import lm-eval, which is an optional extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from lingraft.errors import CorpusError, HubError, MissingExtraError, RecipeError, did_you_mean
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.data_sets import data_set_commit
from lingraft.evaluation.tasks.task_catalogue import FOLDER, Task, expand_names, find_task
from lingraft.evaluation.tasks.task_data import describe_unavailable
from lingraft.evaluation.tasks.task_names import data_of, find_manager, named_families, quiet
from lingraft.hub_client import MALFORMED, client_errors
from lingraft.store import digest, expanded, file_digest


def check_tasks(settings: TaskSettings) -> None:
    """Check the names and data of the tasks, and that lm-eval and sacrebleu are installed.

    Without task names, nothing is done. Tasks with local files are loaded: documents, templates and
    the number of few-shot examples are then known to fit. For data sets of the Hub, only their
    availability is checked. Raises `RecipeError`, `CorpusError`, `HubError` or `MissingExtraError`.
    """
    if not settings.names:
        return
    for module in ("lm_eval", "sacrebleu"):
        if find_spec(module) is None:
            raise MissingExtraError(module, extra="eval")
    known = named_families(settings)
    # A misspelled name under `data` would otherwise be ignored without a message.
    for name in settings.data:
        if name not in known and name not in expand_names(settings.names):
            nearest = did_you_mean(name, [*known, *settings.names])
            msg = f"evaluation.tasks.data: {name!r} is not among the tasks; {nearest}"
            raise RecipeError(msg)
    for name in expand_names(settings.names):
        task = find_task(name)
        if task is None:
            find_manager(name, settings.tasks_folder)
        else:
            _check_included(task, settings)
    local = [name for name in expand_names(settings.names) if data_of(name, settings)]
    if local:
        from lingraft.evaluation.tasks.load_tasks import load_tasks  # imports lm-eval

        with quiet():
            load_tasks(settings.model_copy(update={"names": tuple(local)}))


def _check_included(task: Task, settings: TaskSettings) -> None:
    """Check that the data set of an included task on the Hub, and spBLEU's model, are available."""
    if task.score == "translation" and "spBLEU" in settings.translation_metrics:
        from lingraft.evaluation.tasks.task_metrics import flores200_model  # imports lm-eval

        flores200_model()
    if data_of(task.name, settings) is None:
        hub_commit(task)


def hub_commit(task: Task) -> str:
    """Return the commit of a task's data set on the Hub; offline, of the cached one.

    Raises `HubError` if it is unavailable.
    """
    try:
        return data_set_commit(task.hub.id, task.hub.revision or "main")
    except client_errors() + MALFORMED as error:
        raise HubError(describe_unavailable(task, task.hub, error)) from None


def task_identity(settings: TaskSettings) -> dict[str, str]:
    """Return the identity of data and code: hashes, commits of Hub data sets, package versions.

    It enters the key of the stage output instead of local paths, so a moved file changes no key.
    """
    if not settings.names:
        return {}
    # The catalogue counts whole: a change in any of its files may change prompts or scores.
    catalogue = {path.name: file_digest(path) for path in sorted(FOLDER.glob("*.yaml"))}
    tasks = [find_task(name) for name in expand_names(settings.names)]
    identity = {"catalogue": digest(catalogue), **_versions(tasks)}
    for task in filter(None, tasks):
        if data_of(task.name, settings) is None:
            identity[f"hf:{task.hub.id}"] = hub_commit(task)
    return identity | task_files(settings)


def task_files(settings: TaskSettings) -> dict[str, str]:
    """Return the hashes of the user's files of tasks; raises `CorpusError` for a missing one."""
    identity = {}
    for name, data in settings.data.items():
        for role, path in (("test", data.test), ("shots", data.shots)):
            if path:
                file = expanded(path)
                if not file.is_file():
                    msg = (
                        f"evaluation.tasks.data: {path} is not a file; "
                        f"expected the {role} documents of {name}"
                    )
                    raise CorpusError(msg)
                identity[f"{name} {role}"] = file_digest(file)
    if settings.tasks_folder:
        folder = expanded(settings.tasks_folder)
        digests = {}
        # All files, because a YAML file may name Python files and data next to it.
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                digests[file.relative_to(folder).as_posix()] = file_digest(file)
        identity["tasks_folder"] = digest(digests)
    return identity


def _versions(tasks: Sequence[Task | None]) -> dict[str, str]:
    """Return the versions of the packages that score the tasks; a new one may score otherwise.

    Where a package is missing, scores that were stored with it are not found.

    None is a task of lm-eval, which may score with sacrebleu, too. A package that is not installed
    has no version: `check_tasks` reports it before a task runs.
    """
    packages = ["lm_eval"]
    if any(task is None or task.score == "translation" for task in tasks):
        packages.append("sacrebleu")
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
