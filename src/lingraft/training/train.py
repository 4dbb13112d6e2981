"""Train a model by a plan, and write the result or return it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lingraft.store import disk_errors
from lingraft.training.config import TrainingPlan
from lingraft.training.distributed import init_process_group
from lingraft.training.execution import Execution
from lingraft.training.job import Heldout, Job, TrainingText
from lingraft.training.state import stop_signals
from lingraft.training.trainer import Trainer


def train(
    model_folder: Path,
    text: TrainingText,
    plan: TrainingPlan,
    *,
    output: Path,
    scratch_dir: Path,
    added: Sequence[int] = (),
    seed: int = 0,
    execution: Execution | None = None,
    heldout: Heldout | None = None,
    prefix_dir: Path | None = None,
) -> dict[str, Any]:
    """Train a model by a plan; write `output/model` and `output/training.jsonl`, return notes.

    Low-rank matrices are merged into the weights and also saved (`output/low-rank-N.safetensors`
    for phase N). `added` are the ids of the added tokens. `scratch_dir` holds the progress: the
    same call resumes a stopped run. Runs share the start of training in the folder `prefix_dir`, if
    it is given. Raises `Interrupted` after SIGTERM or Ctrl-C, when progress is saved, and
    `TrainingError` where the loss is NaN or diverges.
    """

    def write(trainer: Trainer) -> None:
        with disk_errors(output):
            if trainer.world.is_first:
                trainer.write(output)
        trainer.world.barrier()

    execution = (execution or Execution()).for_this_process()
    return _train(
        Job(
            model_folder,
            text,
            plan,
            scratch_dir,
            tuple(added),
            seed,
            execution,
            heldout,
            prefix_dir,
        ),
        write,
    )


def train_model(
    model_folder: Path,
    text: TrainingText,
    plan: TrainingPlan,
    *,
    scratch_dir: Path,
    added: Sequence[int] = (),
    seed: int = 0,
    execution: Execution | None = None,
    title: str = "training",
) -> tuple[Any, dict[str, Any]]:
    """Train a model by a plan in one process; return it in float32, with the notes.

    As `train`, but only the progress in `scratch_dir` is written. `title` names the progress bar.
    """
    found: list[Any] = []
    job = Job(
        model_folder,
        text,
        plan,
        scratch_dir,
        tuple(added),
        seed,
        execution or Execution(),
        None,
        title=title,
    )
    notes = _train(job, lambda trainer: found.append(trainer.model))
    return found[0], notes


def _train(job: Job, finish: Callable[[Trainer], None]) -> dict[str, Any]:
    """Train; `finish` gets the result while the processes are still joined."""
    job.scratch_dir.mkdir(parents=True, exist_ok=True)
    execution = job.execution
    with (
        init_process_group(sharded=execution.sharded, device=execution.device) as world,
        disk_errors(job.scratch_dir),
        torch.random.fork_rng(),
        stop_signals() as stopped,
    ):
        trainer = Trainer(job, world)
        notes = trainer.train(stopped)
        finish(trainer)
    return notes
