"""The loop: a plain one, on a plain transformers model.

Everything that a step does follows from (seed, phase, step) and the weights: which rows, which dropout. So a run that
was killed and goes on from its last checkpoint ends, on a CPU, bit-identical to one that was never disturbed.
Weights train in float32 and are saved in the data types of the source.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import Interrupted, TrainingError
from lingraft.progress import Advance, progress
from lingraft.store import digest, disk_errors, remove_drafts
from lingraft.training.async_checkpoints import AsyncCheckpointWriter
from lingraft.training.checkpointing import (
    LOW_RANK,
    TrainingCheckpoint,
    checkpoint_to_resume,
    latest_checkpoint,
    save_checkpoint,
    save_final_model,
    save_low_rank,
    save_phase_model,
)
from lingraft.training.config import TrainingPlan
from lingraft.training.distributed import ProcessGroup, init_process_group, reshard
from lingraft.training.execution import Execution
from lingraft.training.job import Heldout, Job, Text
from lingraft.training.loss import make_loss
from lingraft.training.mfu import Utilisation
from lingraft.training.optimizer import merge_back
from lingraft.training.prepare_model import (
    check_apart,
    gather_model,
    open_phase,
    recompute_activations,
)
from lingraft.training.shared_prefix import prefix_checkpoint
from lingraft.training.state import RunState, Stopped, Totals, stop_signals
from lingraft.training.trackers import tracking
from lingraft.training.train_log import LOG, DivergenceMonitor, Record, notes_of, row_of, speed_of
from lingraft.training.train_step import Stepper

__all__ = ["Text", "train", "train_model"]


def train(model_folder: Path, text: Text, plan: TrainingPlan, *, output: Path, scratch_dir: Path,
          added: Sequence[int] = (), seed: int = 0, execution: Execution | None = None,
          heldout: Heldout | None = None, trunks: Path | None = None) -> dict[str, Any]:
    """Train a model by a plan; write `output/model` (weights and config) and `output/training.jsonl`, return notes.

    Low-rank matrices are merged into the weights, and kept beside them (`output/low-rank-N.safetensors`, phase N).
    `added` are the ids of the spliced-in tokens. Progress lives in `scratch_dir`: called again with the same arguments,
    a stopped run goes on. In `trunks`, where it is given, runs leave what longer ones go on from. Raises `Interrupted`
    on SIGTERM and Ctrl-C, after saving, and `TrainingError` where the loss is no number or explodes.
    """
    def write(run: _Run) -> None:
        with disk_errors(output):
            if run.world.is_first:
                run.write(output)
        run.world.barrier()

    execution = (execution or Execution()).for_this_process()
    return _train(Job(model_folder, text, plan, scratch_dir, tuple(added), seed, execution, heldout, trunks), write)


def train_model(model_folder: Path, text: Text, plan: TrainingPlan, *, scratch_dir: Path, added: Sequence[int] = (),
                seed: int = 0, execution: Execution | None = None,
                title: str = "training") -> tuple[Any, dict[str, Any]]:
    """Train a model by a plan, in one process; return it, in float32, with the notes.

    As `train`, but nothing is written except the progress in `scratch_dir`. `title` names the progress bar.
    """
    found: list[Any] = []
    job = Job(model_folder, text, plan, scratch_dir, tuple(added), seed, execution or Execution(), None, title=title)
    notes = _train(job, lambda run: found.append(run.model))
    return found[0], notes


def _train(job: Job, finish: Callable[[_Run], None]) -> dict[str, Any]:
    """Carry out a job; `finish` takes what was trained while the processes are still joined."""
    job.scratch_dir.mkdir(parents=True, exist_ok=True)
    with (init_process_group(sharded=job.execution.sharded, device=job.execution.device) as world,
          disk_errors(job.scratch_dir), torch.random.fork_rng(), stop_signals() as stopped):
        run = _Run(job, world)
        notes = run.train(stopped)
        finish(run)
    return notes


def ignore(_amount: float, _note: str = "", /) -> None:
    """Take the place of a progress bar in all processes but the first."""


class _Run:
    """One call of `train`: the model, and how far it is."""

    def __init__(self, job: Job, world: ProcessGroup) -> None:
        self.job, self.world = job, world
        self._open_phase(0)
        self.types = self.opened.types
        self.kind = str(self.model.config.model_type)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]
        self.fingerprint = job.fingerprint(self.parameters)
        self.legs = job.legs(self.parameters)
        self.steps = sum(leg.steps for leg in self.legs)
        self.trunk = prefix_checkpoint(job, self.legs, self.parameters)
        self.loss, self.utilisation = "", Utilisation(0.0)
        self.background = AsyncCheckpointWriter(world) if world.size > 1 else None
        self.record = Record(job, self.steps)

    def train(self, stopped: Stopped) -> dict[str, Any]:
        """Carry out what is left of the plan and return the notes."""
        if self.trunk and self.world.is_first:
            self.trunk.take(self.job.scratch_dir, self.fingerprint)
        self.world.barrier()
        checkpoint = checkpoint_to_resume(self.job.scratch_dir, self.fingerprint)
        state = RunState.read(checkpoint.state if checkpoint else {})
        self._keep_trunk(state.done)  # of a process that was killed just before
        if self.world.is_first:
            remove_drafts(self.job.scratch_dir)
            self.record.begin(self.job.scratch_dir, state.log_bytes)
        if state.phase:
            self._open_phase(state.phase)
        watched = self.job.execution.trackers if self.world.is_first else ()
        bar = progress(self.job.title, self.steps, unit="steps") if self.world.is_first else nullcontext(ignore)
        with (bar as advance,
              tracking(watched, self.job.execution.tracking, self.job.execution.tracking_name,
                       state.done.step) as self.record.trackers):
            advance(state.done.step)
            for number in range(state.phase, len(self.legs)):
                resumed = checkpoint if checkpoint and number == state.phase else None
                self._train_phase(number, state, resumed, stopped, advance)
            merged = self._merge(state.done)
        shared = {"processes": self.world.size, "opened": self.opened.way} if self.world.size > 1 else {}
        return {**notes_of(self.job, self.legs, state, self.kind, self.parameters), "loss": self.loss, **shared,
                **merged}

    def _stepper(self, number: int) -> Stepper:
        job, phase = self.job, self.job.plan.phases[number]
        torch.manual_seed(int(digest([job.seed, number])[:15], 16))  # low-rank matrices begin random
        groups = phase.strategy.prepare(self.model, job.added)
        if self.world.size == 1:
            self.model.to(job.execution.device)
        if job.execution.recompute:
            recompute_activations(self.model)
        self.utilisation = Utilisation.of(self.model, job.execution, self.world.size)
        groups = self.world.shard_model(self.model, groups, self.opened.materialize)
        if job.plan.document_attention_mask:
            check_apart(self.model, job.text.target.opening)
        loss = make_loss(self.model, job.execution.loss, autocast=job.execution.computes_in_bfloat16(),
                       sharded=self.world.size > 1)
        reshard(self.model)
        rates = phase.learning_rates.resolved(phase.strategy, self.kind, self.parameters)
        stepper = Stepper(self.model, groups, rates, phase=phase, steps=self.legs[number].steps,
                          execution=job.execution, text=job.text.target, world=self.world, loss=loss,
                          apart=job.plan.document_attention_mask)
        self.loss = type(loss).__name__
        return stepper

    def _train_phase(self, number: int, state: RunState, resumed: TrainingCheckpoint | None, stopped: Stopped,
                     advance: Advance) -> None:
        if not state.done.step and self.world.size == 1:
            self.record.measure(self.model, state.done)
        leg, stepper = self.legs[number], self._stepper(number)
        if not state.done.step and self.world.size > 1:  # what is not shared out has no numbers yet
            self.record.measure(self.model, state.done)
        watch = DivergenceMonitor(self.vocabulary, *state.losses) if resumed else DivergenceMonitor(self.vocabulary)
        if resumed:
            stepper.load(resumed)
        for step in range(state.step, leg.steps):
            advance(1, self._step(number, step, stepper, watch, state))
            signal = stopped()
            stop = self.world.any_rank(signal is not None, self.job.execution.device)
            due = self.world.any_rank(state.is_due(self.job.execution), self.job.execution.device)
            ends = step + 1 == leg.steps or (self.trunk is not None and state.done.step == self.trunk.end)
            if stop or due or ends:
                self._save(state, number, step + 1, stepper, watch, last=stop or ends)
            if stop:
                msg = (f"stopped by {signal or 'a signal to another process'} after step {state.done.step} of "
                       f"{self.steps}; progress is saved in {self.job.scratch_dir}; "
                       "run the same command to resume")
                raise Interrupted(msg)
        self._finish(number, stepper)
        state.next_phase()
        if number + 1 < len(self.legs):
            if self.world.is_first:
                save_phase_model(self.model, self.job.folder(number + 1))
            self.world.barrier()
            if self.world.size > 1:
                self._open_phase(number + 1)

    def _step(self, number: int, step: int, stepper: Stepper, watch: DivergenceMonitor, state: RunState) -> str:
        leg, phase = self.legs[number], self.job.plan.phases[number]
        torch.manual_seed(int(digest([self.job.seed, number, step])[:15], 16))
        factor = phase.schedule.factor(step, leg.steps)
        batch, began = leg.batch(step), time.monotonic()
        result = stepper.forward_backward(batch)
        check = watch.check(result.nats_a_token, result.gradient_norm)
        if check:
            good = latest_checkpoint(self.job.scratch_dir)
            msg = (f"{check} at step {state.done.step + 1} of {self.steps}; the last good checkpoint is "
                   f"{good.folder if good else 'none'}; lower training.learning_rates or "
                   "training.max_grad_norm, or look at the data")
            raise TrainingError(msg)
        stepper.update(step, factor)
        if step + 1 == leg.steps:
            stepper.close()
        state.done = state.done.plus(batch)
        rates = {"learning_rate": stepper.rates.body * factor,
                 "learning_rate_added_rows": stepper.rates.added_rows * factor}
        row = {"step": state.done.step, "steps": self.steps, "phase": number, **row_of(batch, result, state), **rates}
        mfu = self.utilisation.share(batch.tokens, time.monotonic() - began)
        if mfu is not None:
            row["mfu"] = mfu
        self.record.write(row)
        self.record.measure(self.model, state.done)
        return speed_of(state, row["bits_per_byte"], mfu) + self.record.note(step + 1)

    def _finish(self, number: int, stepper: Stepper) -> None:
        """Leave a plain model; of several processes, the first one puts it together, a parameter at a time."""
        strategy = self.job.plan.phases[number].strategy
        if self.world.size > 1:
            self.model = gather_model(self.job, number, stepper.parameters, first=self.world.is_first)
        if self.world.is_first:
            save_low_rank(strategy.learned(self.model), self.job.scratch_dir, number)
            strategy.finish(self.model)

    def _open_phase(self, number: int) -> None:
        self.opened = open_phase(self.job, number, shared=self.world.size > 1)
        self.model = self.opened.model

    def _merge(self, done: Totals) -> dict[str, Any]:
        """Merge back where the plan says so."""
        if not self.job.plan.merge_back or not self.world.is_first:
            return {}
        source, _ = load_for_training(self.job.model_folder)
        found = merge_back(self.model, dict(source.named_parameters()), self.job.added, self.job.plan.merge_back,
                           self.record.heldout if self.job.heldout else None)
        self.record.measure(self.model, done, merged=found["share"])
        return {"merge_back": found}

    def _save(self, state: RunState, number: int, step: int, stepper: Stepper, watch: DivergenceMonitor, *,
              last: bool) -> None:
        state.phase, state.step, state.losses = number, step, (watch.first, watch.last)
        content = state.content(self.fingerprint, self.record.flushed())
        write = self.background.begin if self.background else save_checkpoint
        write(self.job.scratch_dir, state.done.step, stepper.tensors(), content)
        if self.background and last:
            self.background.finish()
        state.saved, state.saved_step = time.monotonic(), state.done.step
        self._keep_trunk(state.done)

    def _keep_trunk(self, done: Totals) -> None:
        if self.trunk and self.world.is_first:
            self.trunk.keep(self.job.scratch_dir, done.step)

    def write(self, output: Path) -> None:
        """Write the finished model, what was merged into it, and the log."""
        save_final_model(self.model, self.types, self.job.model_folder, output / "model")
        for name in map(LOW_RANK.format, range(len(self.legs))):
            if (self.job.scratch_dir / name).is_file():
                shutil.copyfile(self.job.scratch_dir / name, output / name)
        shutil.copyfile(self.job.scratch_dir / LOG, output / LOG)
