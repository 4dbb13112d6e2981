"""Predict the results of a run (prediction.json).

Every prediction is made and stored before what it speaks of. Tokens per byte are predicted before
training for the documents of the final table, from the base tokenizer and tokens that are learned
from a sample of the training text; those of the run are not read. The trainer predicts bits per
byte at the end and the training time once a quarter of its steps are done and the held-out curve
has a point after step 0, and writes both into its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from lingraft.corpus import Corpus, first_documents
from lingraft.errors import LingraftError, RecipeError
from lingraft.evaluation.config import HeldoutPart
from lingraft.evaluation.score_model import heldout_documents
from lingraft.forecast.heldout_tokens import DEFAULT_METHOD, text_bytes
from lingraft.forecast.predict_fertility import predict_fertility, tokens_per_byte
from lingraft.forecast.prediction import BITS, Prediction, known_from_log
from lingraft.forecast.training_curve import (
    FIRST_PART,
    LogRecord,
    ProgressForecast,
    curve_languages,
    records_with,
)
from lingraft.forecast.training_time import MeasuringTime, predict_time
from lingraft.tokenizer import ModelTokenizer, family_of
from lingraft.vocabulary import ContinuedBPE
from lingraft.vocabulary.auto_size import SIZES

SAMPLE_BYTES = 8_000_000
"""Bytes of training text from which tokens per byte are predicted; this takes seconds."""

# Predictions from 8 of 12 MB were wrong by up to 0.7% (Hindi), which the interval does not cover.
MIN_RELATIVE_WIDTH = 0.01
"""Minimum distance of the bounds from the predicted tokens per byte, relative to the value."""


@dataclass(frozen=True)
class AddedTokens:
    """The inputs for tokens per byte: base tokenizer, text and number of added tokens.

    `pre_tokenizer` is the run's pre-tokenizer, as in tokenizer.json. `method` has the settings that
    the run learns tokens with.
    """

    tokenizer: ModelTokenizer
    corpus: Corpus
    heldout_bytes: int
    added: int
    pre_tokenizer: dict[str, Any] | None
    part: HeldoutPart = "all"
    method: ContinuedBPE = DEFAULT_METHOD


def predict_before_training(tokens: AddedTokens | None, reason: str = "") -> dict[str, Any]:
    """Return what is predicted before training, in the form of prediction.json.

    `reason` says why tokens per byte are not.
    """
    rows, reasons = [], {"tokens per byte": reason} if reason else {}
    try:
        rows = list(map(asdict, predict_tokens(tokens)))
    except LingraftError as error:
        reasons["tokens per byte"] = str(error)
    return {"format": 1, "part": FIRST_PART, "rows": rows, "not predicted": reasons}


def predict_training(
    forecast: ProgressForecast | None,
    records: Sequence[LogRecord],
    steps: int,
    measuring: MeasuringTime,
) -> dict[str, Any]:
    """Return the predictions of the end of training, from its log so far, as a record of the log.

    `forecast` is `None` if one curve does not continue the other: with several phases or branches.
    `steps` is the length of the training. The record has `of_steps`, that length, `predicted`, the
    predictions, and `not predicted`, the reasons by metric.
    """
    rows, reasons = list(predict_time(records, steps, measuring)), {}
    try:
        ends, unknown = predict_bits(forecast, records, steps)
        rows = [*ends, *rows]
    except LingraftError as error:
        unknown = str(error)
    if unknown:
        reasons[BITS] = unknown
    step = max((record["step"] for record in records), default=0)
    predicted = list(map(asdict, rows))
    return {"step": step, "of_steps": steps, "predicted": predicted, "not predicted": reasons}


def with_training(
    content: Mapping[str, Any], records: Sequence[LogRecord], changed_after: str = ""
) -> dict[str, Any]:
    """Return the content of prediction.json with the predictions that a training log holds.

    A log that continues that of a shorter training also has the predictions of that one.
    `changed_after` says how the adapted model differs from the end of training, which is the one
    that is predicted.
    """
    rows, reasons = list(content["rows"]), dict(content["not predicted"])
    steps = max((record["step"] for record in records), default=0)
    made = [record for record in records_with(records, "predicted") if record["of_steps"] == steps]
    if steps and not made:
        reasons[BITS] = "no point of the held-out curve before the end"
    for record in made:
        rows += record["predicted"]
        reasons |= record["not predicted"]
    if made and changed_after:
        rows = [row for row in rows if row["metric"] != BITS]
        reasons[BITS] = changed_after
    return {**content, "rows": rows, "not predicted": reasons}


def predict_tokens(inputs: AddedTokens | None) -> Iterator[Prediction]:
    """Predict the tokens per byte of the held-out text that the final table scores.

    Raises `RecipeError` if there is nothing to predict, or too little text to learn from.
    """
    if inputs is None:
        return
    if not inputs.added:
        msg = "no tokens are added, so they are those of the source"
        raise RecipeError(msg)
    tokenizer, corpus, added = inputs.tokenizer, inputs.corpus, inputs.added
    documents = list(first_documents(corpus.documents("train"), SAMPLE_BYTES))
    data = {**tokenizer.family.data, "pre_tokenizer": inputs.pre_tokenizer}
    is_changed = data["pre_tokenizer"] != tokenizer.family.data.get("pre_tokenizer")
    changed = family_of(data, tokenizer.folder) if is_changed else None
    evaluated = heldout_documents(corpus, inputs.heldout_bytes, inputs.part)
    curves = predict_fertility(
        tokenizer.family,
        changed,
        documents,
        corpus.counts("train").bytes,
        evaluated=evaluated,
        sizes=[*takewhile(lambda size: size < added, SIZES), added],
        method=inputs.method,
    )
    if curves is None:
        msg = "too little training text to predict from"
        raise RecipeError(msg)
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


def predict_bits(
    forecast: ProgressForecast | None, seen: Sequence[LogRecord], steps: int
) -> tuple[list[Prediction], str]:
    """Predict bits per byte of each target after training from the first part of the log.

    Also returns why those of some targets are not predicted. Raises `RecipeError` without a
    forecast, and if this part has no held-out text.
    """
    if forecast is None:
        msg = "training has several phases or branches, whose curves do not continue one another"
        raise RecipeError(msg)
    languages = curve_languages(seen)[: forecast.targets]
    if not languages:
        msg = "no point of the held-out curve so far; raise training.heldout_points"
        raise RecipeError(msg)
    done = max((record["step"] for record in seen), default=0)
    ends, reasons = [], []
    for language in languages:
        try:
            end = forecast.predict_end(seen, done, language)
        except RecipeError as error:
            reasons.append(f"{language}: {error}" if len(languages) > 1 else str(error))
            continue
        known = known_from_log(done, steps)
        ends.append(Prediction(BITS, language, "bits/byte", end.value, end.low, end.high, known))
    return ends, "; ".join(reasons)
