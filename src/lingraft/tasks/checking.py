"""What can be told of tasks before anything is run: names, files, data sets, extras."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from lingraft.errors import CorpusError, HubError, MissingExtraError, RecipeError, did_you_mean
from lingraft.store import digest, file_digest
from lingraft.tasks.catalogue import FOLDER, Task, expand, find
from lingraft.tasks.data import fitted, read_rows, unavailable
from lingraft.tasks.names import data_of, manager_of, named_families
from lingraft.tasks.settings import TaskSettings


def check_tasks(settings: TaskSettings) -> None:
    """Refuse what cannot work: a name that is not known, data that cannot be had, a missing extra.

    Does nothing, and imports nothing heavy, where no tasks are named. Local files of the catalogue's tasks are read
    and fitted to their task; a hub is asked whether it has the data set. Raises `RecipeError`, `CorpusError`,
    `HubError` or `MissingExtraError`.
    """
    if not settings.names:
        return
    for module in ("lm_eval", "sacrebleu"):
        if find_spec(module) is None:
            raise MissingExtraError(module, extra="eval")
    known = named_families(settings)
    for name in settings.data:
        if name not in known and name not in expand(settings.names):
            nearest = did_you_mean(name, [*known, *settings.names])
            msg = f"evaluation.tasks.data: {name!r} is not among the tasks; {nearest}"
            raise RecipeError(msg)
    for name in expand(settings.names):
        task = find(name)
        if task is None:
            manager_of(name, settings.tasks_folder)
        else:
            _check_own(task, settings)


def _check_own(task: Task, settings: TaskSettings) -> None:
    data = data_of(task.name, settings)
    if task.score == "translation" and "spBLEU" in settings.translation_metrics:
        from lingraft.tasks.spm import flores200_model

        flores200_model()
    if data is None:
        _check_hub(task)
        return
    for path in filter(None, (data.test, data.shots)):
        fitted(task, read_rows(Path(path).expanduser(), task.columns), path)


def _check_hub(task: Task) -> None:
    """Ask the hub for the data set; one that is in the cache already needs no asking."""
    from huggingface_hub import HfApi, constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        if any(repo.repo_id == task.hub.id and repo.repo_type == "dataset" for repo in scan_cache_dir().repos):
            return
    except CacheNotFound:
        pass
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_DATASETS_OFFLINE"):
        raise HubError(unavailable(task, task.hub, ConnectionError("HF_HUB_OFFLINE is set, so the hub is not asked")))
    try:
        HfApi().dataset_info(task.hub.id, revision=task.hub.revision, timeout=20)
    except Exception as error:  # noqa: BLE001 - of whichever HTTP client the hub's library has today
        raise HubError(unavailable(task, task.hub, error)) from None


def task_identity(settings: TaskSettings) -> dict[str, str]:
    """Return what the scores depend on beyond the settings: files by their content, and the tasks' own texts."""
    if not settings.names:
        return {}
    identity = {"catalogue": digest({path.name: file_digest(path) for path in sorted(FOLDER.glob("*.yaml"))})}
    for name, data in settings.data.items():
        for role, path in (("test", data.test), ("shots", data.shots)):
            if path:
                file = Path(path).expanduser()
                if not file.is_file():
                    msg = f"evaluation.tasks.data: {path} is no file; expected the {role} documents of {name}"
                    raise CorpusError(msg)
                identity[f"{name} {role}"] = file_digest(file)
    if settings.tasks_folder:
        folder = Path(settings.tasks_folder).expanduser()
        identity["tasks_folder"] = digest({path.relative_to(folder).as_posix(): file_digest(path)
                                           for path in sorted(folder.rglob("*")) if path.is_file()})
    return identity
