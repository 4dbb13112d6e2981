"""A prediction of a run, as prediction.json stores it, and what the run measured of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lingraft.forecast.training_curve import read_log, records_with
from lingraft.measurement import read_measurements, select

PREDICTION = "prediction.json"
BITS = "bits per byte"
TIME = "training time"


@dataclass(frozen=True)
class Prediction:
    """A predicted number with its range; `known` describes the data of the prediction.

    The range is a 95% interval. For the training time it is an allowance (`training_time`).
    """

    metric: str
    language: str
    unit: str
    value: float
    low: float
    high: float
    known: str


@dataclass(frozen=True)
class CheckedPrediction:
    """A prediction with the measured number; `error` is predicted / measured - 1."""

    prediction: Prediction
    measured: float

    @property
    def error(self) -> float:
        """The relative error."""
        return self.prediction.value / self.measured - 1

    @property
    def within(self) -> bool:
        """Whether the range contains the measured number."""
        return self.prediction.low <= self.measured <= self.prediction.high

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON: the prediction's fields, measured, error, within."""
        return {
            **asdict(self.prediction),
            "measured": self.measured,
            "error": self.error,
            "within": self.within,
        }


def read_predictions(folder: Path) -> list[Prediction]:
    """Return the predictions of a run folder; an empty list without prediction.json."""
    path = folder / PREDICTION
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Prediction(**fields) for fields in content["rows"]]


def check_predictions(folder: Path) -> list[CheckedPrediction]:
    """Return the predictions of a run folder whose number the run has measured."""
    measured = _read_measured(folder)
    checked = []
    for prediction in read_predictions(folder):
        value = measured.get((prediction.metric, prediction.language))
        if value:
            checked.append(CheckedPrediction(prediction, value))
    return checked


def known_from_log(done: int, steps: int) -> str:
    """Return `Prediction.known` of a prediction from the first steps of a training log."""
    return f"the first {done / steps:.0%} of the training log"


def _read_measured(folder: Path) -> dict[tuple[str, str], float]:
    measurements = select(read_measurements(folder / "measurements.parquet"), subject="adapted")
    measured = {(entry.metric, entry.language): entry.value for entry in measurements}
    steps = records_with(read_log(folder / "training.jsonl"), "seconds")
    if steps:
        measured[TIME, ""] = steps[-1]["seconds"]
    return measured
