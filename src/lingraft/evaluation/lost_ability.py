"""The alarm that a model learns less from its context than before training.

Bits per byte of documents hardly shows this loss, and may even improve (see `in_context_probes`).
The alarm needs a gain that was there before, and an interval of the change that does not contain 0.

- *Known words* of a probe cost more bits: by at least 5% (`RISE_SHARE`) of the gain before.
- The *gain* of a probe is at least 10% (`LOST_SHARE`) smaller, and its known words cost more. A
  gain also falls where new words are predicted better, which is no loss.
- The *in-context gain* in documents is at least 10% smaller, in a language in which bits per byte
  did not improve. A model that has learned a language predicts the beginning of a document
  better, too, so it gains less from it without a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingraft.evaluation.byte_positions import IN_CONTEXT_GAINS
from lingraft.evaluation.in_context_probes import KNOWN
from lingraft.formatting import join_words, number, signed_interval
from lingraft.measurement import CHANGE, MIN_DOCUMENTS, Measurement

LOST_SHARE = 0.1
"""Smaller losses are no alarm: replayed text cannot keep every ability to the last digit."""
RISE_SHARE = 0.05
"""Known words are measured with less noise than a gain, because random new words take no part.

In SmolLM2-135M, training on Hindi raised them by at most 0.1% of the gain, and training on shuffled
words, which must lose ability, by 8% (mapping) and 16% (copying): `benchmarks/results.md`.
"""
REMEDY = "replay text in the base language (replay), raise replay.share, or train less"


def lost_abilities(measurements: Sequence[Measurement]) -> list[str]:
    """Return a warning for each ability that was lost, compared with the first model.

    In a run, only the adapted model is checked; otherwise, every model but the first is.
    """
    rows = {(row.metric, row.subject, row.language): row for row in measurements}
    subjects = list(dict.fromkeys(row.subject for row in measurements))
    first, *others = subjects or [""]
    compared = ["adapted"] if "adapted" in others else others
    warnings = []
    for subject in compared:
        better = _improved(measurements, subject)
        for change in measurements:
            gain = change.metric.removesuffix(CHANGE)
            is_gain = gain in {*IN_CONTEXT_GAINS, *KNOWN} and gain != change.metric
            key = change.language
            is_learned = gain in IN_CONTEXT_GAINS and key in better
            if change.subject != subject or not is_gain or is_learned:
                continue
            before = rows[gain, first, key]
            known = rows.get((KNOWN.get(gain, "") + CHANGE, subject, key))
            changed = None
            if known is not None and _is_risen(before, known):
                changed = known
            elif _is_lost(before, change) and (known is None or known.value > 0):
                changed = change
            if changed is not None:
                metric = changed.metric.removesuffix(CHANGE)
                pair = rows[metric, first, key], rows[metric, subject, key]
                warnings.append(_warning(*pair, changed, list(better.values())))
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


def _is_risen(gain: Measurement, change: Measurement) -> bool:
    """Return whether known words cost much more of a gain that was there before."""
    if gain.low is None or change.low is None or change.n < MIN_DOCUMENTS:
        return False
    return gain.low > 0 and change.low > 0 and change.value >= RISE_SHARE * gain.value


def _warning(
    before: Measurement, after: Measurement, change: Measurement, better: list[str]
) -> str:
    language = f" in {change.language}" if change.language else ""
    although = f" although bits per byte improved in {join_words(better)}" if better else ""
    interval = signed_interval(change.value, change.low, change.high)
    model = "the adapted model" if after.subject == "adapted" else after.subject
    unit = "" if after.metric in KNOWN.values() else " bits per byte"
    moved = "fell" if after.value < before.value else "rose"
    return (
        f"in-context learning: the {after.metric}{language} of {model} {moved} from "
        f"{number(before.value)} to {number(after.value)}{unit} (interval of the change: "
        f"{interval}){although}; {REMEDY}"
    )


def lost_since(
    before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Yield each gain in which a model in training has lost ability since it began.

    Both hold points by name: those of `InContextMeasure`, and the gains of `HeldoutMeasure`.
    Intervals must not overlap, and bits per byte of a language of documents must not be lower.
    """
    for probe, after in now.items():
        first = before.get(probe)
        if first is None or first["low"] <= 0 or after.get("n", MIN_DOCUMENTS) < MIN_DOCUMENTS:
            continue
        # As in `lost_abilities`, but points of the curve have no interval of their change.
        if after.get("bits_per_byte", 0.0) < first.get("bits_per_byte", 0.0):
            continue
        rise = after.get("known", math.inf) - first.get("known", 0.0)
        is_separate = after.get("known_low", 0.0) > first.get("known_high", math.inf)
        has_risen = is_separate and rise >= RISE_SHARE * first["gain"]
        is_smaller = after["gain"] <= (1 - LOST_SHARE) * first["gain"]
        if has_risen or (is_smaller and after["high"] < first["low"] and rise > 0):
            yield probe


def lost_during_training(log: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a warning for each gain that the points of a training log name as lost.

    >>> points = [{"step": step, "in_context": {}, "lost": ["copying gain"]} for step in (10, 20)]
    >>> list(lost_during_training([*points, {"step": 30, "in_context": {}}]))
    ... # doctest: +NORMALIZE_WHITESPACE
    ['in-context learning: the copying gain was lost at 2 of 3 points of the held-out curve, first
    at step 10, but not at the end; replay text in the base language (replay), raise replay.share,
    or train less']
    """
    points = [record for record in log if "in_context" in record and record["step"] > 0]
    for probe in dict.fromkeys(probe for point in points for probe in point.get("lost", ())):
        steps = [point["step"] for point in points if probe in point.get("lost", ())]
        end = "" if steps[-1] == points[-1]["step"] else ", but not at the end"
        yield (
            f"in-context learning: the {probe} was lost at {len(steps)} of {len(points)} points of "
            f"the held-out curve, first at step {steps[0]}{end}; {REMEDY}"
        )


def loss_in_words(probe: str, before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """Return the numbers of a gain in which ability was lost.

    >>> loss_in_words("copying gain", {"gain": 2.0, "known": 0.1}, {"gain": 1.8, "known": 0.3})
    'the copying gain is 1.80 bits per byte, 2 before training (known words 0.300, before 0.100)'
    """
    text = f"the {probe} is {number(now['gain'])} bits per byte, {number(before['gain'])} before"
    text += " training"
    if "known" in now and "known" in before:
        text += f" (known words {number(now['known'])}, before {number(before['known'])})"
    return text
