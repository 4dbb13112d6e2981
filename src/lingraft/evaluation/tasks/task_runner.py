"""Runs tasks on a model: lm-eval builds requests and scores answers, which are stored and measured.

`results.json` has the format of lm-eval's results; `samples.jsonl` holds every document with its
prompt, the model's answer and its score. Each task runs by itself with the same seed: contexts,
answers and scores do not depend on the other tasks or on the batch.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from lm_eval.evaluator import evaluate
from lm_eval.utils import handle_non_serializable

from lingraft.corpus.contamination import find_seen
from lingraft.errors import CorpusError
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.load_tasks import describe_document_fault, load_tasks
from lingraft.evaluation.tasks.task_catalogue import find_task
from lingraft.evaluation.tasks.task_measurements import is_chat, measure_task
from lingraft.evaluation.tasks.task_names import quiet
from lingraft.measurement import Measurement

Texts = Callable[[], Iterable[str]]


def evaluate_tasks(
    lm: Any,
    settings: TaskSettings,
    output: Path,
    *,
    subject: str,
    bootstrap: BootstrapSettings | None = None,
    seed: int = 0,
    training_texts: Texts | None = None,
) -> list[Measurement]:
    """Run the named tasks on a model with lm-eval's interface; see `run_tasks` in the package."""
    with quiet():
        tasks = load_tasks(settings, seed=seed)
    seen = {}
    if training_texts is not None and settings.contaminated != "ignore":
        seen = _search_training_text(tasks, settings, training_texts)
    results: dict[str, Any] = {}
    measurements: list[Measurement] = []
    for name, task in tasks.items():
        lm.incidents = Counter()
        part = _evaluate(lm, name, task, settings, seed)
        part["incidents"] = {name: dict(lm.incidents)}
        with quiet():
            measurements += measure_task(
                name,
                task,
                part["samples"][name],
                settings,
                subject,
                bootstrap=bootstrap or BootstrapSettings(),
                seen=seen.get(name),
                incidents=lm.incidents,
            )
        for key, value in part.items():
            results.setdefault(key, {}).update(value or {})
    chats = {name for name, task in tasks.items() if is_chat(task, settings)}
    _write(results, lm, output, settings, chats, subject=subject, seed=seed, seen=seen)
    return measurements


def _evaluate(lm: Any, name: str, task: Any, settings: TaskSettings, seed: int) -> dict[str, Any]:
    """Run one task by itself, so that the incidents are those of this task."""
    try:
        with quiet(), _seeded(seed):
            # No bootstrap: our measurements have intervals of their own.
            part: dict[str, Any] = evaluate(
                lm,
                {"tasks": {name: task}},
                limit=settings.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=settings.apply_chat_template,
                fewshot_as_multiturn=settings.fewshot_as_multiturn,
                system_instruction=settings.system_instruction,
            )
    except (TemplateError, KeyError) as error:
        raise CorpusError(describe_document_fault(name, error)) from error
    return part


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators while the block runs, and restore them after it."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - lm-eval's tasks use it
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _search_training_text(
    tasks: Mapping[str, Any], settings: TaskSettings, texts: Texts
) -> dict[str, tuple[int, int, int]]:
    """Search the training text for the documents; return (seen, searched, too short) by task."""
    owners, queries = [], []
    for name, task in tasks.items():
        for doc in _first(task.eval_docs, settings.limit):
            owners.append(name)
            queries.append(_query(name, task, doc))
    places = find_seen(queries, texts())
    counts: dict[str, tuple[int, int, int]] = {}
    for name, task in tasks.items():
        own = [place for owner, place in zip(owners, places, strict=True) if owner == name]
        # A place is 0 for a document that was not found, and `None` for one that is too short.
        too_short = own.count(None)
        unseen = [number for number, place in enumerate(own) if not place]
        counts[name] = len(own) - len(unseen), len(own) - too_short, too_short
        if settings.contaminated == "drop" and counts[name][0]:
            _keep(name, task, unseen)
    return counts


def _first(documents: Any, limit: int | None) -> Any:
    """Return the documents that `limit` leaves, the same that lm-eval scores."""
    return _select(documents, range(min(limit, len(documents)))) if limit else documents


def _select(documents: Any, numbers: Sequence[int]) -> Any:
    """Return these documents of a data set or of a list; some Python tasks of lm-eval use lists."""
    if hasattr(documents, "select"):
        return documents.select(numbers)
    return [documents[number] for number in numbers]


def _query(name: str, task: Any, doc: Mapping[str, Any]) -> str:
    """Return the text of a document that is searched for in the training text."""
    own = find_task(name)
    if own is not None:
        return " ".join([str(doc[field]) for field in own.checked])
    if task.should_decontaminate():
        return str(task.doc_to_decontamination_query(doc))
    return str(task.doc_to_text(doc))


def _keep(name: str, task: Any, numbers: list[int]) -> None:
    """Reduce the scored documents of a task to those with these numbers.

    Raises `CorpusError` if there are none.
    """
    if not numbers:
        msg = (
            f"{name}: every document occurs in the training text; "
            "set contaminated: count, or use other data"
        )
        raise CorpusError(msg)
    kept = _select(task.eval_docs, numbers)
    # lm-eval scores the test documents, or the validation documents if there are none.
    setattr(task, "test_docs" if task.has_test_docs() else "validation_docs", lambda: kept)


def _write(
    results: dict[str, Any],
    lm: Any,
    output: Path,
    settings: TaskSettings,
    conversations: Collection[str],
    **facts: Any,
) -> None:
    """Write results.json and samples.jsonl; `conversations` are tasks with a chat template."""
    output.mkdir(parents=True, exist_ok=True)
    samples = results["samples"]
    config = {
        "model": type(lm).__name__,
        "limit": settings.limit,
        "fewshot_seed": facts["seed"],
        "lingraft": {**settings.model_dump(mode="json"), **facts},
        **(lm.get_model_info() if hasattr(lm, "get_model_info") else {}),
    }
    stored = {
        **{key: value for key, value in results.items() if key != "samples"},
        "config": config,
        "lm_eval_version": version("lm_eval"),
    }
    if settings.apply_chat_template:
        # By lm-eval's names; the template is as it was rendered, with its date.
        stored["fewshot_as_multiturn"] = settings.fewshot_as_multiturn
        stored["system_instruction"] = settings.system_instruction
        chats = getattr(lm, "chats", None)
        stored["chat_template"] = chats.template.source if chats else None
    text = json.dumps(stored, indent=2, ensure_ascii=False, default=handle_non_serializable)
    (output / "results.json").write_text(text + "\n", encoding="utf-8")
    with (output / "samples.jsonl").open("w", encoding="utf-8") as file:
        for name, rows in samples.items():
            for row in rows:
                chat = {"chat_template": True} if name in conversations else {}
                sample = {"task": name, **chat, **row}
                line = json.dumps(sample, ensure_ascii=False, default=handle_non_serializable)
                file.write(line + "\n")
