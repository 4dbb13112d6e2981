"""Train a plain transformers model through the phases of a plan, and the branches of a phase.

For each of them, the model is loaded and set up, its steps run in `step_loop`, and what the
strategy inserted is merged. Weights train in float32, or in bfloat16 if the optimizer says so, and
are saved in the data types of the source.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.formatting import counted
from lingraft.packing.reading_plan import epochs_line
from lingraft.progress import no_progress, progress, say, warn
from lingraft.store import disk_errors, remove_drafts
from lingraft.strategies.model_parts import text_parameters
from lingraft.training.branch_merge import end_branch
from lingraft.training.branches import Branch
from lingraft.training.check_phases import check_phases
from lingraft.training.checkpointing import TrainingCheckpoint, checkpoint_to_resume
from lingraft.training.distributed import ProcessGroup
from lingraft.training.document_mask import DocumentMask
from lingraft.training.job import Job
from lingraft.training.phase_outline import outline_lines, outline_phase
from lingraft.training.phase_setup import PhaseSetup
from lingraft.training.prepare_model import (
    PhaseModel,
    gather_model,
    load_phase_model,
    on_every_process,
)
from lingraft.training.run_records import run_notes
from lingraft.training.save_model import (
    LOW_RANK,
    save_final_model,
    save_low_rank,
    save_phase_model,
)
from lingraft.training.shared_prefix import prefix_checkpoint
from lingraft.training.state import RunState, Stopped
from lingraft.training.step_loop import DivergenceMonitor, StepLoop
from lingraft.training.trackers import tracking
from lingraft.training.train_log import LOG, TrainLog, restart_curve
from lingraft.training.train_step import Stepper

CURVE_RESTARTED = (
    "the held-out curve begins at step {step}: what it measures was changed while the run was "
    "stopped (evaluation, or the shares of training.merge_back), and earlier points are left out"
)


class Trainer:
    """Trains the model of a job through all phases; `train` does it, `write` saves the result."""

    model: Any
    loaded: PhaseModel

    def __init__(self, job: Job, world: ProcessGroup) -> None:
        mask = world.compute_once(partial(DocumentMask.of, job.plan, job.text, job.model_folder))
        # The fingerprint has the choice, not `auto`: no checkpoint is resumed with another one.
        plan = job.plan.model_copy(update={"document_attention_mask": mask.on})
        self.job = job = replace(job, plan=plan)
        self.world = world
        self._load_phase(0, 0)
        # Of the source: later phases start from files in float32.
        self.types = self.loaded.types
        self._check_rounding()
        self.kind = str(self.model.config.model_type)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]
        self.planned = job.steps(self.parameters)
        self.phases = self.planned.phases
        check_phases(job, self.phases, self.model, world.size)
        self.fingerprint = job.fingerprint(self.parameters, self.phases)
        self.steps = sum(phase.steps for phase in self.phases)
        self.prefix = prefix_checkpoint(job, self.phases, self.parameters)
        self.setup = PhaseSetup(
            job,
            world,
            self.phases,
            mask=mask,
            kind=self.kind,
            parameters=self.parameters,
            stored_bytes=sum(
                parameter.numel() * self.types[name].itemsize
                for name, parameter in self.model.named_parameters()
            ),
            fingerprint=self.fingerprint,
        )
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
        job, world, phases = self.job, self.world, self.phases
        first = world.is_first
        # A checkpoint can be as large as all shards together, so only one process hashes it.
        checkpoint = world.compute_once(self._checkpoint)
        state = RunState.read(checkpoint.state if checkpoint else {})
        state.curve = job.curve
        if state.curve_from:
            self.log.begin_curve(state.curve_from)
            warning = CURVE_RESTARTED.format(step=state.curve_from)
            self.planned = replace(self.planned, warnings=(*self.planned.warnings, warning))
        if first:
            remove_drafts(job.scratch_dir)
            self.log.begin(job.scratch_dir, state.log_bytes)
            for warning in self.planned.warnings:
                warn(warning)
            say(self._describe(state.done.step))
            for line in self._describe_phases():
                say(line)
            if self.setup.mask.line:
                say(f"{job.title}: {self.setup.mask.line}")
        iteration = self._branches(state)[0].iteration if phases else 0
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
            loop = StepLoop(
                job, world, phases, self.fingerprint, self.log, self.prefix, state, stopped, advance
            )
            # A process that was killed after its last checkpoint may not have stored the prefix.
            loop.keep_prefix()
            advance(state.done.step)
            # A later phase starts from its own model: the checkpoint is not of it.
            resumed = checkpoint
            for number in range(state.phase, len(phases)):
                self._train_phase(number, loop, resumed)
                resumed = None
        notes = run_notes(job, self.planned, state, self.kind, self.parameters)
        if world.size > 1:
            notes |= {"processes": world.size, "opened": self.loaded.how}
        return {**notes, **self.setup.notes}

    def _checkpoint(self) -> TrainingCheckpoint | None:
        """Return the checkpoint to resume from; if there is none, that of the shared prefix."""
        folder = self.job.scratch_dir
        with disk_errors(folder):
            found = checkpoint_to_resume(folder, self.fingerprint)
            if found is None and self.prefix:
                self.prefix.take(folder, self.fingerprint)
                found = checkpoint_to_resume(folder, self.fingerprint)
            # Checkpoints of earlier versions have no digest of their curve.
            measured = found.state.get("curve") if found else None
            if found and self.job.heldout and measured not in {None, self.job.curve}:
                found = restart_curve(folder, found, self.job.curve)
        return found

    def _describe(self, done: int) -> str:
        """Return the length of the training in one line."""
        tokens = sum(phase.sequences * phase.sequence_tokens for phase in self.phases)
        block = self.job.text.target.summary.block
        full = all(phase.sequence_tokens == block for phase in self.phases)
        device = self.job.execution.device
        line = (
            f"{self.job.title}: {counted(self.steps, 'step')}, {tokens:,} tokens in "
            f"sequences of {'' if full else 'up to '}{block:,}, {self.parameters:,} parameters, "
            f"on {device}{self._describe_epochs()}"
        )
        return f"{line}; continues after step {done:,}" if done else line

    def _describe_phases(self) -> list[str]:
        """Return the batch, the warm-up and the peak rates of each phase, and why."""
        outlines = []
        for phase, steps in zip(self.job.plan.phases, self.phases, strict=True):
            outlines.append(outline_phase(phase, steps, self.kind, self.parameters))
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

    def _train_phase(self, number: int, loop: StepLoop, resumed: TrainingCheckpoint | None) -> None:
        state, sharded = loop.state, self.world.size > 1
        for branch in self._branches(state):
            # One process continues with the merged model; shards are read from the saved one.
            if not resumed and (branch.number or (branch.iteration and sharded)):
                self._load_phase(number, branch.iteration)
            self._train_branch(branch, loop, resumed)
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
        self, branch: Branch, loop: StepLoop, resumed: TrainingCheckpoint | None
    ) -> None:
        """Train the steps of a branch that are left."""
        state = loop.state
        remaining = branch.end - max(state.step, branch.first)
        stepper, used = self.setup.stepper(self.loaded, state.phase, branch, remaining)
        # The loop measures after steps. Branches may have been merged into this model since then.
        # Shards and quantised layers have their weights only after the setup.
        if not state.done.step or (branch.iteration and not branch.number and not resumed):
            self.log.measure(self.model, state.done)
        monitor = DivergenceMonitor(self.vocabulary, *(state.losses if resumed else ()))
        if resumed:
            stepper.load(resumed)
            # The model in the middle of a branch is not a point: it is not merged yet.
            branches = self.job.plan.phases[state.phase].branch_and_merge
            if state.done.step == state.curve_from and not branches:
                self.log.measure(stepper.model, state.done)
        loop.run(branch, stepper, monitor, used)
        if stepper.compiler and stepper.compiler.note:
            self.setup.notes["compile"] = stepper.compiler.note
        self._finish(branch, state, stepper)

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
            with on_every_process(self.model, self.types, self.job, self.world) as model:
                self.log.measure(model, state.done)
        self.world.barrier()

    def _load_phase(self, number: int, iteration: int) -> None:
        # The model before leaves the memory first: a device need not have room for two.
        self.model, self.loaded = None, PhaseModel(None, {})
        sharded = self.world.size > 1
        self.loaded = load_phase_model(self.job, number, iteration, sharded=sharded)
        self.model = self.loaded.model

    def write(self, output: Path) -> None:
        """Write the finished model, the low-rank matrices merged into it, and the log."""
        save_final_model(self.model, self.types, self.job.model_folder, output / "model")
        for name in map(LOW_RANK.format, range(len(self.phases))):
            if (self.job.scratch_dir / name).is_file():
                shutil.copyfile(self.job.scratch_dir / name, output / name)
        shutil.copyfile(self.job.scratch_dir / LOG, output / LOG)
