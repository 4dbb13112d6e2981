"""Read the curve of bits per byte from a training log, and predict its end while training runs.

The log is training.jsonl. It has one JSON record per step, with the target's bits per byte of this
step, and at some steps those on held-out text. A point of the curve is (target bytes, bits per
byte, learning rate over its peak). With several targets, each has a curve over its own bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.forecast.loss_forecast import Forecast, LossPoint, predict_end
from lingraft.formatting import with_interval

LogRecord = Mapping[str, Any]

FIRST_PART = 0.25
"""Share of the training steps from which the end is predicted.

With the default of eight points, the second point of the held-out curve is at a quarter. Over 108
runs, the mean error from two points is half of that from one, at a fifth (results.md).
"""
UPDATE_INTERVAL = 0.05
"""Share of the steps between updates of the prediction in the progress bar."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a training.jsonl; an empty list if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records_with(records: Sequence[LogRecord], field: str) -> list[LogRecord]:
    """Return the records that have a field; not every record has all fields."""
    return [record for record in records if field in record]


def train_points(records: Sequence[LogRecord], language: str = "") -> list[LossPoint]:
    """Return the bits per byte of a target, step by step; by default those of all together."""
    # A step without text of the target has no bits per byte of it.
    return [point for _, point in _steps(records, language) if not math.isnan(point.value)]


def heldout_points(records: Sequence[LogRecord], language: str) -> list[LossPoint]:
    """Return the held-out curve of a language, without step 0."""
    # Held-out values are in records of their own. Bytes and rate are in the record of the step, and
    # step 0, before training, has no such record.
    steps = dict(_steps(records, language))
    points = []
    for record in records:
        step = steps.get(record["step"])
        if step is not None and language in record.get("heldout", {}):
            points.append(replace(step, value=record["heldout"][language]))
    return points


def _steps(records: Sequence[LogRecord], language: str) -> Iterator[tuple[int, LossPoint]]:
    """Yield each step with the point of a target; its value is NaN without text of the target.

    A log has the bytes and the bits of each target if there are several. Without them, those of all
    targets count: with one target, and in a log that began before they were written.
    """
    steps = records_with(records, "target_bytes")
    has_own = language and len(records_with(steps, "targets")) == len(steps)
    read = 0
    for record, factor in zip(steps, _rate_factors(steps), strict=True):
        if has_own:
            own = record["targets"].get(language, {"bytes": 0, "bits_per_byte": math.nan})
            read, value = read + own["bytes"], own["bits_per_byte"]
        else:
            read, value = record["target_bytes"], record.get("target_bits_per_byte", math.nan)
        yield record["step"], LossPoint(read, value, factor)


def curve_languages(records: Sequence[LogRecord]) -> list[str]:
    """Return the languages of the held-out curve, the targets first; none without a curve."""
    for record in records_with(records, "heldout"):
        return list(record["heldout"])
    return []


def _rate_factors(records: Sequence[LogRecord]) -> list[float]:
    """Return each step's learning rate over the peak: of added rows, or else of the body."""
    for name in ("learning_rate_added_rows", "learning_rate"):
        rates = [float(record[name]) for record in records]
        if peak := max(rates, default=0.0):
            return [rate / peak for rate in rates]
    return [1.0] * len(records)


@dataclass
class ProgressForecast:
    """Predicts the end of a training phase from its log so far.

    `factor(step, steps)` is the learning rate over its peak. The first `targets` languages of the
    held-out curve are target languages. `text` is what the progress bar showed last: the prediction
    for the first of them.
    """

    factor: Callable[[int, int], float]
    steps: int
    targets: int = 1
    text: str = ""

    def update(self, log: Path, step: int) -> str:
        """Return the text for the progress bar, such as ", held-out end 0.931 (0.902 to 0.958)"."""
        interval = max(1, round(UPDATE_INTERVAL * self.steps))
        if step >= FIRST_PART * self.steps and step % interval == 0:
            records = read_log(log)
            forecast = self.predict(records, step)
            label = "held-out end" if any(record.get("heldout") for record in records) else "end"
            self.text = ""
            if forecast is not None:
                numbers = with_interval(forecast.value, forecast.low, forecast.high)
                self.text = f", {label} {numbers}"
        return self.text

    def predict(self, records: Sequence[LogRecord], step: int) -> Forecast | None:
        """Predict the end of the phase from the records of its log; `None` with too few points."""
        try:
            return self.predict_end(records, step)
        except RecipeError:  # too few points so far
            return None

    def predict_end(
        self, records: Sequence[LogRecord], step: int, language: str | None = None
    ) -> Forecast:
        """Predict the end of the phase from its log up to a step.

        The prediction is for held-out text of the language (default: the first one of the held-out
        curve), or for the training text if there is no curve. Raises `RecipeError` with too few
        points.
        """
        language = language or next(iter(curve_languages(records)), "")
        points = train_points(records, language)
        heldout = heldout_points(records, language)
        if language and not heldout:
            msg = "the held-out curve has no point after step 0 so far; wait, or measure more"
            raise RecipeError(msg)
        step_bytes = points[-1].bytes / step if points and step else 0.0
        factors = [self.factor(later, self.steps) for later in range(step, self.steps)]
        return predict_end(
            points,
            step_bytes * self.steps,
            heldout=heldout,
            end_factor=self.factor(self.steps - 1, self.steps),
            ahead=step_bytes * sum(factors),
        )
