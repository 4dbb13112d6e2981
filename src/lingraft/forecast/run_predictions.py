"""Predict the results of a run (prediction.json), and compare them with its measurements.

A prediction only uses information from before its result. Tokens per byte are predicted from the
base tokenizer, a sample of the training text, and the held-out text on which they are measured
later; the learned tokens are not read. Bits per byte at the end and the training time are predicted
from the first part of the training log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus, first_documents
from lingraft.errors import LingraftError
from lingraft.evaluation.score_model import heldout_documents
from lingraft.forecast.loss_forecast import predict_end
from lingraft.forecast.predict_fertility import predict_fertility, text_bytes, tokens_per_byte
from lingraft.forecast.training_curve import (
    ANNEALED_BELOW,
    heldout_points,
    read_log,
    records_with,
    train_points,
    weighted_bytes,
)
from lingraft.measurement import read_measurements, select
from lingraft.tokenizer import ModelTokenizer, family_of
from lingraft.vocabulary.auto_size import SIZES

PREDICTION = "prediction.json"
FIRST_PART = 0.2
"""Share of the training steps from which the end is predicted."""
SAMPLE_BYTES = 8_000_000
"""Bytes of training text from which tokens per byte are predicted; this takes seconds."""

# Predictions from 8 of 12 MB were wrong by up to 0.7% (Hindi), which the interval does not cover.
MIN_RELATIVE_WIDTH = 0.01
"""Minimum distance of the bounds from the predicted tokens per byte, relative to the value."""

TIME = "training time"
# A fixed allowance for a shared machine, not a measured interval: other processes make a run slower
# more often than their end makes it faster.
TIME_RANGE = (0.8, 1.5)
"""The range of the training time, relative to the predicted value."""


@dataclass(frozen=True)
class Prediction:
    """A predicted number with its range; `known` describes the data of the prediction.

    The range is a 95% interval. For the training time it is `TIME_RANGE`.
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


@dataclass(frozen=True)
class AddedTokens:
    """The inputs for tokens per byte: base tokenizer, text and number of added tokens.

    `pre_tokenizer` is the run's pre-tokenizer, as in tokenizer.json.
    """

    tokenizer: ModelTokenizer
    corpus: Corpus
    heldout_bytes: int
    added: int
    pre_tokenizer: dict[str, Any] | None


@dataclass(frozen=True)
class TrainingLog:
    """The inputs for the end of training: records of training.jsonl, and the target language.

    `spliced` is the evaluated bits per byte of the model before training, if it was measured.
    """

    records: Sequence[Mapping[str, Any]]
    language: str
    spliced: float | None = None
    part: float = FIRST_PART


