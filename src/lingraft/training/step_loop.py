"""The steps of a training: compute them one after another, log them, and save checkpoints.

The sequences and the dropout of a step depend only on the seed, the phase, and the numbers of the
step and of the process. On a CPU, a run that was killed and resumes from its last checkpoint
therefore ends bit-identical to a run without interruption.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lingraft.errors import Interrupted, TrainingError
from lingraft.progress import Advance
from lingraft.store import seed_of
from lingraft.training.async_checkpoints import AsyncCheckpointWriter
from lingraft.training.branches import Branch
from lingraft.training.checkpointing import latest_checkpoint, save_checkpoint
from lingraft.training.distributed import ProcessGroup
from lingraft.training.job import Job
from lingraft.training.mfu import Utilisation
from lingraft.training.phase_steps import PhaseSteps
from lingraft.training.run_records import speed_note, step_record
from lingraft.training.shared_prefix import PrefixCheckpoint
from lingraft.training.state import RunState, Stopped
from lingraft.training.train_log import REMEDY_OF_DIVERGENCE, TrainLog
from lingraft.training.train_step import Stepper

WINDOW = 20
"""The number of steps over which the loss is averaged to detect divergence."""


@dataclass
class DivergenceMonitor:
    """Detects NaN, inf and a diverging loss (nats per token).

    A loss diverges when its mean over the last 20 steps is over twice the first loss, and over
    the loss of a uniform prediction (the logarithm of the vocabulary size). A single bad batch is
    no divergence.
    """

    vocabulary: int
    first: float | None = None
    last: list[float] = field(default_factory=list)

    def check(self, loss: float, gradient_norm: float) -> str | None:
        """Record the loss of a step; return a problem, or None."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient norm is {gradient_norm}"
        if self.first is None:
            self.first = loss
        self.last = [*self.last[-WINDOW + 1 :], loss]
        ceiling = max(2 * self.first, math.log(self.vocabulary))
        mean = sum(self.last) / len(self.last)
        if len(self.last) == WINDOW and mean > ceiling:
            return (
                f"the loss diverges: {mean:.2f} nats per token over {WINDOW} steps, above "
                f"{ceiling:.2f}"
            )
        return None


def step_seed(seed: int, phase: int, step: int, rank: int) -> int:
    """Return the seed of the random numbers of a step in one process.

    A resumed run draws the same dropout. Processes draw others, because each has its own sequences.
    """
    return seed_of([seed, phase, step, *([rank] if rank else [])])


@dataclass
class StepLoop:
    """Runs the steps of a job; `state` is its progress, which `advance` shows.

    `prefix` is the prefix that the job shares with longer ones, if there is one.
    """

    job: Job
    world: ProcessGroup
    phases: Sequence[PhaseSteps]
    fingerprint: str
    log: TrainLog
    prefix: PrefixCheckpoint | None
    state: RunState
    stopped: Stopped
    advance: Advance

    def __post_init__(self) -> None:
        self.writer = AsyncCheckpointWriter(self.world) if self.world.size > 1 else None

    def run(
        self, branch: Branch, stepper: Stepper, monitor: DivergenceMonitor, used: Utilisation
    ) -> None:
        """Train the steps of a branch that are left.

        Raises `Interrupted` after a signal, and `TrainingError` if the loss is NaN or diverges.
        """
        state, device = self.state, self.job.execution.device
        for step in range(max(state.step, branch.first), branch.end):
            self.advance(1, self._step(branch, step, stepper, monitor, used))
            signal = self.stopped()
            # Signals and clocks differ between processes, but all save and stop together.
            stop = self.world.any_rank(signal is not None, device)
            due = self.world.any_rank(state.is_due(self.job.execution), device)
            # The end of the shared prefix needs a checkpoint for longer runs.
            ends = step + 1 == branch.end
            ends = ends or (self.prefix is not None and state.done.step == self.prefix.end)
            if stop or due or ends:
                self._save(step + 1, stepper, monitor, last=stop or ends)
            if stop:
                msg = (
                    f"stopped by {signal or 'a signal to another process'} after step "
                    f"{state.done.step} of {self.log.steps}; progress is saved in "
                    f"{self.job.scratch_dir}; run the same command to resume"
                )
                raise Interrupted(msg)

    def _step(
        self,
        branch: Branch,
        step: int,
        stepper: Stepper,
        monitor: DivergenceMonitor,
        used: Utilisation,
    ) -> str:
        """Run a step of the current phase; return the text next to the progress bar."""
        state, steps = self.state, self.log.steps
        number, settings = state.phase, self.job.plan.phases[state.phase]
        torch.manual_seed(step_seed(self.job.seed, number, step, self.world.rank))
        of_branch = step - branch.first
        factor = settings.schedule.factor(of_branch, branch.steps)
        batch, began = self.phases[number].batch(step), time.monotonic()
        result = stepper.forward_backward(batch)
        # Checked before the update, so that no checkpoint can hold weights that are NaN.
        problem = monitor.check(result.nats_a_token, result.gradient_norm)
        if problem:
            good = self.world.compute_once(lambda: latest_checkpoint(self.job.scratch_dir))
            msg = (
                f"{problem} at step {state.done.step + 1} of {steps}; the last good "
                f"checkpoint is {good.folder if good else 'none'}; {REMEDY_OF_DIVERGENCE}"
            )
            raise TrainingError(msg)
        stepper.update(of_branch, factor)
        if step + 1 == branch.end:
            stepper.close()
        state.done = state.done.plus(batch)
        record = {
            "step": state.done.step,
            "steps": steps,
            "phase": number,
            **(branch.place if settings.branch_and_merge else {}),
            **step_record(batch, result, state, [text.name for text in self.job.text.targets]),
            "learning_rate": stepper.rates.body * factor,
            "learning_rate_added_rows": stepper.rates.added_rows * factor,
        }
        mfu = used.share(batch.tokens, time.monotonic() - began)
        if mfu is not None:
            record["mfu"] = mfu
        self.log.write(record)
        # The curve is that of merged models: a branch has read its own slice only.
        if not settings.branch_and_merge:
            self.log.measure(stepper.model, state.done)
        self.log.predict(state.done.step)
        seconds = time.monotonic() - state.started
        return speed_note(state, record["bits_per_byte"], seconds, mfu) + self.log.note(step + 1)

    def _save(self, step: int, stepper: Stepper, monitor: DivergenceMonitor, *, last: bool) -> None:
        state, folder = self.state, self.job.scratch_dir
        state.step, state.losses = step, (monitor.first, monitor.last)
        content = state.content(self.fingerprint, self.log.sync())
        save = self.writer.begin if self.writer else save_checkpoint
        save(folder, state.done.step, stepper.tensors(), content)
        if self.writer and last:
            self.writer.finish()
        state.saved, state.saved_step = time.monotonic(), state.done.step
        self.keep_prefix()

    def keep_prefix(self) -> None:
        """Store the last checkpoint for longer runs, if the shared prefix ends there.

        A run whose curve begins later than its training is not stored: longer runs would lack
        these points.
        """
        if self.prefix and self.world.is_first and not self.state.curve_from:
            self.prefix.keep(self.job.scratch_dir, self.state.done.step)
