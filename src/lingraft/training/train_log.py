"""The log of a training run (training.jsonl), with its held-out curve."""

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
from lingraft.progress import warn
from lingraft.store import atomic_file, fsync, link_or_copy
from lingraft.training.checkpointing import STATE, TrainingCheckpoint, new_checkpoint
from lingraft.training.distributed import reshard
from lingraft.training.job import Job
from lingraft.training.plan import TrainingPlan
from lingraft.training.state import Totals
from lingraft.training.trackers import Tracker, numbers_of

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
