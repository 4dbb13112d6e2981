"""Downstream tasks, run by lm-eval: the tasks of the paper are included, results are measurements.

The name of an included task is FAMILY-LANGUAGE (`xcopa-ta`). Any task name of lm-eval works as
well, and so does one from a folder with your own task files. Importing this package does not import
lm-eval or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks.auto_tasks import ChosenTasks, choose_tasks
from lingraft.evaluation.tasks.check_tasks import check_tasks, task_files, task_identity
from lingraft.evaluation.tasks.config import TaskData, TaskSettings
from lingraft.evaluation.tasks.task_names import quiet
from lingraft.measurement import Measurement

__all__ = [
    "ChosenTasks",
    "TaskData",
    "TaskSettings",
    "check_tasks",
    "choose_tasks",
    "run_tasks",
    "task_files",
    "task_identity",
]


def run_tasks(
    folder: Path,
    settings: TaskSettings,
    output: Path,
    *,
    subject: str,
    bootstrap: BootstrapSettings | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    seed: int = 0,
    training_texts: Callable[[], Iterable[str]] | None = None,
    model: Any = None,
) -> list[Measurement]:
    """Run the named tasks on a model folder; write results.json and samples.jsonl into `output`.

    Returns the metrics of each task, with intervals over documents, and the number of documents
    that occur in `training_texts`, if they are given. `subject` is the name of the model in the
    measurements. `bootstrap` has the level of the intervals, by default 95%. `seed` determines the
    few-shot examples. A `model` in memory is used instead of the weights in the folder. Without
    task names, nothing is done. Raises the errors of `check_tasks`, and `ModelError` for a model
    that cannot do the tasks.
    """
    if not settings.names:
        return []
    # Before the imports: without the extra `eval`, the check raises the error that names it.
    check_tasks(settings)
    from lingraft.evaluation.tasks.lm_eval_model import FolderLM
    from lingraft.evaluation.tasks.task_runner import evaluate_tasks

    with quiet():
        lm = FolderLM(
            folder,
            device=device,
            dtype=dtype,
            too_long=settings.too_long,
            chat=settings.apply_chat_template,
            model=model,
        )
    return evaluate_tasks(
        lm,
        settings,
        output,
        subject=subject,
        bootstrap=bootstrap,
        seed=seed,
        training_texts=training_texts,
    )
