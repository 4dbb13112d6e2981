"""How much text each value of an axis needs to reach the result of the first value.

Two runs with the same seed that differ in one axis only are compared if they read the same amount
of text: not runs of different budgets. The held-out curve of the second run is read until it
reaches the final bits per byte of the first run and stays below. The text read up to there, divided
by the text that the first run read, is 0.5 if the second value is twice as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from lingraft.studies.statistics import interval_over_seeds
from lingraft.studies.study_table import AXIS, Row

Curve = list[tuple[float, float]]
"""The text read and the bits per byte at each point."""

MIN_POINTS = 6
"""With fewer, the number would be that of the straight lines between them."""
SAME_TEXT = 0.02
"""Budgets end with a whole sequence, so runs that read the same text differ by less than this."""


@dataclass(frozen=True)
class TextNeeded:
    """The share of the text of `first` that `second` needs to reach its result.

    Attributes:
        axis, first, second: what is compared.
        share: mean over seeds, each averaged over the other axes; `None` if a run did not reach it.
        share_interval: its 95% interval over seeds.
        end: bits per byte of `second` minus those of `first`, at the end of the curves; a mean too.
        end_interval: its 95% interval over seeds.
        reached: the number of runs of `second` that reached it, of all `runs` that were compared.
        seeds: the number of seeds.
    """

    axis: str
    first: str
    second: str
    share: float | None
    share_interval: tuple[float, float] | None
    end: float
    end_interval: tuple[float, float] | None
    reached: int
    runs: int
    seeds: int


def text_needed(rows: Sequence[Row], axes: Sequence[str]) -> list[TextNeeded]:
    """Compare the curves of the target language of each value of each axis with the first value."""
    curves: dict[tuple[str, ...], dict[tuple[int, str], dict[float, float]]] = {}
    for row in rows:
        if row["role"] != "target":
            continue
        place = tuple(str(row[f"{AXIS}{axis}"]) for axis in axes)
        of_place = curves.setdefault(place, {})
        points = of_place.setdefault((row["seed"], row["language"]), {})
        # Of two points at the same text, the last one counts: the first was before merging back.
        points[float(row["bytes"])] = row["bits_per_byte"]
    found = []
    for index, axis in enumerate(axes):
        first, *others = dict.fromkeys(place[index] for place in curves) or [""]
        for second in others:
            summary = _summary(axis, first, second, list(_pairs(curves, index, first, second)))
            if summary.runs:
                found.append(summary)
    return found


class _Pair(NamedTuple):
    """Two runs that differ in one axis only: their share of the text, and their end."""

    context: tuple[tuple[str, ...], str]
    seed: int
    share: float | None
    end: float


def _pairs(
    curves: Mapping[tuple[str, ...], Mapping[tuple[int, str], Mapping[float, float]]],
    index: int,
    first: str,
    second: str,
) -> Iterator[_Pair]:
    for place, runs in curves.items():
        others = curves.get((*place[:index], second, *place[index + 1 :]), {})
        if place[index] != first:
            continue
        # Of one language: values of an axis of languages have no curves in common.
        for (seed, language), points in runs.items():
            curve, other = (
                sorted(each.items()) for each in (points, others.get((seed, language), {}))
            )
            if min(len(curve), len(other)) < MIN_POINTS:
                continue
            (read, goal), (other_read, end) = curve[-1], other[-1]
            if abs(other_read / read - 1) > SAME_TEXT:
                continue
            needed = bytes_to_reach(other, goal)
            share = None if needed is None else needed / read
            yield _Pair((place, language), seed, share, end - goal)


def bytes_to_reach(curve: Curve, goal: float) -> float | None:
    """Return the text read until a curve reaches a goal and stays below; `None` if it does not.

    >>> curve = [(0.0, 2.0), (100.0, 1.2), (200.0, 1.5), (300.0, 1.0)]
    >>> bytes_to_reach(curve, 1.25), bytes_to_reach(curve, 0.9), bytes_to_reach(curve, 3.0)
    (250.0, None, 0.0)
    """
    if curve[-1][1] > goal:
        return None
    for (start, high), (end, low) in reversed(list(pairwise(curve))):
        if high > goal:
            return start + (end - start) * (high - goal) / (high - low)
    return curve[0][0]


def _summary(axis: str, first: str, second: str, pairs: list[_Pair]) -> TextNeeded:
    contexts = {pair.context for pair in pairs}
    seeds = {pair.seed: [one for one in pairs if one.seed == pair.seed] for pair in pairs}
    # A mean over some of the contexts is no mean over all: failed runs leave seeds out.
    seeds = {seed: of_seed for seed, of_seed in seeds.items() if len(of_seed) == len(contexts)}
    pairs = [pair for of_seed in seeds.values() for pair in of_seed]
    ends = [fmean(pair.end for pair in of_seed) for of_seed in seeds.values()]
    reached = [pair.share for pair in pairs if pair.share is not None]
    shares: list[float] = []
    if pairs and len(reached) == len(pairs):
        shares = [fmean(pair.share or 0.0 for pair in of_seed) for of_seed in seeds.values()]
    return TextNeeded(
        axis,
        first,
        second,
        fmean(shares) if shares else None,
        interval_over_seeds(shares) if shares else None,
        fmean(ends) if ends else math.nan,
        interval_over_seeds(ends),
        len(reached),
        len(pairs),
        len(seeds),
    )


def describe(needed: Mapping[str, Any]) -> str:
    """Format one comparison of study.json.

    >>> pair = ("embeddings", "mean", "align")
    >>> describe(vars(TextNeeded(*pair, 0.6, (0.5, 0.7), -0.02, None, 8, 8, seeds=2)))
    '60% (50% to 70%)'
    >>> describe(vars(TextNeeded(*pair, None, None, 0.1, None, 3, 8, seeds=2)))
    '3 of 8 runs reached it'
    """
    if needed["share"] is None:
        return f"{needed['reached']} of {needed['runs']} runs reached it"
    share = f"{needed['share']:.0%}"
    if needed["share_interval"] is None:
        return share
    low, high = needed["share_interval"]
    return f"{share} ({max(low, 0.0):.0%} to {high:.0%})"
