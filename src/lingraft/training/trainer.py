"""The training loop, on a plain transformers model.

The sequences and the dropout of a step depend only on the seed, the phase and the number of the
step. On a CPU, a run that was killed and resumes from its last checkpoint therefore ends
bit-identical to a run without interruption. Weights train in float32, or in bfloat16 if the
optimizer says so, and are saved in the data types of the source.
"""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import Interrupted, TrainingError
from lingraft.formatting import counted
from lingraft.packing.epoch_limits import epochs_line
from lingraft.progress import Advance, no_progress, progress, say, warn
from lingraft.store import digest, remove_drafts
from lingraft.strategies.model_parts import text_parameters
from lingraft.training.async_checkpoints import AsyncCheckpointWriter
from lingraft.training.branch_merge import end_branch
from lingraft.training.branches import Branch
from lingraft.training.checkpointing import (
    TrainingCheckpoint,
    checkpoint_to_resume,
    latest_checkpoint,
    save_checkpoint,
)
from lingraft.training.distributed import ProcessGroup
from lingraft.training.job import Job
from lingraft.training.merge_back import merge_back, shares_to_try
from lingraft.training.mfu import Utilisation
from lingraft.training.phase_outline import outline_lines, outline_phase
from lingraft.training.phase_setup import PhaseSetup
from lingraft.training.prepare_model import (
    PhaseModel,
    gather_model,
    load_phase_model,
    on_every_process,
)
from lingraft.training.save_model import (
    LOW_RANK,
    save_final_model,
    save_low_rank,
    save_phase_model,
)
from lingraft.training.shared_prefix import prefix_checkpoint
from lingraft.training.state import RunState, Stopped, Totals
from lingraft.training.trackers import tracking
from lingraft.training.train_log import (
    LOG,
    DivergenceMonitor,
    TrainLog,
    run_notes,
    speed_note,
    step_record,
)
from lingraft.training.train_step import Stepper


