"""The alarm that a model learns less from its context than before training.

Bits per byte hardly shows this loss, and may even improve (see `in_context_probes`). The alarm
needs a gain that was there before, a loss of at least `LOST_SHARE` of it, and an interval of the
change that does not contain 0.

The in-context gain in documents counts only in a language in which bits per byte did not improve. A
model that has learned a language predicts the beginning of a document better, too, so it gains less
from it without having lost anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lingraft.evaluation.byte_positions import IN_CONTEXT_GAIN
from lingraft.evaluation.in_context_probes import COPYING, MAPPING
from lingraft.formatting import join_words, number, signed_interval
from lingraft.measurement import CHANGE, MIN_DOCUMENTS, Measurement

LOST_SHARE = 0.1
"""Smaller losses are no alarm: replayed text cannot keep every ability to the last digit."""
REMEDY = "replay text in the base language (replay), raise replay.share, or train less"


def lost_abilities(measurements: Sequence[Measurement]) -> list[str]:
    """Return a warning for each ability that the last model has lost; the first is the reference.

    Of a run, this is the adapted model. Of other models, each but the first is compared.
    """
    rows = {(row.metric, row.subject, row.language): row for row in measurements}
    subjects = list(dict.fromkeys(row.subject for row in measurements))
    first, *others = subjects or [""]
    compared = ["adapted"] if "adapted" in others else others
    warnings = []
    for subject in compared:
        better = _improved(measurements, subject)
        for change in measurements:
            metric = change.metric.removesuffix(CHANGE)
            is_gain = metric in {IN_CONTEXT_GAIN, COPYING, MAPPING} and metric != change.metric
            if change.subject != subject or not is_gain:
                continue
            key = change.language
            before, after = rows[metric, first, key], rows[metric, subject, key]
            if metric == IN_CONTEXT_GAIN and key in better:
                continue
            if _is_lost(before, change):
                warnings.append(_warning(before, after, change, list(better.values())))
    return warnings


def _improved(measurements: Sequence[Measurement], subject: str) -> dict[str, str]:
    """Return the languages in which bits per byte of a model improved, and the change in words."""
    improved = {}
    for row in measurements:
        is_change = row.metric == "bits per byte" + CHANGE and row.subject == subject
        if is_change and row.n >= MIN_DOCUMENTS and row.high is not None and row.high < 0:
            improved[row.language] = f"{row.language} ({number(row.value)})"
    return improved


def _is_lost(before: Measurement, change: Measurement) -> bool:
    """Return whether a gain was there before, and much of it is lost."""
    if before.low is None or change.high is None or change.n < MIN_DOCUMENTS:
        return False
    return before.low > 0 > change.high and change.value <= -LOST_SHARE * before.value


def _warning(
    before: Measurement, after: Measurement, change: Measurement, better: list[str]
) -> str:
    language = f" in {change.language}" if change.language else ""
    although = f" although bits per byte improved in {join_words(better)}" if better else ""
    interval = signed_interval(change.value, change.low, change.high)
    model = "the adapted model" if after.subject == "adapted" else after.subject
    return (
        f"in-context learning: the {after.metric}{language} of {model} fell from "
        f"{number(before.value)} to {number(after.value)} bits per byte (interval of the change: "
        f"{interval}){although}; {REMEDY}"
    )


def lost_since(
    before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Yield each probe in which a model in training has lost ability since it began.

    Both hold by probe the `gain` and its interval, `low` and `high`, which must not overlap.
    """
    for metric, after in now.items():
        first = before.get(metric)
        if first is None or first["low"] <= 0 or after["high"] >= first["low"]:
            continue
        if after["gain"] <= (1 - LOST_SHARE) * first["gain"]:
            yield metric
