"""How much text each value of an axis needs for the result of the first value.

Two runs of the same language with the same seed that differ in one axis only are compared if they
read the same amount of text: not runs of different budgets. The held-out curve of the second run is
read until it reaches the final bits per byte of the first run and stays below. The text read up to
there, divided by the text that the first run read, is 0.5 if the second value is twice as fast. A
second run that never gets there is slower: the curve of the first run is read until it reaches the
end of the second, and if it needs half of the text, the second value needs 2 times as much.

The other axes and the languages are averaged first, so that each seed is one observation of the
mean and of its interval. Shares are averaged as logarithms: twice and half as fast make 100%.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from lingraft.studies.statistics import interval_over_seeds
from lingraft.studies.study_table import AXIS, Row

Curve = list[tuple[float, float]]
"""The text read and the bits per byte at each point."""
Runs = Mapping[tuple[int, str], Curve]
"""The curves of runs by seed and language."""

MIN_POINTS = 6
"""With fewer, the number would be that of the straight lines between them."""
SAME_TEXT = 0.02
"""Budgets end with a whole sequence, so runs that read the same text differ by less than this."""
LEAST_SHARE = 0.01
"""The least reported share: a run that starts as low as the other one ends needs no text."""


@dataclass(frozen=True)
class TextNeeded:
    """The share of the text of `first` that `second` needs for the same result.

    Means and 95% intervals are over seeds. The mean of shares is the geometric one.

    Attributes:
        axis, first, second: what is compared.
        share: more than 1 if `second` ends higher; `None` if the curves never meet.
        share_interval: its interval, `None` for one seed.
        start: bits per byte of `second` minus those of `first`, before training.
        end: the same difference at the end of the curves, and `end_interval` its interval.
        reached: the number of runs of `second` as low as `first` at its end, of all `runs`.
        seeds: the number of seeds.
        languages: the number of target languages.
    """

    axis: str
    first: str
    second: str
    share: float | None
    share_interval: tuple[float, float] | None
    start: float
    end: float
    end_interval: tuple[float, float] | None
    reached: int
    runs: int
    seeds: int
    languages: int


def text_needed(rows: Sequence[Row], axes: Sequence[str]) -> list[TextNeeded]:
    """Compare the curves of the target language of each value of each axis with the first value.

    >>> curve = {"mean": [3, 2.5, 2, 1.8, 1.6, 1.5], "random": [4, 3, 2.5, 2, 1.8, 1.6]}
    >>> place = {"seed": 0, "language": "hi", "role": "target"}
    >>> rows = []
    >>> for rows_of, bits in curve.items():
    ...     for read, value in enumerate(bits):
    ...         point = {"bytes": 100 * read, "bits_per_byte": value}
    ...         rows.append({**place, "axis.embeddings": rows_of, **point})
    >>> [(found.second, found.share) for found in text_needed(rows, ["embeddings"])]
    [('random', 1.25)]
    """
    places: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        places.setdefault(tuple(str(row[f"{AXIS}{axis}"]) for axis in axes), []).append(row)
    curves = {place: runs for place, of in places.items() if (runs := read_curves(of))}
    found = []
    for index, axis in enumerate(axes):
        first, *others = dict.fromkeys(place[index] for place in curves) or [""]
        for second in others:
            summary = _summary(axis, first, second, list(_pairs(curves, index, first, second)))
            if summary.runs:
                found.append(summary)
    return found


def read_curves(rows: Iterable[Row]) -> Runs:
    """Return the curves of the target languages among rows of cells that differ in seed only.

    Those of trainings that diverged are left out: they end in what is not a number.
    """
    curves: dict[tuple[int, str], dict[float, float]] = {}
    for row in rows:
        if row["role"] == "target":
            points = curves.setdefault((row["seed"], row["language"]), {})
            # Of two points at the same text, the last one counts: the first was before merging.
            points[float(row["bytes"])] = row["bits_per_byte"]
    runs = {}
    for run, points in curves.items():
        curve = sorted(points.items())
        if math.isfinite(curve[-1][1]):
            runs[run] = [point for point in curve if math.isfinite(point[1])]
    return runs


def text_to_equal(first: Runs, second: Runs, axis: str, names: tuple[str, str]) -> TextNeeded:
    """Return the text that runs need for the result of the runs in `first`, by seed and language.

    The two may differ in more than one axis; `axis` and `names` say what they are called.
    """
    return _summary(axis, *names, list(_pair_runs((), first, second)))


class _Pair(NamedTuple):
    """Two runs of a seed and a language: their share of the text, their start and their end."""

    context: tuple[tuple[str, ...], str]
    seed: int
    share: float | None
    start: float
    end: float


def _pairs(
    curves: Mapping[tuple[str, ...], Runs], index: int, first: str, second: str
) -> Iterator[_Pair]:
    for place, runs in curves.items():
        if place[index] == first:
            other_place = (*place[:index], second, *place[index + 1 :])
            yield from _pair_runs(place, runs, curves.get(other_place, {}))


def _pair_runs(place: tuple[str, ...], first: Runs, second: Runs) -> Iterator[_Pair]:
    # Of one language: values of an axis of languages have no curves in common.
    for (seed, language), curve in first.items():
        other = second.get((seed, language), [])
        if min(len(curve), len(other)) < MIN_POINTS:
            continue
        (read, goal), (other_read, end) = curve[-1], other[-1]
        if abs(other_read / read - 1) > SAME_TEXT:
            continue
        share = share_of_text(curve, other)
        yield _Pair((place, language), seed, share, other[0][1] - curve[0][1], end - goal)


def share_of_text(first: Curve, second: Curve) -> float | None:
    """Return the text that `second` needs for the same result, divided by that of `first`.

    >>> slow, fast = [(0.0, 3.0), (100.0, 2.0), (200.0, 1.0)], [(0.0, 2.0), (200.0, 0.0)]
    >>> share_of_text(slow, fast), share_of_text(fast, slow)
    (0.5, 2.0)
    """
    needed = bytes_to_reach(second, first[-1][1])
    if needed is not None:
        return max(needed / first[-1][0], LEAST_SHARE)
    enough = bytes_to_reach(first, second[-1][1])
    return second[-1][0] / enough if enough else None


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
    starts = [fmean(pair.start for pair in together) for together in seeds.values()]
    ends = [fmean(pair.end for pair in together) for together in seeds.values()]
    share, share_interval = None, None
    logs = [
        [math.log(pair.share) for pair in together if pair.share is not None]
        for together in seeds.values()
    ]
    if pairs and sum(map(len, logs)) == len(pairs):
        means = list(map(fmean, logs))
        share, interval = math.exp(fmean(means)), interval_over_seeds(means)
        share_interval = interval and (math.exp(interval[0]), math.exp(interval[1]))
    return TextNeeded(
        axis,
        first,
        second,
        share,
        share_interval,
        fmean(starts) if starts else math.nan,
        fmean(ends) if ends else math.nan,
        interval_over_seeds(ends),
        sum(pair.end <= 0 for pair in pairs),
        len(pairs),
        len(seeds),
        len({pair.context[1] for pair in pairs}),
    )


def describe(needed: TextNeeded) -> str:
    """Format one comparison: the share and its interval.

    >>> pair = ("embeddings", "mean", "align")
    >>> rest = (0.1, -0.02, None, 8, 8)
    >>> describe(TextNeeded(*pair, 0.6, (0.5, 0.7), *rest, seeds=2, languages=1))
    '60% (50% to 70%)'
    >>> describe(TextNeeded(*pair, None, None, *rest, seeds=2, languages=1))
    '8 of 8 runs reached it'
    """
    if needed.share is None:
        return f"{needed.reached} of {needed.runs} runs reached it"
    share = f"{needed.share:.0%}"
    if needed.share_interval is None:
        return share
    low, high = needed.share_interval
    return f"{share} ({low:.0%} to {high:.0%})"


def describe_reached(needed: TextNeeded, cost: float = 1.0) -> str:
    """Format the share of its text after which `second` is as good as `first` is after all of it.

    With `cost`, the training FLOPs of `second` divided by those of `first` on the same text, it is
    the share of the training FLOPs of `first`: each byte of a run's text costs about the same.

    >>> pair, rest = ("vocabulary.size", "0", "500"), (0.1, -0.02, None)
    >>> needed = TextNeeded(*pair, 0.6, None, *rest, 1, 1, seeds=1, languages=1)
    >>> describe_reached(needed), describe_reached(needed, 0.5)
    ('60%', '30%')
    >>> describe_reached(replace(needed, reached=0))
    'not reached'
    """
    if not needed.runs:
        return "–"
    if not needed.reached:
        return "not reached"
    if needed.reached < needed.runs:
        return describe(replace(needed, share=None))
    share, interval = needed.share or 0.0, needed.share_interval
    scaled = (cost * interval[0], cost * interval[1]) if interval else None
    return describe(replace(needed, share=cost * share, share_interval=scaled))
