"""Downstream tasks: lm-eval asks and scores, the tasks of the paper come along as YAML, results are measurements.

A task of ours is FAMILY-LANGUAGE (`xcopa-ta`); every name of lm-eval's works as well, and a folder of the user's own.
Importing this costs nothing; lm-eval and torch are imported when tasks run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lingraft.evaluation.tasks.config import TaskData, TaskSettings
from lingraft.evaluation.tasks.load_tasks import check_tasks, task_identity
from lingraft.measurement import Measurement

__all__ = ["TaskData", "TaskSettings", "check_tasks", "run_tasks", "task_identity"]


def run_tasks(
    folder: Path,
    settings: TaskSettings,
    output: Path,
    *,
    subject: str,
    device: str = "cpu",
    dtype: str = "auto",
    seed: int = 0,
    training_texts: Callable[[], Iterable[str]] | None = None,
) -> list[Measurement]:
    """Run the named tasks on a model folder; write `output`/results.json and `output`/samples.jsonl.

    Returns rows for each task: its metrics with intervals over documents and, where `training_texts` are given, how
    many of its documents stand in them. `device` and `dtype` are matters of execution; `seed` draws the worked
    examples. Nothing is done where no tasks are named. Raises what `check_tasks` raises, and `ModelError` for a model
    that cannot do the tasks.
    """
    if not settings.names:
        return []
    check_tasks(settings)
    from lingraft.evaluation.tasks.lm_eval_model import FolderLM
    from lingraft.evaluation.tasks.run_tasks import evaluate_tasks
    from lingraft.evaluation.tasks.task_names import quiet

    with quiet():
        lm = FolderLM(folder, device=device, dtype=dtype, too_long=settings.too_long)
    return evaluate_tasks(
        lm, settings, output, subject=subject, seed=seed, training_texts=training_texts
    )
