"""Predict the seconds of a training from those of its first steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from lingraft.forecast.prediction import TIME, Prediction, known_from_log
from lingraft.forecast.training_curve import LogRecord, records_with

# A fixed allowance for a shared machine, not a 95% interval: 126 of 140 trainings on a machine that
# was busy by turns ended in it (benchmarks/results.md). The step times so far give no interval,
# because they say nothing of what other processes do later.
TIME_RANGE = (0.8, 1.5)
"""The range of the training time, relative to the predicted value."""


@dataclass(frozen=True)
class MeasuringTime:
    """The seconds of a point of the held-out curve, and the points that are left before the end.

    A point at the current step is left, because the seconds of the log end before it.
    """

    seconds: float = 0.0
    left: int = 0


def step_seconds(records: Sequence[LogRecord]) -> tuple[list[float], list[float]]:
    """Return the seconds of steps: of those by themselves, and of those after a measurement.

    The time up to the first record is left out, because it includes the start.
    """
    measured = {record["step"] for record in records_with(records, "heldout")}
    plain: list[float] = []
    after: list[float] = []
    for earlier, later in pairwise(records_with(records, "seconds")):
        seconds = (later["seconds"] - earlier["seconds"]) / (later["step"] - earlier["step"])
        (after if earlier["step"] in measured else plain).append(seconds)
    return plain, after


def measuring_seconds(records: Sequence[LogRecord]) -> float:
    """Return the mean seconds of a point of the held-out curve, as the steps of a log show it."""
    plain, after = step_seconds(records)
    return max(0.0, fmean(after) - fmean(plain)) if plain and after else 0.0


def predict_time(
    seen: Sequence[LogRecord], steps: int, measuring: MeasuringTime
) -> Iterator[Prediction]:
    """Predict the seconds of training, up to its last step, from those of its first part."""
    plain, _ = step_seconds(seen)
    if not plain:
        return
    last = records_with(seen, "seconds")[-1]
    value = last["seconds"] + fmean(plain) * (steps - last["step"])
    value += measuring.seconds * measuring.left
    low, high = TIME_RANGE[0] * value, TIME_RANGE[1] * value
    yield Prediction(TIME, "", "seconds", value, low, high, known_from_log(last["step"], steps))
