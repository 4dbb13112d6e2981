"""The predictions of a run (prediction.json), and their comparison with what the run measured.

Each prediction uses only what is known before its result. Tokens per byte are predicted from the
base tokenizer, a sample of the train text, and the held-out text that is counted later; the learned
tokens are not read. Bits per byte at the end and the training time are predicted from the first
part of the training log.
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
from lingraft.forecast.extrapolate import SIZES
from lingraft.forecast.loss_forecast import (
    FALLEN,
    heldout_points,
    points_of,
    predict_end,
    read_log,
    weighted_bytes,
)
from lingraft.forecast.predict_fertility import predict_fertility, tokens_per_byte
from lingraft.measurement import read_measurements, select
from lingraft.pretokenizer import make_mark_aware
from lingraft.tokenizer import ModelTokenizer, family_of

PREDICTION = "prediction.json"
FIRST_PART = 0.2
SAMPLE_BYTES = 8_000_000
"""Of train text that tokens per byte are predicted from; this takes seconds."""

LEAST_WIDTH = 0.01
"""Of the value, on each side of tokens per byte: 8 of 12 MB missed by up to 0.7% (Hindi)."""

TIME = "training time"
TIME_RANGE = (0.8, 1.5)
"""The range of the training time over the predicted value. It is a fixed allowance for a shared
machine, not a measured interval: a run slows down more easily than it speeds up."""


@dataclass(frozen=True)
class Predicted:
    """A predicted number with its range; `known` says what it was predicted from.

    The range is a 95% interval, except for the training time: there it is 0.8 to 1.5 times the
    value.
    """

    metric: str
    language: str
    unit: str
    value: float
    low: float
    high: float
    known: str


@dataclass(frozen=True)
class Checked:
    """A prediction and the measured number; `error` is predicted / measured - 1."""

    prediction: Predicted
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
    """The basis for tokens per byte: the base tokenizer, its text, the number of added tokens.

    `repairs` says that the pre-tokenizer is repaired.
    """

    tokenizer: ModelTokenizer
    corpus: Corpus
    heldout_bytes: int
    added: int
    repairs: bool


@dataclass(frozen=True)
class TrainingLog:
    """What the end of training is predicted from: rows of training.jsonl, and the target language.

    `spliced` is the evaluated bits per byte of the model before training, where it was measured.
    """

    rows: Sequence[Mapping[str, Any]]
    language: str
    spliced: float | None = None
    part: float = FIRST_PART


def predict_run(tokens: AddedTokens | None, training: TrainingLog) -> dict[str, Any]:
    """Return the content of prediction.json; "not predicted" holds reasons."""
    rows: list[Predicted] = []
    reasons: dict[str, str] = {}
    predictors = {
        "tokens per byte": partial(predict_tokens, tokens),
        "bits per byte": partial(predict_bits, training),
        TIME: partial(predict_time, training),
    }
    for metric, predict in predictors.items():
        try:
            rows += predict()
        except LingraftError as error:
            reasons[metric] = str(error)
    return {
        "format": 1,
        "part": training.part,
        "rows": [asdict(row) for row in rows],
        "not predicted": reasons,
    }


def predictions(folder: Path) -> list[Predicted]:
    """Return the predictions of a run folder; none where it has no prediction.json."""
    path = folder / PREDICTION
    if not path.is_file():
        return []
    return [Predicted(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def checked(folder: Path) -> list[Checked]:
    """Return each prediction of a run folder whose number the run has measured."""
    measured = _measured(folder)
    return [
        Checked(one, measured[one.metric, one.language])
        for one in predictions(folder)
        if measured.get((one.metric, one.language))
    ]


def predict_tokens(known: AddedTokens | None) -> Iterator[Predicted]:
    """Predict the tokens per byte of the held-out text."""
    if known is None or not known.added:
        return
    tokenizer, corpus, added = known.tokenizer, known.corpus, known.added
    documents = list(first_documents(corpus.documents("train"), SAMPLE_BYTES))
    fixed = make_mark_aware(tokenizer.family.data) if known.repairs else None
    change = family_of(fixed, tokenizer.folder) if fixed else None
    counted = heldout_documents(corpus, known.heldout_bytes)
    curves = predict_fertility(
        tokenizer.family,
        change,
        documents,
        corpus.counts("train").bytes,
        wanted=counted,
        sizes=[*(size for size in SIZES if size < added), added],
    )
    if curves is None:
        return
    now = sum(map(len, tokenizer.encode(counted))) / sum(len(text.encode()) for text in counted)
    value, low, high = tokens_per_byte(now, curves[-1]).at(added)
    low, high = min(low, value * (1 - LEAST_WIDTH)), max(high, value * (1 + LEAST_WIDTH))
    size = sum(len(text.encode()) for text in documents)
    yield Predicted(
        "tokens per byte",
        corpus.language,
        "tokens/byte",
        value,
        low,
        high,
        f"the base tokenizer, {size:,} bytes of train text and the held-out text",
    )


def predict_bits(known: TrainingLog) -> Iterator[Predicted]:
    """Predict the target's bits per byte after training from the first part of the log.

    Raises `RecipeError` where that part has too few points.
    """
    rows, language = known.rows, known.language
    steps = [row for row in rows if "bits_per_byte" in row]
    if not steps or steps[-1]["phase"] != 0:
        return  # no training, or several phases, whose curves do not continue each other
    seen = [row for row in rows if row["step"] <= known.part * steps[-1]["steps"]]
    planned, points = points_of(steps), points_of(seen)
    ahead = weighted_bytes(planned[max(len(points) - 1, 0) :])
    forecast = predict_end(
        points,
        planned[-1].bytes,
        heldout=heldout_points(seen, language),
        annealed=planned[-1].factor < FALLEN,
        ahead=ahead,
    )
    scale = _evaluation_scale(known)
    yield Predicted(
        "bits per byte",
        language,
        "bits/byte",
        forecast.value * scale,
        forecast.low * scale,
        forecast.high * scale,
        f"the first {known.part:.0%} of the training log",
    )


def _evaluation_scale(known: TrainingLog) -> float:
    """Return the evaluated bits per byte over those of the held-out curve, both before training."""
    before = known.rows[0].get("heldout", {}).get(known.language)
    return known.spliced / float(before) if known.spliced and before else 1.0


def predict_time(known: TrainingLog) -> Iterator[Predicted]:
    """Predict the seconds of training from those of its first part."""
    steps = [row for row in known.rows if "seconds" in row]
    seen = list(takewhile(lambda row: row["step"] <= known.part * steps[-1]["steps"], steps))
    if len(seen) < 2:
        return
    each = (seen[-1]["seconds"] - seen[0]["seconds"]) / (seen[-1]["step"] - seen[0]["step"])
    value = seen[0]["seconds"] + each * (steps[-1]["steps"] - seen[0]["step"])
    low, high = (share * value for share in TIME_RANGE)
    yield Predicted(
        TIME, "", "seconds", value, low, high, f"the first {known.part:.0%} of the training log"
    )


def _measured(folder: Path) -> dict[tuple[str, str], float]:
    rows = select(read_measurements(folder / "measurements.parquet"), subject="adapted")
    found = {(row.metric, row.language): row.value for row in rows}
    steps = [row for row in read_log(folder / "training.jsonl") if "seconds" in row]
    return {**found, **({(TIME, ""): steps[-1]["seconds"]} if steps else {})}
