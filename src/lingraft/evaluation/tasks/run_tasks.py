"""Running tasks on a model: lm-eval asks and scores, what comes back is written down and measured.

`results.json` has the shape of lm-eval's own; `samples.jsonl` holds every document with its prompt, what the model
answered and its score. Contexts, answers and scores do not depend on the order of tasks or on the batch.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from lm_eval.evaluator import evaluate
from lm_eval.utils import handle_non_serializable

from lingraft.errors import CorpusError
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.load_tasks import load_tasks
from lingraft.evaluation.tasks.task_catalogue import find
from lingraft.evaluation.tasks.task_measurements import rows_of
from lingraft.evaluation.tasks.task_metrics import seen_in
from lingraft.evaluation.tasks.task_names import quiet
from lingraft.measurement import Measurement

Texts = Callable[[], Iterable[str]]


def evaluate_tasks(
    lm: Any,
    settings: TaskSettings,
    output: Path,
    *,
    subject: str,
    seed: int = 0,
    training_texts: Texts | None = None,
) -> list[Measurement]:
    """Run the named tasks on any model of lm-eval's kind; see `run_tasks`."""
    with quiet():
        tasks = load_tasks(settings, seed=seed)
    seen = (
        {}
        if training_texts is None or settings.contaminated == "ignore"
        else _seen(tasks, settings, training_texts)
    )
    results: dict[str, Any] = {}
    rows: list[Measurement] = []
    for name, task in tasks.items():
        lm.incidents = Counter()
        part = _evaluated(lm, name, task, settings.limit, seed)
        part["incidents"] = {name: dict(lm.incidents)}
        with quiet():
            rows += rows_of(
                name,
                task,
                part["samples"][name],
                settings,
                subject,
                seen=seen.get(name),
                incidents=lm.incidents,
            )
        for key, value in part.items():
            results.setdefault(key, {}).update(value or {})
    _write(results, lm, output, settings, subject=subject, seed=seed, seen=seen)
    return rows


def _evaluated(lm: Any, name: str, task: Any, limit: int | None, seed: int) -> dict[str, Any]:
    """Run one task; tasks by themselves, so that what happened on the way is known for each."""
    try:
        with quiet(), _seeded(seed):
            part: dict[str, Any] = evaluate(
                lm, {"tasks": {name: task}}, limit=limit, bootstrap_iters=0, log_samples=True
            )  # intervals are in our rows
    except (TemplateError, KeyError) as error:
        msg = (
            f"{name}: a document does not fit the task's template ({' '.join(str(error).split())}); look at the "
            f"columns of its data"
        )
        raise CorpusError(msg) from error
    return part


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what tasks draw from while the block runs, and leave the generators as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that lm-eval's tasks draw from
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _seen(
    tasks: Mapping[str, Any], settings: TaskSettings, texts: Texts
) -> dict[str, tuple[int, int, int]]:
    """Look for the documents in the training text; return (seen, looked for, too short) by task."""
    queries = [
        (name, number, _query(name, task, doc))
        for name, task in tasks.items()
        for number, doc in enumerate(_first(task.eval_docs, settings.limit))
    ]
    found = seen_in([query for _, _, query in queries], texts())
    counts: dict[str, tuple[int, int, int]] = {}
    for name, task in tasks.items():
        own = [place for (owner, _, _), place in zip(queries, found, strict=True) if owner == name]
        counts[name] = (
            sum(bool(place) for place in own),
            sum(place is not None for place in own),
            own.count(None),
        )
        if settings.contaminated == "drop" and counts[name][0]:
            _keep(name, task, [number for number, place in enumerate(own) if not place])
    return counts


def _first(documents: Any, limit: int | None) -> Any:
    return _chosen(documents, range(min(limit, len(documents)))) if limit else documents


def _chosen(documents: Any, numbers: Sequence[int]) -> Any:
    """Return these documents of a data set, or of a list as lm-eval's tasks in Python may have."""
    return (
        documents.select(numbers)
        if hasattr(documents, "select")
        else [documents[number] for number in numbers]
    )


def _query(name: str, task: Any, doc: Mapping[str, Any]) -> str:
    """Return the text of a document that is looked for."""
    own = find(name)
    if own is not None:
        return " ".join(str(doc[field]) for field in own.checked)
    query = (
        task.doc_to_decontamination_query(doc)
        if task.should_decontaminate()
        else task.doc_to_text(doc)
    )
    return str(query)


def _keep(name: str, task: Any, numbers: list[int]) -> None:
    """Leave only these documents to be scored."""
    if not numbers:
        msg = f"{name}: every document stands in the training text, set contaminated: count, or other data"
        raise CorpusError(msg)
    kept = _chosen(task.eval_docs, numbers)
    setattr(task, "test_docs" if task.has_test_docs() else "validation_docs", lambda: kept)


def _write(
    results: dict[str, Any], lm: Any, output: Path, settings: TaskSettings, **facts: Any
) -> None:
    from importlib.metadata import version

    output.mkdir(parents=True, exist_ok=True)
    samples = results["samples"]
    config = {
        "model": type(lm).__name__,
        "limit": settings.limit,
        "fewshot_seed": facts["seed"],
        "lingraft": {**settings.model_dump(mode="json"), **facts},
        **(lm.get_model_info() if hasattr(lm, "get_model_info") else {}),
    }
    shown = {
        **{key: value for key, value in results.items() if key != "samples"},
        "config": config,
        "lm_eval_version": version("lm_eval"),
    }
    text = json.dumps(shown, indent=2, ensure_ascii=False, default=handle_non_serializable)
    (output / "results.json").write_text(text + "\n", encoding="utf-8")
    with (output / "samples.jsonl").open("w", encoding="utf-8") as file:
        for name, rows in samples.items():
            for row in rows:
                line = json.dumps(
                    {"task": name, **row}, ensure_ascii=False, default=handle_non_serializable
                )
                file.write(line + "\n")
