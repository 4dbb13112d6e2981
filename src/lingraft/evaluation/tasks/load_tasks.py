"""What can be told of tasks before anything is run: names, files, data sets, extras.

Task names become lm-eval's own task objects, with their documents.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from lingraft.errors import CorpusError, HubError, MissingExtraError, RecipeError, did_you_mean
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.task_catalogue import FOLDER, Task, expand, find
from lingraft.evaluation.tasks.task_data import Row, local_rows, read_rows, splits_of, unavailable
from lingraft.evaluation.tasks.task_metrics import (
    RankingTask,
    corpus_score,
    last_number,
    shared_words,
    written,
)
from lingraft.evaluation.tasks.task_names import data_of, manager_of, named_families
from lingraft.hub_client import MALFORMED, client_errors
from lingraft.store import digest, file_digest


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
        from lingraft.evaluation.tasks.task_metrics import flores200_model

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
            if (repository.repo_type, repository.repo_id) == (
                "dataset",
                task.hub.id,
            ) and branch in repository.refs:
                return str(repository.refs[branch].commit_hash)
    refusal = ConnectionError("HF_HUB_OFFLINE is set, and the data set is not in the cache")
    raise HubError(unavailable(task, task.hub, refusal))


def task_identity(settings: TaskSettings) -> dict[str, str]:
    """Return what the scores depend on beyond the settings: files by their content, data sets by their commit.

    Local paths may be left out of an address then: a moved file gives the same scores.
    """
    if not settings.names:
        return {}
    identity = {
        "catalogue": digest(
            {path.name: file_digest(path) for path in sorted(FOLDER.glob("*.yaml"))}
        )
    }
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
        identity["tasks_folder"] = digest(
            {
                path.relative_to(folder).as_posix(): file_digest(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        )
    return identity


METRIC = {"aggregation": "mean", "higher_is_better": True}


def load_tasks(settings: TaskSettings, *, seed: int = 0) -> dict[str, Any]:
    """Return lm-eval's tasks by name, groups and tags of lm-eval unfolded; raises what their data raises."""
    loaded: dict[str, Any] = {}
    for name in expand(settings.names):
        task = find(name)
        for found in [own_task(task, settings)] if task else foreign_tasks(name, settings):
            loaded[str(found.task_name)] = _prepared(found, settings, seed)
    return loaded


def _prepared(task: Any, settings: TaskSettings, seed: int) -> Any:
    """Set the number of worked examples and the seed that draws them."""
    if settings.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=settings.num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)
    wanted, sampler = task.get_config("num_fewshot"), getattr(task, "sampler", None)
    same = task.get_config("fewshot_split") == task.get_config("test_split")
    if wanted and sampler is not None and len(sampler.df) < wanted + same:
        left = len(sampler.df) - same
        msg = (
            f"{task.task_name}: {wanted} worked examples are wanted, there are {left} to draw from; "
            f"lower evaluation.tasks.num_fewshot, or give a file of more "
            f"(data: {{TASK: {{test: FILE, shots: FILE}}}})"
        )
        raise CorpusError(msg)
    return task


def own_task(task: Task, settings: TaskSettings) -> Any:
    """Return a task of the catalogue."""
    data = data_of(task.name, settings)
    splits, where = splits_of(task, data), data.model_dump() if data else f"hf:{task.hub.id}"
    config: dict[str, Any] = {
        **task.config,
        "task": task.name,
        "test_split": "test",
        "metadata": {"version": task.version, "reference": task.reference, "data": where},
        "fewshot_split": "shots" if "shots" in splits else "test",
        "custom_dataset": partial(_as_datasets, splits),
    }
    if task.score == "translation":
        config["process_results"] = written(settings.translation_metrics)
        config["metric_list"] = [
            {"metric": name, "aggregation": corpus_score(name), "higher_is_better": True}
            for name in settings.translation_metrics
        ]
    elif task.score == "number":
        config["process_results"] = last_number
        config["metric_list"] = [{"metric": "exact_match", **METRIC}]
    elif task.score == "words":
        config["process_results"] = shared_words
        config["metric_list"] = [{"metric": name, **METRIC} for name in ("exact_match", "f1")]
    built = (RankingTask if task.score == "choice" else ConfigurableTask)(config=config)
    built.set_config(key="custom_dataset", value=None)  # all documents would stand in results.json
    return built


def _as_datasets(splits: dict[str, list[Row]], **_metadata: Any) -> dict[str, Any]:
    return {role: datasets.Dataset.from_list(rows) for role, rows in splits.items()}


def foreign_tasks(name: str, settings: TaskSettings) -> list[Any]:
    """Return the tasks of a name of lm-eval's, or of the user's own folder."""
    manager = manager_of(name, settings.tasks_folder)
    data = data_of(name, settings)
    spec: Any = (
        name
        if data is None
        else _with_files(name, manager, {"test": data.test, "shots": data.shots})
    )
    try:
        loaded = manager.load([spec])
    except (
        Exception
    ) as error:  # whatever the code and the data of fourteen thousand tasks may raise
        reason = f"lm-eval cannot load the task ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        if data is not None:
            msg = f"{name}: {reason}; its own columns are wanted in {data.test}"
            raise CorpusError(msg) from error
        msg = (
            f"{name}: {reason}; where its data set cannot be had, give a local file: "
            f"evaluation.tasks.data: {{{name}: FILE.jsonl}}"
        )
        raise HubError(msg) from error
    tasks = list(loaded["tasks"].values())
    for task in tasks:
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            what = (
                "runs what a model writes"
                if getattr(task, "UNSAFE_CODE", False)
                else "shows images or sound"
            )
            msg = f"{task.task_name}: the task {what}, which is not done here; leave it out"
            raise RecipeError(msg)
    return tasks


def _with_files(name: str, manager: TaskManager, files: dict[str, str | None]) -> dict[str, Any]:
    """Return the task's own configuration, reading its documents from files."""
    from lm_eval.tasks._yaml_loader import load_yaml

    path = manager.task_index[name].yaml_path
    config: dict[str, Any] = load_yaml(path) if path else {}
    scored = config.get("test_split") or config.get("validation_split")
    if not scored or "class" in config:
        msg = f"{name}: only a single task of lm-eval's YAML kind can read a local file; name the tasks of a group"
        raise CorpusError(msg)
    rows = {
        split: read_rows(Path(file).expanduser())
        for split, file in _roles(config, scored, files)
        if file
    }
    for key in ("tag", "group", "dataset_kwargs"):
        config.pop(key, None)
    for key in ("training_split", "validation_split", "fewshot_split"):
        if config.get(key) and config[key] not in rows:
            config[key] = scored if key == "fewshot_split" else None
    source: Callable[..., Any] = partial(_as_datasets, rows)
    return {**config, "custom_dataset": source}


def _roles(
    config: dict[str, Any], scored: str, files: dict[str, str | None]
) -> Sequence[tuple[str, str | None]]:
    shots = (
        config.get("fewshot_split")
        or config.get("training_split")
        or config.get("validation_split")
    )
    return [(str(shots), files["shots"]), (scored, files["test"])]