class Trainer:
    """Trains the model of a job through all phases; `train` does it, `write` saves the result."""

    model: Any
    loaded: PhaseModel

    def __init__(self, job: Job, world: ProcessGroup) -> None:
        self.job, self.world = job, world
        self._load_phase(0, 0)
        # Of the source: later phases start from files in float32.
        self.types = self.loaded.types
        self._check_rounding()
        self.kind = str(self.model.config.model_type)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]
        self.planned = job.steps(self.parameters)
        self.phases = self.planned.phases
        self.fingerprint = job.fingerprint(self.parameters, self.phases)
        self.steps = sum(phase.steps for phase in self.phases)
        self.prefix = prefix_checkpoint(job, self.phases, self.parameters)
        self.setup = PhaseSetup(
            job,
            world,
            self.phases,
            kind=self.kind,
            parameters=self.parameters,
            fingerprint=self.fingerprint,
        )
        self.utilisation = Utilisation(0.0)
        self.writer = AsyncCheckpointWriter(world) if world.size > 1 else None
        self.log = TrainLog(job, [phase.steps for phase in self.phases])

    def _check_rounding(self) -> None:
        """Raise `RecipeError` if a phase would round weights that it does not train."""
        parameters = dict(self.model.named_parameters())
        # The encoders of a multimodal model never train.
        encoders = parameters.keys() - text_parameters(self.model).keys()
        for phase in self.job.plan.phases:
            kept = parameters.keys() if phase.strategy.keeps_weights else encoders
            for name in sorted(kept):
                phase.check_rounding(str(self.types[name]).removeprefix("torch."))

    def train(self, stopped: Stopped) -> dict[str, Any]:
        """Train the remaining steps of the plan and return the notes of the run."""
        job, first = self.job, self.world.is_first
        if self.prefix and first:
            self.prefix.take(job.scratch_dir, self.fingerprint)
        self.world.barrier()
        checkpoint = checkpoint_to_resume(job.scratch_dir, self.fingerprint)
        state = RunState.read(checkpoint.state if checkpoint else {})
        # A process that was killed after its last checkpoint may not have stored the shared prefix.
        self._keep_prefix(state.done)
        if first:
            remove_drafts(job.scratch_dir)
            self.log.begin(job.scratch_dir, state.log_bytes)
            for warning in self.planned.warnings:
                warn(warning)
            say(self._describe(state.done.step))
            for line in self._describe_phases():
                say(line)
        iteration = self._branches(state)[0].iteration if self.phases else 0
        if state.phase or iteration:
            self._load_phase(state.phase, iteration)
        bar = progress(job.title, self.steps, unit="steps") if first else nullcontext(no_progress)
        trackers = tracking(
            job.execution.trackers if first else (),
            job.execution.tracking,
            job.execution.tracking_name,
            state.done.step,
        )
        with bar as advance, trackers as self.log.trackers:
            advance(state.done.step)
            # A later phase starts from its own model: the checkpoint is not of it.
            resumed = checkpoint
            for number in range(state.phase, len(self.phases)):
                self._train_phase(number, state, resumed, stopped, advance)
                resumed = None
            merged = self._merge(state.done)
        notes = run_notes(job, self.planned, state, self.kind, self.parameters)
        if self.world.size > 1:
            merged = {"processes": self.world.size, "opened": self.loaded.how, **merged}
        return {**notes, **self.setup.notes, **merged}

    def _describe(self, done: int) -> str:
        """Return the length of the training in one line."""
        sequences = sum(phase.sequences for phase in self.phases)
        block = self.job.text.target.summary.block
        device = self.job.execution.device
        line = (
            f"{self.job.title}: {counted(self.steps, 'step')}, {sequences * block:,} tokens in "
            f"sequences of {block:,}, {self.parameters:,} parameters, on {device}"
            f"{self._describe_epochs()}"
        )
        return f"{line}; continues after step {done:,}" if done else line

    def _describe_phases(self) -> list[str]:
        """Return the batch, the warm-up and the peak rates of each phase, and why."""
        block = self.job.text.target.summary.block
        outlines = []
        for phase, steps in zip(self.job.plan.phases, self.phases, strict=True):
            outlines.append(outline_phase(phase, steps, block, self.kind, self.parameters))
        return outline_lines(outlines)

    def _describe_epochs(self) -> str:
        """Return how often each text is read, as the end of a line."""
        if not self.job.text.keeps_epochs_apart:
            return ""  # text that initialisations and base models train on has no name
        return f"; {epochs_line(self.planned.epochs(self.job.text))}"

    def _branches(self, state: RunState) -> list[Branch]:
        """Return the branches of the current phase that are left; a phase without any is one.

        A checkpoint at the end of a branch is of this branch: it is not saved or merged yet.
        """
        branches = self.job.plan.phases[state.phase].branches(self.phases[state.phase].steps)
        return [branch for branch in branches if branch.end >= state.step]

    def _train_phase(
        self,
        number: int,
        state: RunState,
        resumed: TrainingCheckpoint | None,
        stopped: Stopped,
        advance: Advance,
    ) -> None:
        sharded = self.world.size > 1
        for branch in self._branches(state):
            # One process continues with the merged model; shards are read from the saved one.
            if not resumed and (branch.number or (branch.iteration and sharded)):
                self._load_phase(number, branch.iteration)
            self._train_branch(branch, state, resumed, stopped, advance)
            # Here, the optimizer of the branch is out of memory.
            self._end_branch(branch, state)
            resumed = None
        state.next_phase()
        self.setup.free_reference()
        if number + 1 < len(self.phases):
            if self.world.is_first:
                save_phase_model(self.model, self.job.folder(number + 1))
            self.world.barrier()
            if sharded:
                self._load_phase(number + 1, 0)

    def _train_branch(
        self,
        branch: Branch,
        state: RunState,
        resumed: TrainingCheckpoint | None,
        stopped: Stopped,
        advance: Advance,
    ) -> None:
        """Train the steps of a branch that are left."""
        number, device, sharded = state.phase, self.job.execution.device, self.world.size > 1
        # After a step, `_step` measures, but not what branches were merged into.
        begins = not state.done.step or (branch.iteration and not branch.number and not resumed)
        if begins and not sharded:
            self.log.measure(self.model, state.done)
        first = max(state.step, branch.first)
        stepper, self.utilisation = self.setup.stepper(
            self.loaded, number, branch, branch.end - first
        )
        # A sharded model has its weights only after it is set up.
        if begins and sharded:
            self.log.measure(self.model, state.done)
        monitor = DivergenceMonitor(self.vocabulary, *(state.losses if resumed else ()))
        if resumed:
            stepper.load(resumed)
        for step in range(first, branch.end):
            advance(1, self._step(branch, step, stepper, monitor, state))
            signal = stopped()
            # Signals and clocks differ between processes, but all save and stop together.
            stop = self.world.any_rank(signal is not None, device)
            due = self.world.any_rank(state.is_due(self.job.execution), device)
            # The end of the shared prefix needs a checkpoint for longer runs.
            ends = step + 1 == branch.end
            ends = ends or (self.prefix is not None and state.done.step == self.prefix.end)
            if stop or due or ends:
                self._save(state, number, step + 1, stepper, monitor, last=stop or ends)
            if stop:
                msg = (
                    f"stopped by {signal or 'a signal to another process'} after step "
                    f"{state.done.step} of {self.steps}; progress is saved in "
                    f"{self.job.scratch_dir}; run the same command to resume"
                )
                raise Interrupted(msg)
        if stepper.compiler and stepper.compiler.note:
            self.setup.notes["compile"] = stepper.compiler.note
        self._finish(branch, state, stepper)

    def _step(
        self,
        branch: Branch,
        step: int,
        stepper: Stepper,
        monitor: DivergenceMonitor,
        state: RunState,
    ) -> str:
        """Run a step of the current phase; return the text next to the progress bar."""
        number, settings = state.phase, self.job.plan.phases[state.phase]
        phase, of_branch = self.phases[number], step - branch.first
        # A seed for each step, so that a resumed run draws the same dropout.
        torch.manual_seed(int(digest([self.job.seed, number, step])[:15], 16))
        factor = settings.schedule.factor(of_branch, branch.steps)
        batch, began = phase.batch(step), time.monotonic()
        result = stepper.forward_backward(batch)
        # Checked before the update, so that no checkpoint can hold weights that are NaN.
        problem = monitor.check(result.nats_a_token, result.gradient_norm)
        if problem:
            good = latest_checkpoint(self.job.scratch_dir)
            msg = (
                f"{problem} at step {state.done.step + 1} of {self.steps}; the last good "
                f"checkpoint is {good.folder if good else 'none'}; lower "
                f"training.learning_rates or training.max_grad_norm, or look at the data"
            )
            raise TrainingError(msg)
        stepper.update(of_branch, factor)
        if step + 1 == branch.end:
            stepper.close()
        state.done = state.done.plus(batch)
        record = {
            "step": state.done.step,
            "steps": self.steps,
            "phase": number,
            **(branch.place if settings.branch_and_merge else {}),
            **step_record(batch, result, state),
            "learning_rate": stepper.rates.body * factor,
            "learning_rate_added_rows": stepper.rates.added_rows * factor,
        }
        mfu = self.utilisation.share(batch.tokens, time.monotonic() - began)
        if mfu is not None:
            record["mfu"] = mfu
        self.log.write(record)
        # The curve is that of merged models: a branch has read its own slice only.
        if not settings.branch_and_merge:
            self.log.measure(self.model, state.done)
        self.log.predict(state.done.step)
        seconds = time.monotonic() - state.started
        return speed_note(state, record["bits_per_byte"], seconds, mfu) + self.log.note(step + 1)

    def _finish(self, branch: Branch, state: RunState, stepper: Stepper) -> None:
        """End a phase, or a branch: merge and remove what the strategy inserted.

        With several processes, rank 0 gathers the model and does it alone.
        """
        number, first = state.phase, self.world.is_first
        strategy = self.job.plan.phases[number].strategy
        if self.world.size > 1:
            self.model = gather_model(
                self.job, number, branch.iteration, stepper.parameters, first=first
            )
            # A measurement of the merged model loads other shards: these leave the memory first.
            self.loaded = replace(self.loaded, model=None, meta=None)
        if first:
            # Before `finish` merges them into the weights.
            save_low_rank(strategy.adapter_state(self.model), self.job.scratch_dir, number)
            strategy.finish(self.model)

    def _end_branch(self, branch: Branch, state: RunState) -> None:
        """Save the end of a branch; after the last one of an iteration, merge all of them."""
        job, number, following = self.job, state.phase, branch.iteration + 1
        settings = job.plan.phases[number].branch_and_merge
        if settings is None:
            return
        merges, is_last = branch.number + 1 == settings.branches, following == settings.iterations
        if self.world.is_first:
            end_branch(self.model, settings, branch, job.scratch_dir, number, seed=job.seed)
            if merges and not is_last:
                save_phase_model(self.model, job.folder(number, following))
        if merges and is_last and self.log.is_due(state.done):
            with self._shared() as model:
                self.log.measure(model, state.done)
        self.world.barrier()

    def _shared(self) -> AbstractContextManager[Any]:
        return on_every_process(self.model, self.job, self.world)

    def _load_phase(self, number: int, iteration: int) -> None:
        # The model before leaves the memory first: a device need not have room for two.
        self.model, self.loaded = None, PhaseModel(None, {})
        sharded = self.world.size > 1
        self.loaded = load_phase_model(self.job, number, iteration, sharded=sharded)
        self.model = self.loaded.model

    def _merge(self, done: Totals) -> dict[str, Any]:
        """Merge weights from before training into the model, if the plan has `merge_back`."""
        shares = self.job.plan.merge_back
        if not shares:
            return {}
        notes: dict[str, Any] = {}
        choosing = (lambda _model: self._choosing()) if self.job.choosing else None
        if self.world.is_first:
            source, _ = load_for_training(self.job.model_folder)
            before = dict(source.named_parameters())
            notes = merge_back(
                self.model, before, self.job.added, shares, choosing, seed=self.job.seed
            )
        else:
            # Rank 0 merges; the others take part in its measurements.
            for _ in shares_to_try(shares, choosing):
                self._choosing()
        if self.job.heldout:
            with self._shared() as model:
                self.log.measure(model, done, merged=notes.get("share"))
        return {"merge_back": notes}

    def _choosing(self) -> dict[str, float]:
        """Return the bits per byte that a share of `merge_back` is chosen by."""
        with self._shared() as model:
            return self.log.heldout(model, self.job.choosing)

    def _save(
        self,
        state: RunState,
        number: int,
        step: int,
        stepper: Stepper,
        monitor: DivergenceMonitor,
        *,
        last: bool,
    ) -> None:
        state.phase, state.step, state.losses = number, step, (monitor.first, monitor.last)
        content = state.content(self.fingerprint, self.log.sync())
        save = self.writer.begin if self.writer else save_checkpoint
        save(self.job.scratch_dir, state.done.step, stepper.tensors(), content)
        if self.writer and last:
            self.writer.finish()
        state.saved, state.saved_step = time.monotonic(), state.done.step
        self._keep_prefix(state.done)

    def _keep_prefix(self, done: Totals) -> None:
        if self.prefix and self.world.is_first:
            self.prefix.keep(self.job.scratch_dir, done.step)

    def write(self, output: Path) -> None:
        """Write the finished model, the low-rank matrices merged into it, and the log."""
        save_final_model(self.model, self.types, self.job.model_folder, output / "model")
        for name in map(LOW_RANK.format, range(len(self.phases))):
            if (self.job.scratch_dir / name).is_file():
                shutil.copyfile(self.job.scratch_dir / name, output / name)
        shutil.copyfile(self.job.scratch_dir / LOG, output / LOG)
