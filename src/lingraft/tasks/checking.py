"""What can be told of tasks before anything is run: names, files, data sets, extras."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path

from lingraft.errors import CorpusError, HubError, MissingExtraError, RecipeError, did_you_mean
from lingraft.hub_client import MALFORMED, client_errors
from lingraft.store import digest, file_digest
from lingraft.tasks.catalogue import FOLDER, Task, expand, find
from lingraft.tasks.data import local_rows, unavailable
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
        hub_commit(task)
        return
    for path in filter(None, (data.test, data.shots)):
        local_rows(task, path)


def hub_commit(task: Task) -> str:
    """Return the commit of a task's data set: the hub's, or offline that of the cache; raises `HubError`."""
    from huggingface_hub import HfApi, constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    branch = task.hub.revision or "main"
    if not constants.HF_HUB_OFFLINE:
        try:
            found = HfApi().dataset_info(task.hub.id, revision=branch, timeout=20)
            if found.gated:
                HfApi().auth_check(task.hub.id, repo_type="dataset")
            return str(found.sha)
        except client_errors() + MALFORMED as error:
            raise HubError(unavailable(task, task.hub, error)) from None
    with contextlib.suppress(CacheNotFound):
        for repository in scan_cache_dir().repos:
            if (repository.repo_type, repository.repo_id) == ("dataset", task.hub.id) and branch in repository.refs:
                return str(repository.refs[branch].commit_hash)
    refusal = ConnectionError("HF_HUB_OFFLINE is set, and the data set is not in the cache")
    raise HubError(unavailable(task, task.hub, refusal))


def task_identity(settings: TaskSettings) -> dict[str, str]:
    """Return what the scores depend on beyond the settings: files by their content, data sets by their commit.

    Local paths may be left out of an address then: a moved file gives the same scores.
    """
    if not settings.names:
        return {}
    identity = {"catalogue": digest({path.name: file_digest(path) for path in sorted(FOLDER.glob("*.yaml"))})}
    for task in filter(None, map(find, expand(settings.names))):
        if data_of(task.name, settings) is None:
            identity[f"hf:{task.hub.id}"] = hub_commit(task)
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
