"""Task objects of lm-eval with their documents.

A task is an included one, one of lm-eval, or one from the user's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import datasets
from jinja2 import TemplateError
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from lingraft.errors import CorpusError, HubError, RecipeError, one_line
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.task_catalogue import Task, expand_names, find_task
from lingraft.evaluation.tasks.task_data import (
    Record,
    read_file,
    read_splits,
)
from lingraft.evaluation.tasks.task_metrics import (
    RankingTask,
    corpus_score,
    keep_answers,
    last_number,
    shared_words,
)
from lingraft.evaluation.tasks.task_names import data_of, find_manager
from lingraft.store import expanded

MEAN_METRIC = {"aggregation": "mean", "higher_is_better": True}


def load_tasks(settings: TaskSettings, *, seed: int = 0) -> dict[str, Any]:
    """Return lm-eval's task objects by name; a group or tag of lm-eval is replaced by its tasks.

    Raises `CorpusError` or `HubError` for data that is missing or unreadable.
    """
    loaded: dict[str, Any] = {}
    for name in expand_names(settings.names):
        task = find_task(name)
        objects = [build_task(task, settings)] if task else load_other_tasks(name, settings)
        for task_object in objects:
            loaded[str(task_object.task_name)] = _set_fewshot(task_object, settings, seed)
    return loaded


def _set_fewshot(task: Any, settings: TaskSettings, seed: int) -> Any:
    """Set the number of few-shot examples and the seed that determines them; return the task.

    Raises `CorpusError` if there are too few examples.
    """
    if settings.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=settings.num_fewshot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)
    wanted, sampler = task.get_config("num_fewshot"), getattr(task, "sampler", None)
    # Examples from the scored split are never the scored document itself, so one more is needed.
    same = task.get_config("fewshot_split") == task.get_config("test_split")
    if wanted and sampler is not None and len(sampler.df) < wanted + same:
        left = len(sampler.df) - same
        msg = (
            f"{task.task_name}: {wanted} few-shot examples are wanted, but there are only {left}; "
            f"lower evaluation.tasks.num_fewshot, or give a file with more "
            f"(data: {{TASK: {{test: FILE, shots: FILE}}}})"
        )
        raise CorpusError(msg)
    return task


def build_task(task: Task, settings: TaskSettings) -> Any:
    """Return lm-eval's object for an included task, with its documents."""
    data = data_of(task.name, settings)
    splits, where = read_splits(task, data), data.model_dump() if data else f"hf:{task.hub.id}"
    # lm-eval reads documents from `custom_dataset` without asking a hub.
    config: dict[str, Any] = {
        **task.config,
        "task": task.name,
        "test_split": "test",
        "metadata": {"version": task.version, "reference": task.reference, "data": where},
        "fewshot_split": "shots" if "shots" in splits else "test",
        "custom_dataset": partial(_as_datasets, splits),
    }
    if task.score == "translation":
        config["process_results"] = keep_answers(settings.translation_metrics)
        config["metric_list"] = [
            {"metric": name, "aggregation": corpus_score(name), "higher_is_better": True}
            for name in settings.translation_metrics
        ]
    elif task.score == "number":
        config["process_results"] = last_number
        config["metric_list"] = [{"metric": "exact_match", **MEAN_METRIC}]
    elif task.score == "words":
        config["process_results"] = shared_words
        config["metric_list"] = [
            {"metric": "exact_match", **MEAN_METRIC},
            {"metric": "f1", **MEAN_METRIC},
        ]
    kind = RankingTask if task.score == "choice" else ConfigurableTask
    try:
        built = kind(config=config)  # fills the templates with the first document
    except TemplateError as error:
        raise CorpusError(describe_document_fault(task.name, error)) from error
    built.set_config(key="custom_dataset", value=None)  # results.json would hold all documents
    return built


def describe_document_fault(name: str, error: Exception) -> str:
    """Return the message that a document has not what the templates of a task need."""
    return (
        f"{name}: a document does not fit the task's template ({one_line(error)}); check the "
        "columns of its data"
    )


def _as_datasets(splits: dict[str, list[Record]], **_metadata: Any) -> dict[str, Any]:
    # lm-eval calls this function with the metadata of the task.
    return {role: datasets.Dataset.from_list(records) for role, records in splits.items()}


def load_other_tasks(name: str, settings: TaskSettings) -> list[Any]:
    """Return the tasks that a name of lm-eval or of the user's folder stands for.

    Raises `CorpusError` if a local file does not fit, and `HubError` if a task cannot be loaded.
    """
    manager = find_manager(name, settings.tasks_folder)
    data = data_of(name, settings)
    spec: Any = name
    if data is not None:
        spec = _with_files(name, manager, {"test": data.test, "shots": data.shots})
    try:
        loaded = manager.load([spec])
    # Tasks are code and data of many authors, which can raise any exception.
    except Exception as error:
        reason = f"lm-eval cannot load the task ({type(error).__name__}: {one_line(error)})"
        if data is not None:
            msg = f"{name}: {reason}; check that {data.test} has the columns of its data set"
            raise CorpusError(msg) from error
        msg = (
            f"{name}: {reason}; if its data set is unavailable, give a local file: "
            f"evaluation.tasks.data: {{{name}: FILE.jsonl}}"
        )
        raise HubError(msg) from error
    tasks = list(loaded["tasks"].values())
    for task in tasks:
        _refuse_unsupported(task)
    return tasks


def _refuse_unsupported(task: Any) -> None:
    """Raise `RecipeError` for a task that runs generated code or is not about text."""
    reason = ""
    if getattr(task, "MULTIMODAL", False):
        reason = "shows images or sound"
    if getattr(task, "UNSAFE_CODE", False):
        reason = "runs code that a model writes"
    if reason:
        msg = f"{task.task_name}: the task {reason}, which is not supported; leave it out"
        raise RecipeError(msg)


def _with_files(name: str, manager: TaskManager, files: dict[str, str | None]) -> dict[str, Any]:
    """Return the configuration of a task of lm-eval, with its documents read from files."""
    path = manager.task_index[name].yaml_path
    config: dict[str, Any] = load_yaml(path) if path else {}
    scored = config.get("test_split") or config.get("validation_split")
    if not scored or "class" in config:
        msg = (
            f"{name}: only a single task in lm-eval's YAML format can read a local file; "
            "name the tasks of a group one by one"
        )
        raise CorpusError(msg)
    records = {}
    for split, file in _files_by_split(config, scored, files):
        if file:
            records[split] = read_file(expanded(file))
    # These keys concern groups of tasks and the data set on the Hub, which is not read.
    for key in ("tag", "group", "dataset_kwargs"):
        config.pop(key, None)
    # lm-eval would look for every split that the configuration names.
    for key in ("training_split", "validation_split", "fewshot_split"):
        if config.get(key) and config[key] not in records:
            config[key] = scored if key == "fewshot_split" else None
    source: Callable[..., Any] = partial(_as_datasets, records)
    return {**config, "custom_dataset": source}


def _files_by_split(
    config: dict[str, Any], scored: str, files: dict[str, str | None]
) -> Sequence[tuple[str, str | None]]:
    """Return pairs of a split and its file.

    The scored split comes last: if examples come from it too, its file replaces theirs.
    """
    shots = (
        config.get("fewshot_split")
        or config.get("training_split")
        or config.get("validation_split")
    )
    return [(str(shots), files["shots"]), (scored, files["test"])]
