"""What a training run records: its log (training.jsonl) with the held-out curve, and its notes."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lingraft.errors import TrainingError
from lingraft.evaluation.lost_ability import REMEDY, loss_in_words, lost_since
from lingraft.evaluation.score_model import HeldoutBits
from lingraft.forecast.run_predictions import predict_training
from lingraft.forecast.training_curve import FIRST_PART, ProgressForecast, read_log
from lingraft.forecast.training_time import MeasuringTime, measuring_seconds
from lingraft.formatting import join_words
from lingraft.packing.mixture import Batch
from lingraft.progress import warn
from lingraft.store import atomic_file, fsync, link_or_copy
from lingraft.training.checkpointing import STATE, TrainingCheckpoint, new_checkpoint
from lingraft.training.config import Phase
from lingraft.training.distributed import reshard
from lingraft.training.job import Job
from lingraft.training.optimizer import execution_with
from lingraft.training.phase_outline import outline_phase
from lingraft.training.phase_steps import PhaseSteps, TrainingSteps, TrainingText
from lingraft.training.plan import TrainingPlan
from lingraft.training.state import RunState, Totals
from lingraft.training.trackers import Tracker, numbers_of
from lingraft.training.train_step import StepResult

LOG = "training.jsonl"

REMEDY_OF_DIVERGENCE = (
    "lower training.learning_rates or training.max_grad_norm, or look at the data"
)


class JsonlLog:
    """A file with one JSON value per line, cut back to `size` bytes when it is opened."""

    def __init__(self, folder: Path, size: int = 0) -> None:
        self.path = folder / LOG
        self.path.touch()
        # Records after the last checkpoint are written again. A larger size would append zeros.
        os.truncate(self.path, min(size, self.size))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.path.stat().st_size


def restart_curve(
    scratch_dir: Path, checkpoint: TrainingCheckpoint, curve: str
) -> TrainingCheckpoint:
    """Remove the held-out curve from the log of a stopped run; return the changed checkpoint.

    The rest of the run measures something else (other documents, another context), whose points do
    not continue the curve. What was predicted from its points is removed, too. `curve` is the
    digest of what is measured from now on.
    """
    state, kept = checkpoint.state, b""
    step = state["done"]["step"]
    log = (scratch_dir / LOG).read_bytes()
    for line in log[: state["log_bytes"]].splitlines(keepends=True):
        # A process that was killed here leaves a shorter log with the checkpoint of the longer one.
        if not line.endswith(b"\n") or json.loads(line)["step"] > step:
            break
        if not {"heldout", "of_steps"} & json.loads(line).keys():
            kept += line
    with atomic_file(scratch_dir / LOG) as draft:
        draft.write_bytes(kept)
    state = {**state, "curve": curve, "curve_from": step, "log_bytes": len(kept)}
    with new_checkpoint(scratch_dir, step, state) as draft:
        for file in checkpoint.folder.iterdir():
            if file.name != STATE:
                link_or_copy(file, draft / file.name)
    for other in scratch_dir.glob("step-*"):
        if other != checkpoint.folder:
            shutil.rmtree(other, ignore_errors=True)  # its size of the log is that of the old one
    return replace(checkpoint, state=state)


class TrainLog:
    """The log of a run; it writes nothing until `begin`, which rank 0 calls.

    `steps` are those of each phase.
    """

    def __init__(self, job: Job, steps: Sequence[int]) -> None:
        self.job, self.steps = job, sum(steps)
        self.log: JsonlLog | None = None
        self.trackers: Sequence[Tracker] = ()
        phases = job.plan.phases
        self.is_predicted, self.has_point = False, False
        self.first_gains: Mapping[str, Mapping[str, float]] | None = None
        self.forecast: ProgressForecast | None = None
        # The loss of one phase does not predict that of another, nor that of merged branches.
        if len(phases) == 1 and phases[0].branch_and_merge is None:
            factor, targets = phases[0].schedule.factor, len(job.text.targets)
            self.forecast = ProgressForecast(factor, self.steps, targets)
        self.measured_steps = measured_steps(job.plan, steps)
        self.measuring_seconds = 0.0
        self.curve_from = 0

    def begin_curve(self, step: int) -> None:
        """Begin the held-out curve at a step, at which it has a point."""
        self.curve_from = step
        self.measured_steps.add(step)

    def begin(self, scratch_dir: Path, log_bytes: int) -> None:
        """Open the log, cut back to its size at the last checkpoint."""
        self.log = JsonlLog(scratch_dir, log_bytes)
        records = read_log(self.log.path)
        self.measuring_seconds = measuring_seconds(records)
        for record in records:
            self.is_predicted |= record.get("of_steps") == self.steps
            self.has_point |= "heldout" in record and record["step"] > 0
            if self.first_gains is None:
                self.first_gains = record.get("in_context")

    def write(self, record: dict[str, Any]) -> None:
        """Write a record to the log and its numbers to the trackers."""
        if self.log:
            self.log.write(record)
        for tracker in self.trackers:
            tracker.write(record["step"], numbers_of(record))

    def sync(self) -> int:
        """Write the log through to the disk and return its size in bytes, for a checkpoint."""
        if self.log is None:
            return 0
        fsync(self.log.path)
        return self.log.size

    def predict(self, step: int) -> None:
        """Predict the end of training and store it in the log, once its first part is done."""
        has_curve = self.job.heldout is not None and self.job.plan.heldout_points > 0
        is_due = FIRST_PART * self.steps <= step < self.steps
        if not is_due or (has_curve and not self.has_point):
            return
        if self.log and not self.is_predicted:
            self.is_predicted = True
            records = read_log(self.log.path)
            left = sum(step <= point < self.steps for point in self.measured_steps)
            measuring = MeasuringTime(self.measuring_seconds, left)
            self.log.write(predict_training(self.forecast, records, self.steps, measuring))

    def note(self, step: int) -> str:
        """Return the predicted result after the last step, as text for the progress bar."""
        return self.forecast.update(self.log.path, step) if self.forecast and self.log else ""

    def is_due(self, done: Totals) -> bool:
        """Say whether the held-out curve has a point here."""
        return self.job.heldout is not None and done.step in self.measured_steps

    def measure(self, model: Any, done: Totals) -> None:
        """Measure held-out text and write a record, if a point of the curve is due.

        Raises `TrainingError` if a value is not finite.
        """
        if self.job.heldout is not None and self.is_due(done):
            began = time.monotonic()
            with scoring(model):
                values = self.job.heldout(model)
                gains = dict(self.job.in_context(model)) if self.job.in_context else {}
            self.measuring_seconds = time.monotonic() - began
            self._check_finite(values, done.step)
            self.has_point |= done.step > 0
            gains |= values.gains if isinstance(values, HeldoutBits) else {}
            found = self._in_context(gains, done.step) if gains else {}
            self.write({"step": done.step, "bytes": done.bytes, "heldout": values, **found})

    def _check_finite(self, values: Mapping[str, float], step: int) -> None:
        # The loss of the next step would show it, but a point of the curve comes before.
        wrong = [language for language, bits in values.items() if not math.isfinite(bits)]
        if wrong:
            where, cure = f"at step {step} of {self.steps}", REMEDY_OF_DIVERGENCE
            if step == 0:
                where, cure = "before training", "look at the model, or set --precision float32"
            bits = values[wrong[0]]
            msg = f"the held-out bits per byte of {join_words(wrong)} are {bits} {where}; {cure}"
            raise TrainingError(msg)

    def _in_context(self, gains: Mapping[str, Mapping[str, float]], step: int) -> dict[str, Any]:
        """Return the gains for the log; warn of what was lost since step 0."""
        if self.first_gains is None:
            self.first_gains = gains
        # A curve that begins later does not know the gains before training.
        lost = [] if self.curve_from else list(lost_since(self.first_gains, gains))
        for probe in lost if self.log else ():
            warn(
                f"in-context learning: at step {step} of {self.steps}, "
                f"{loss_in_words(probe, self.first_gains[probe], gains[probe])}; {REMEDY}"
            )
        return {"in_context": gains, **({"lost": lost} if lost else {})}


@contextmanager
def scoring(model: Any) -> Iterator[None]:
    """Have a model that trains in evaluation mode while the block runs."""
    model.eval()
    with torch.no_grad():
        yield
    model.train()
    # A forward pass without a backward pass leaves the parameters of a sharded model whole.
    reshard(model)


def measured_steps(plan: TrainingPlan, steps: Sequence[int]) -> set[int]:
    """Return the steps of a run after which its held-out curve has a point.

    They are evenly spaced over all steps. In a phase of branches, a point moves to the nearest end
    of an iteration, because only the merged model has read the text of all branches. `steps` are
    the steps of each phase.
    """
    points, total = plan.heldout_points, sum(steps)
    due = {round(i * total / points) for i in range(points + 1)} if points else set()
    before = 0
    for phase, count in zip(plan.phases, steps, strict=True):
        settings = phase.branch_and_merge
        of_phase = [step for step in due if before < step <= before + count]
        if settings:
            due.difference_update(of_phase)
            due |= {before + settings.nearest_merge(step - before, count) for step in of_phase}
        before += count
    return due


def step_record(
    batch: Batch, result: StepResult, state: RunState, targets: Sequence[str]
) -> dict[str, Any]:
    """Return the log record of a step; `targets` are the names of the target texts.

    The bits per byte of target and replay text are left out if the step has no such text. With
    several targets, `targets` has the bytes and the bits per byte of each that the step has.
    """
    done, replayed = state.done, batch.bytes - batch.target_bytes
    count = batch.target_count
    of_targets, of_replay = result.text_bits[:count], result.text_bits[count:]
    record: dict[str, Any] = {
        "tokens": done.tokens,
        "bytes": done.bytes,
        "target_bytes": done.target_bytes,
        "bits_per_byte": sum(result.text_bits) / max(batch.bytes, 1),
        "gradient_norm": result.gradient_norm,
        "seconds": round(state.seconds, 3),
    }
    if batch.target_bytes:
        record["target_bits_per_byte"] = sum(of_targets) / batch.target_bytes
    if replayed:
        record["replay_bits_per_byte"] = sum(of_replay) / replayed
    if count > 1:
        record["targets"] = {
            name: {"bytes": size, "bits_per_byte": bits / size}
            for name, size, bits in zip(targets, batch.text_bytes, of_targets, strict=False)
            if size
        }
    if result.replay_kl is not None:
        record["replay_kl"] = result.replay_kl
    return record


def speed_note(
    state: RunState, bits_per_byte: float, seconds: float, mfu: float | None = None
) -> str:
    """Return the text next to the progress bar; `seconds` is the time since the process began.

    >>> state = RunState(done=Totals(step=1, tokens=4096, bytes=12000))
    >>> speed_note(state, 1.23456, seconds=2.0)
    '1.235 bits/byte, 2,048 tokens/s, 6,000 bytes/s'
    """
    seconds = max(seconds, 1e-9)
    tokens = (state.done.tokens - state.begun.tokens) / seconds
    size = (state.done.bytes - state.begun.bytes) / seconds
    share = "" if mfu is None else f", MFU {mfu:.0%}"
    return f"{bits_per_byte:.3f} bits/byte, {tokens:,.0f} tokens/s, {size:,.0f} bytes/s{share}"


def run_notes(
    job: Job, planned: TrainingSteps, state: RunState, kind: str, parameters: int
) -> dict[str, Any]:
    """Return the notes of a finished run, for the manifest of the stage.

    `kind` is the model type, `parameters` the size of the model.
    """
    done, text, epochs = state.done, job.text, planned.epochs(job.text)
    bfloat16 = any(
        execution_with(phase.optimizer, job.execution).computes_in_bfloat16()
        for phase in job.plan.phases
    )
    precision = "tf32" if job.execution.allows_tf32() else "float32"
    replayed = done.bytes - done.target_bytes
    notes = {
        "parameters": parameters,
        "steps": done.step,
        "tokens": done.tokens,
        "bytes": done.bytes,
        "target_bytes": done.target_bytes,
        "replayed_bytes": replayed,
        "replay_share": round(replayed / max(done.bytes, 1), 4),
        "target_documents": done.target_documents,
        "epochs": epochs,
        "seconds": round(state.seconds, 1),
        "device": job.execution.device,
        "precision": "bfloat16" if bfloat16 else precision,
        "phases": [
            _phase_notes(text, phase, steps, kind, parameters)
            for phase, steps in zip(job.plan.phases, planned.phases, strict=True)
        ],
    }
    # Keys such as `rows` and `trunk_steps` are stored in manifests, so their names stay.
    if state.prefix_steps:
        notes["trunk_steps"] = state.prefix_steps
    if planned.warnings:
        notes["warnings"] = list(planned.warnings)
    return notes


def _phase_notes(
    text: TrainingText, phase: Phase, steps: PhaseSteps, kind: str, parameters: int
) -> dict[str, Any]:
    outline = outline_phase(phase, steps, kind, parameters)
    mixture = steps.mixture
    return {
        **({} if phase.optimizer == "adamw" else {"optimizer": phase.optimizer}),
        "strategy": phase.strategy.chosen(),
        "reference": phase.strategy.reference,
        "steps": steps.steps,
        "rows": steps.sequences,
        "rows_of_a_step": steps.sequences_per_step,
        "replay_share": mixture.replay.share if mixture.replay else 0.0,
        "average_steps": round(phase.average_share * phase.steps_of_schedule(steps.steps)),
        "epochs": steps.epochs(text),
        "schedule": phase.schedule.chosen(),
        **outline.notes(),
    }
