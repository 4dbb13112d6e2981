"""Train a model by a plan: `train` writes the result to a folder, `train_model` returns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lingraft.errors import TrainingError, one_line
from lingraft.store import disk_errors
from lingraft.tf32 import tf32_products
from lingraft.training.distributed import init_process_group
from lingraft.training.execution import Execution
from lingraft.training.job import Heldout, InContext, Job
from lingraft.training.phase_steps import TrainingText
from lingraft.training.plan import TrainingPlan
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
    in_context: InContext | None = None,
    curve: str = "",
    prefix_dir: Path | None = None,
) -> dict[str, Any]:
    """Train a model by a plan; write `output/model` and `output/training.jsonl`, return notes.

    Low-rank matrices are merged into the weights and also saved (`output/low-rank-N.safetensors`
    for phase N). `added` are the ids of the added tokens. Checkpoints are in `scratch_dir`: the
    same call resumes a stopped run. `heldout` and `in_context` measure the points of the held-out
    curve, and `curve` is a digest of what they measure: if it changes before a stopped run is
    resumed, the curve begins there. In the folder `prefix_dir`, if given, runs of different length
    share their first steps (`shared_prefix`). `merge_back` of the plan is left to `merge_models`.
    After SIGTERM or Ctrl-C, the progress is saved and `Interrupted` is raised. Raises
    `TrainingError` if the loss is NaN or diverges, or if the memory of a GPU does not suffice.
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
            in_context=in_context,
            curve=curve,
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
    """Train a model by a plan in one process; return the model in float32, and the notes.

    Arguments and errors are those of `train`. Nothing is written except the checkpoints in
    `scratch_dir`. `title` names the progress bar.
    """
    models: list[Any] = []
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
    notes = _train(job, lambda trainer: models.append(trainer.model))
    return models[0], notes


def _generators(device: str) -> list[torch.device]:
    """Return the devices besides the CPU whose random numbers a training draws.

    By default, torch would read the state of every GPU of the machine.
    """
    return [torch.device(device)] if device.startswith("cuda") else []


def _train(job: Job, finish: Callable[[Trainer], None]) -> dict[str, Any]:
    """Train, and call `finish` with the result before the process group ends."""
    job.scratch_dir.mkdir(parents=True, exist_ok=True)
    execution = job.execution
    with (
        init_process_group(sharded=execution.sharded, device=execution.device) as world,
        disk_errors(job.scratch_dir),
        tf32_products(allowed=execution.allows_tf32()),
        # Training sets torch's seed in each step; the caller's random state must not change.
        torch.random.fork_rng(_generators(execution.device)),
        stop_signals() as stopped,
    ):
        try:
            trainer = Trainer(job, world)
            notes = trainer.train(stopped)
        except torch.OutOfMemoryError as error:
            msg = (
                f"training: {execution.device} ran out of memory ({one_line(error)}); give "
                f"--recompute if activations were not recomputed, --nproc with more GPUs, or a "
                f"training.optimizer or strategy that takes less"
            )
            raise TrainingError(msg) from error
        finish(trainer)
    return notes
