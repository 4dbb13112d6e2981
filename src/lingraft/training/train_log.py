"""What is written of a run while it trains: rows of its log, for trackers too, and points of the held-out curve."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lingraft.forecast.loss_forecast import ProgressForecast
from lingraft.packing.mixture import Batch
from lingraft.store import fsync
from lingraft.training.config import Phase
from lingraft.training.distributed import reshard
from lingraft.training.job import Job, PhaseSteps
from lingraft.training.state import RunState, Totals
from lingraft.training.trackers import Tracker, numbers_of
from lingraft.training.train_step import StepResult


class Record:
    """The record of a run of `steps` steps; of several processes, only the first one's has a log and trackers."""

    def __init__(self, job: Job, steps: int) -> None:
        self.job, self.steps = job, steps
        self.log: Log | None = None
        self.trackers: Sequence[Tracker] = ()
        single = job.plan.phases[0].schedule if len(job.plan.phases) == 1 else None  # phases do not continue each other
        self.forecast = ProgressForecast(single.factor, steps) if single else None

    def begin(self, scratch_dir: Path, log_bytes: int) -> None:
        """Open the log where the last checkpoint left it."""
        self.log = Log(scratch_dir, log_bytes)

    def write(self, row: dict[str, Any]) -> None:
        """Write a row."""
        if self.log:
            self.log.write(row)
        for tracker in self.trackers:
            tracker.write(row["step"], numbers_of(row))

    def flushed(self) -> int:
        """Have what was written lie on the disk; return its size."""
        if self.log is None:
            return 0
        fsync(self.log.path)
        return self.log.size

    def note(self, step: int) -> str:
        """Return the predicted end of training, for the progress bar."""
        return self.forecast.update(self.log.path, step) if self.forecast and self.log else ""

    def measure(self, model: Any, done: Totals, **more: Any) -> None:
        """Write a point of the held-out curve where one is due, and with `more` always."""
        points = self.job.plan.heldout_points
        due = {round(i * self.steps / points) for i in range(points + 1)} if points else set()
        if self.job.heldout is not None and (done.step in due or more):
            self.write({"step": done.step, "bytes": done.bytes, "heldout": self.heldout(model), **more})

    def heldout(self, model: Any) -> dict[str, float]:
        """Return the bits per byte of held-out text by language."""
        model.eval()
        with torch.no_grad():
            values = dict(self.job.heldout(model)) if self.job.heldout else {}
        model.train()
        reshard(model)
        return values


def row_of(batch: Batch, result: StepResult, state: RunState) -> dict[str, Any]:
    """Return what the log says of a step; bits per byte of target and replay where the step had such text."""
    replayed = batch.bytes - batch.target_bytes
    row = {"tokens": state.done.tokens, "bytes": state.done.bytes, "target_bytes": state.done.target_bytes,
           "bits_per_byte": result.bits / max(batch.bytes, 1), "gradient_norm": result.gradient_norm,
           "seconds": round(state.seconds, 3)}
    if batch.target_bytes:
        row["target_bits_per_byte"] = (result.bits - result.replayed_bits) / batch.target_bytes
    if replayed:
        row["replay_bits_per_byte"] = result.replayed_bits / replayed
    return row


def speed_of(state: RunState, bits_per_byte: float, mfu: float | None = None) -> str:
    """Return what stands beside the progress bar.

    >>> from lingraft.training.state import Totals
    >>> speed_of(RunState(done=Totals(step=1, tokens=4096, bytes=12000), started=time.monotonic() - 2), 1.23456)
    '1.235 bits/byte, 2,048 tokens/s, 6,000 bytes/s'
    """
    here = max(time.monotonic() - state.started, 1e-9)
    tokens, size = (f"{(now - before) / here:,.0f}" for now, before in (
        (state.done.tokens, state.begun.tokens), (state.done.bytes, state.begun.bytes)))
    used = "" if mfu is None else f", MFU {mfu:.0%}"
    return f"{bits_per_byte:.3f} bits/byte, {tokens} tokens/s, {size} bytes/s{used}"


def notes_of(job: Job, legs: Sequence[PhaseSteps], state: RunState, kind: str, parameters: int) -> dict[str, Any]:
    """Return the notes of a finished run."""
    done, replayed = state.done, state.done.bytes - state.done.target_bytes
    used = legs[-1].mixture.used(legs[-1].rows) if legs else None
    notes = {"parameters": parameters, "steps": done.step, "tokens": done.tokens, "bytes": done.bytes,
             "target_bytes": done.target_bytes, "replayed_bytes": replayed,
             "replay_share": round(replayed / max(done.bytes, 1), 4), "target_documents": done.target_documents,
             "target_epochs": round(used.target / len(job.text.target), 4) if used else 0.0,
             "seconds": round(state.seconds, 1), "device": job.execution.device,
             "precision": "bfloat16" if job.execution.computes_in_bfloat16() else "float32",
             "phases": [_phase_notes(phase, leg, kind, parameters)
                        for phase, leg in zip(job.plan.phases, legs, strict=True)]}
    if state.trunk:
        notes["trunk_steps"] = state.trunk
    if used and job.text.replay is not None:
        notes["replay_epochs"] = round(used.replay / len(job.text.replay), 4)
        if used.replay > len(job.text.replay):
            times = used.replay / len(job.text.replay)
            notes["warnings"] = [f"the replay text is read {times:.1f} times: training asks for more than there is"]
    return notes


def _phase_notes(phase: Phase, leg: PhaseSteps, kind: str, parameters: int) -> dict[str, Any]:
    rates = phase.learning_rates.resolved(phase.strategy, kind, parameters)
    drawn = leg.mixture.used(leg.rows).target - leg.mixture.start.target
    return {"strategy": phase.strategy.chosen(), "reference": phase.strategy.reference, "steps": leg.steps,
            "rows": leg.rows, "rows_of_a_step": leg.rows_of_a_step, "replay_share": leg.mixture.share,
            "average_steps": round(phase.average_share * leg.steps),
            "epochs": round(drawn / len(leg.mixture.target), 4),
            "schedule": phase.schedule.chosen(),
            "learning_rates": {"body": rates.body, "added_rows": rates.added_rows, "why": rates.why}}


SPAN = 20


@dataclass
class DivergenceMonitor:
    """Keeps the first loss and the last ones (nats a token) and says what is wrong with them, if anything.

    Exploding means: the mean of the last 20 steps is over twice the first loss, and over that of a model which knows
    nothing (the logarithm of the vocabulary). Single bad batches pass.
    """

    vocabulary: int
    first: float | None = None
    last: list[float] = field(default_factory=list)

    def check(self, loss: float, gradient_norm: float) -> str | None:
        """Take in the loss and the gradient of a step; return what is wrong."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm is {gradient_norm}"
        if self.first is None:
            self.first = loss
        self.last = [*self.last[-SPAN + 1 :], loss]
        ceiling = max(2 * self.first, math.log(self.vocabulary))
        if len(self.last) == SPAN and _mean(self.last) > ceiling:
            return f"the loss explodes: {_mean(self.last):.2f} nats a token over {SPAN} steps, above {ceiling:.2f}"
        return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


LOG = "training.jsonl"


class Log:
    """The log of a run in its scratch directory."""

    def __init__(self, folder: Path, size: int = 0) -> None:
        self.path = folder / LOG
        self.path.touch()
        os.truncate(self.path, min(size, self.size))  # a longer size would fill up with zeros

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.path.stat().st_size