def predict_run(tokens: AddedTokens | None, training: TrainingLog) -> dict[str, Any]:
    """Return the content of prediction.json; "not predicted" has the reason by metric."""
    predictions: list[Prediction] = []
    reasons: dict[str, str] = {}
    predictors = {
        "tokens per byte": partial(predict_tokens, tokens),
        "bits per byte": partial(predict_bits, training),
        TIME: partial(predict_time, training),
    }
    for metric, predict in predictors.items():
        try:
            predictions += predict()
        except LingraftError as error:
            reasons[metric] = str(error)
    return {
        "format": 1,
        "part": training.part,
        "rows": list(map(asdict, predictions)),
        "not predicted": reasons,
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


def predict_tokens(inputs: AddedTokens | None) -> Iterator[Prediction]:
    """Predict the tokens per byte of the held-out text."""
    if inputs is None or not inputs.added:
        return
    tokenizer, corpus, added = inputs.tokenizer, inputs.corpus, inputs.added
    documents = list(first_documents(corpus.documents("train"), SAMPLE_BYTES))
    data = {**tokenizer.family.data, "pre_tokenizer": inputs.pre_tokenizer}
    is_changed = data["pre_tokenizer"] != tokenizer.family.data.get("pre_tokenizer")
    changed = family_of(data, tokenizer.folder) if is_changed else None
    evaluated = heldout_documents(corpus, inputs.heldout_bytes)
    curves = predict_fertility(
        tokenizer.family,
        changed,
        documents,
        corpus.counts("train").bytes,
        evaluated=evaluated,
        sizes=[*takewhile(lambda size: size < added, SIZES), added],
    )
    if curves is None:
        return
    now = sum(map(len, tokenizer.encode(evaluated))) / text_bytes(evaluated)
    value, low, high = tokens_per_byte(now, curves[-1]).at(added)
    low = min(low, value * (1 - MIN_RELATIVE_WIDTH))
    high = max(high, value * (1 + MIN_RELATIVE_WIDTH))
    size = text_bytes(documents)
    yield Prediction(
        "tokens per byte",
        corpus.language,
        "tokens/byte",
        value,
        low,
        high,
        f"the base tokenizer, {size:,} bytes of train text and the held-out text",
    )


def predict_bits(inputs: TrainingLog) -> Iterator[Prediction]:
    """Predict the target's bits per byte after training from the first part of the log.

    Raises `RecipeError` if this part has too few points.
    """
    records, language = inputs.records, inputs.language
    steps = records_with(records, "bits_per_byte")
    # With several phases, one curve does not continue the other.
    if not steps or steps[-1]["phase"] != 0:
        return
    last_step = inputs.part * steps[-1]["steps"]
    seen = [record for record in records if record["step"] <= last_step]
    # The bytes and the learning rate of the later steps are planned, so they may be used.
    planned, points = train_points(steps), train_points(seen)
    ahead = weighted_bytes(planned[max(len(points) - 1, 0) :])
    forecast = predict_end(
        points,
        planned[-1].bytes,
        heldout=heldout_points(seen, language),
        annealed=planned[-1].factor < ANNEALED_BELOW,
        ahead=ahead,
    )
    scale = _evaluation_scale(inputs)
    yield Prediction(
        "bits per byte",
        language,
        "bits/byte",
        forecast.value * scale,
        forecast.low * scale,
        forecast.high * scale,
        f"the first {inputs.part:.0%} of the training log",
    )


def _evaluation_scale(inputs: TrainingLog) -> float:
    """Return the evaluated bits per byte over those of the held-out curve, both before training.

    The held-out curve and the evaluation score different amounts of text, so their levels can
    differ. Without an evaluation before training, the ratio is 1.
    """
    # The ratio before training is assumed to hold at the end. The curve uses the first 20 kB of
    # held-out text (CURVE_BYTES), the evaluation up to `heldout_bytes`.
    before = inputs.records[0].get("heldout", {}).get(inputs.language)
    return inputs.spliced / float(before) if inputs.spliced and before else 1.0


def predict_time(inputs: TrainingLog) -> Iterator[Prediction]:
    """Predict the seconds of training from the seconds of its first part."""
    steps = records_with(inputs.records, "seconds")
    seen = list(takewhile(lambda step: step["step"] <= inputs.part * steps[-1]["steps"], steps))
    if len(seen) < 2:
        return
    # The time up to the first record includes the start, so only later steps give a time per step.
    first, last = seen[0], seen[-1]
    step_seconds = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    value = first["seconds"] + step_seconds * (steps[-1]["steps"] - first["step"])
    low, high = TIME_RANGE[0] * value, TIME_RANGE[1] * value
    source = f"the first {inputs.part:.0%} of the training log"
    yield Prediction(TIME, "", "seconds", value, low, high, source)


def _read_measured(folder: Path) -> dict[tuple[str, str], float]:
    measurements = select(read_measurements(folder / "measurements.parquet"), subject="adapted")
    measured = {(entry.metric, entry.language): entry.value for entry in measurements}
    steps = records_with(read_log(folder / "training.jsonl"), "seconds")
    if steps:
        measured[TIME, ""] = steps[-1]["seconds"]
    return measured
