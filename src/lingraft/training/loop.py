"""The loop: a plain one, on a plain transformers model.

Everything that a step does follows from (seed, phase, step) and the weights: which rows, which dropout. So a run that
was killed and goes on from its last checkpoint ends, on a CPU, bit-identical to one that was never disturbed.
Weights train in float32 and are saved in the data types of the source.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.errors import Interrupted, ModelError, TrainingError
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Mixture, Start
from lingraft.progress import progress
from lingraft.store import digest
from lingraft.strategies.base import Rates
from lingraft.training.checkpoints import Checkpoint, flush, latest_checkpoint, room_for_tensors
from lingraft.training.execution import Execution
from lingraft.training.legs import Leg, leg_of
from lingraft.training.log import Log
from lingraft.training.plan import Phase, TrainingPlan
from lingraft.training.progress_state import Done, RunState
from lingraft.training.signals import Stopped, stop_signals
from lingraft.training.steps import Stepper
from lingraft.training.watch import Watch

Heldout = Callable[[Any], Mapping[str, float]]
"""Measures a model: language -> bits per byte."""


@dataclass(frozen=True)
class Text:
    """What is trained on: packed target text, and packed replay text with its share of the bytes."""

    target: Blocks
    replay: Blocks | None = None
    share: float = 0.0


def train(model_folder: Path, text: Text, plan: TrainingPlan, *, output: Path, workplace: Path,
          added: Sequence[int] = (), seed: int = 0, execution: Execution | None = None,
          heldout: Heldout | None = None) -> dict[str, Any]:
    """Train a model by a plan; write `output/model` (weights and config) and `output/training.jsonl`, return notes.

    `added` are the ids of the spliced-in tokens. Progress lives in `workplace`: called again with the same arguments,
    a stopped run goes on. Raises `Interrupted` on SIGTERM and Ctrl-C, after saving, and `TrainingError` where the
    loss is no number or explodes.
    """
    workplace.mkdir(parents=True, exist_ok=True)
    run = _Run(_Job(model_folder, text, plan, workplace, tuple(added), seed, execution or Execution(), heldout))
    with room_for_tensors(workplace), torch.random.fork_rng(), stop_signals() as stopped:
        notes = run.train(stopped)
        with room_for_tensors(output):
            run.write(output)
    return notes


def open_model(folder: Path, **settings: Any) -> Any:
    """Load a causal language model; raises `ModelError` where transformers cannot."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", local_files_only=True,
                                                    **settings)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder}: no model that transformers can load: {str(error).splitlines()[0]}"
        raise ModelError(msg) from error


@dataclass(frozen=True)
class _Job:
    """What `train` was called with."""

    model_folder: Path
    text: Text
    plan: TrainingPlan
    workplace: Path
    added: tuple[int, ...]
    seed: int
    execution: Execution
    heldout: Heldout | None


class _Run:
    """One call of `train`."""

    def __init__(self, job: _Job) -> None:
        self.text, self.plan, self.workplace, self.added, self.seed = (
            job.text, job.plan, job.workplace, job.added, job.seed)
        self.execution, self.heldout = job.execution, job.heldout
        source = open_model(job.model_folder, dtype="auto")
        self.types = {name: parameter.dtype for name, parameter in source.named_parameters()}
        self.parameters = sum(parameter.numel() for parameter in source.parameters())
        self.vocabulary = source.get_input_embeddings().weight.shape[0]
        self.model = self._placed(source)
        question = [self.plan.model_dump(mode="json"), self.text.share, self.seed, self.added, self.parameters,
                    *[vars(blocks.summary) for blocks in (self.text.target, self.text.replay) if blocks]]
        self.fingerprint = digest(question)
        self.legs = self._legs()
        self.steps = sum(leg.steps for leg in self.legs)

    def _placed(self, model: Any) -> Any:
        model.config.use_cache = False
        return model.float().to(self.execution.device).train()

    def _legs(self) -> list[Leg]:
        legs, start = [], Start()
        for phase in self.plan.phases:
            share = self.text.share if phase.replay is None else phase.replay
            mixture = Mixture(self.text.target, self.text.replay, share, self.seed, start)
            rows = phase.rows_of_a_step(self.text.target.summary.block, self.parameters)
            legs.append(leg_of(mixture, phase.budget, rows))
            start = mixture.used(legs[-1].rows)
        return legs

    def train(self, stopped: Stopped) -> dict[str, Any]:
        """Carry out what is left of the plan and return the notes."""
        checkpoint = self._checkpoint()
        state = RunState.read(checkpoint.state if checkpoint else {}, self.fingerprint)
        self.log = Log(self.workplace, state.log_bytes)
        if state.phase and state.phase < len(self.legs):
            self.model = self._placed(open_model(self._phase_folder(state.phase), dtype=torch.float32))
        with progress("training", self.steps, unit="steps") as advance:
            advance(state.done.step)
            for number in range(state.phase, len(self.legs)):
                resumed = checkpoint if checkpoint and number == state.phase else None
                self._train_phase(number, state, resumed, stopped, advance)
        return self._notes(state)

    def _checkpoint(self) -> Checkpoint | None:
        checkpoint = latest_checkpoint(self.workplace)
        if checkpoint and checkpoint.state["fingerprint"] != self.fingerprint:
            msg = (f"{self.workplace}: holds the progress of another run (other plan, text, seed or model); "
                   f"remove it or name another place")
            raise TrainingError(msg)
        return checkpoint

    def _train_phase(self, number: int, state: RunState, resumed: Checkpoint | None, stopped: Stopped,
                     advance: Callable[[float], None]) -> None:
        phase, leg = self.plan.phases[number], self.legs[number]
        groups = phase.strategy.prepare(self.model, self.added)
        rates = phase.rates.resolved(phase.strategy, self.parameters)
        stepper = Stepper(self.model, groups, rates, phase=phase, execution=self.execution,
                          separators=self.text.target.separators)
        watch = Watch(self.vocabulary, *state.losses) if resumed else Watch(self.vocabulary)
        if resumed:
            stepper.load(resumed.tensors())
        elif not state.done.step:
            self._measure(state.done)
        for step in range(state.step, leg.steps):
            self._step(number, step, stepper, watch, state)
            advance(1)
            signal = stopped()
            if signal or step + 1 == leg.steps or state.is_due(self.execution):
                self._save(state, number, step + 1, stepper, watch)
            if signal:
                msg = (f"stopped by {signal} after step {state.done.step} of {self.steps}; progress is saved in "
                       f"{self.workplace}, the same command goes on from there")
                raise Interrupted(msg)
        phase.strategy.finish(self.model)
        state.next_phase()
        if number + 1 < len(self.legs):
            self._keep_phase(number + 1)

    def _step(self, number: int, step: int, stepper: Stepper, watch: Watch, state: RunState) -> None:
        leg, phase = self.legs[number], self.plan.phases[number]
        torch.manual_seed(int(digest([self.seed, number, step])[:15], 16))
        factor = phase.schedule.factor(step, leg.steps)
        batch = leg.batch(step)
        result = stepper.forward_backward(batch)
        complaint = watch.complaint(result.nats_a_token, result.gradient_norm)
        if complaint:
            good = latest_checkpoint(self.workplace)
            msg = (f"{complaint} at step {state.done.step + 1} of {self.steps}; the last good checkpoint is "
                   f"{good.folder if good else 'none'}; lower training.rates or training.clip, or look at the data")
            raise TrainingError(msg)
        stepper.update(factor)
        state.done = state.done.plus(batch)
        self.log.write({"step": state.done.step, "steps": self.steps, "phase": number, "tokens": state.done.tokens,
                        "bytes": state.done.bytes, "target_bytes": state.done.target_bytes,
                        "bits_per_byte": result.bits / max(batch.bytes, 1),
                        "learning_rate": stepper.rates.body * factor,
                        "learning_rate_embeddings": stepper.rates.embeddings * factor,
                        "gradient_norm": result.gradient_norm, "seconds": round(state.seconds, 3)})
        self._measure(state.done)

    def _measure(self, done: Done) -> None:
        points = self.plan.heldout_points
        due = {round(i * self.steps / points) for i in range(points + 1)} if points else set()
        if self.heldout is None or done.step not in due:
            return
        self.model.eval()
        with torch.no_grad():
            values = dict(self.heldout(self.model))
        self.model.train()
        self.log.write({"step": done.step, "bytes": done.bytes, "heldout": values})

    def _save(self, state: RunState, number: int, step: int, stepper: Stepper, watch: Watch) -> None:
        flush(self.log.path)
        state.phase, state.step, state.losses = number, step, (watch.first, watch.last)
        state.save(self.workplace, stepper.tensors(), self.fingerprint, self.log.size)

    def _phase_folder(self, number: int) -> Path:
        return self.workplace / f"phase-{number}"

    def _keep_phase(self, number: int) -> None:
        """Keep the model that a later phase begins with: its frozen weights are in no checkpoint."""
        folder = self._phase_folder(number)
        draft = folder.with_name(f".draft-{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        self.model.save_pretrained(draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)

    def write(self, output: Path) -> None:
        """Write the finished model, in the data types of the source, and the log."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(requires_grad=True)
            parameter.data = parameter.data.to(self.types[name])
        self.model.config.use_cache = True
        self.model.config.dtype = next(iter(self.types.values()))
        self.model.save_pretrained(output / "model")
        shutil.copyfile(self.log.path, output / self.log.path.name)

    def _notes(self, state: RunState) -> dict[str, Any]:
        phases = [self._phase_notes(phase, leg, phase.rates.resolved(phase.strategy, self.parameters))
                  for phase, leg in zip(self.plan.phases, self.legs, strict=True)]
        return {"parameters": self.parameters, "steps": self.steps, "tokens": state.done.tokens,
                "bytes": state.done.bytes, "target_bytes": state.done.target_bytes,
                "replayed_bytes": state.done.bytes - state.done.target_bytes,
                "replay_share": round(1 - state.done.target_bytes / max(state.done.bytes, 1), 4),
                "target_documents": state.done.target_documents, "seconds": round(state.seconds, 1),
                "precision": "bfloat16" if self.execution.computes_in_bfloat16() else "float32",
                "device": self.execution.device, "phases": phases}

    def _phase_notes(self, phase: Phase, leg: Leg, rates: Rates) -> dict[str, Any]:
        drawn = leg.mixture.used(leg.rows)
        return {"strategy": phase.strategy.chosen(), "reference": phase.strategy.reference, "steps": leg.steps,
                "rows": leg.rows, "rows_of_a_step": leg.rows_of_a_step, "replay_share": leg.mixture.share,
                "epochs": round((drawn.target - leg.mixture.start.target) / len(self.text.target), 4),
                "rates": {"body": rates.body, "embeddings": rates.embeddings, "why": rates.why}}
