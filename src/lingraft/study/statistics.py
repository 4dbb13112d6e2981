"""Differences between the values of an axis, paired by seed, and the order they establish.

Two cells that differ in one axis only are compared seed by seed: text, order of text and split are
the same. The interval is Student's t over these differences. Two seeds give a wide one (12.7
standard errors), one seed gives none. To average over other axes, the differences of a seed are
averaged first: the seed stays the unit of resampling. If all seeds give the same number (a
tokenizer does not depend on them), the cells' own intervals over documents are used, as
independent ones.

A claim needs an interval without zero. A ranking of k values makes k(k-1)/2 comparisons at once, so
each uses its part of the 5% (Bonferroni correction).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import Any

from lingraft.study.config import ComparedSettings
from lingraft.study.study_table import AXIS, Row

CONFIDENCE = 0.95
LESS_IS_BETTER = {
    "bits per byte": True,
    "bits per byte change": True,
    "tokens per word": True,
    "tokens per byte": True,
    "tokens per document": True,
    "characters per token": False,
    "generation speed": False,
    "prefill speed": False,
    "documents tokenised identically": False,
    "accuracy": False,
    "spBLEU": False,
    "chrF++": False,
    "training time": True,
}
"""Metric -> whether less is better; of other metrics, no value is called better."""

Label = str | float | int


@dataclass(frozen=True)
class Difference:
    """`second` minus `first` on an axis.

    `context` holds the labels of the other axes; if it is empty, `value` is averaged over them. `n`
    is the number of seeds, `spread` the standard error of `value`, and `over` its unit of
    resampling: "seeds" or "documents".
    """

    axis: str
    first: Label
    second: Label
    context: Mapping[str, Label]
    metric: str
    subject: str
    language: str
    value: float
    n: int
    spread: float | None
    over: str = "seeds"

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Return the interval, `None` if there is one seed."""
        if self.spread is None:
            return None
        degrees = self.n - 1 if self.over == "seeds" else None
        half = self.spread * _quantile(0.5 + confidence / 2, degrees)
        return self.value - half, self.value + half


@dataclass(frozen=True)
class _Point:
    value: float
    half: float | None


@dataclass(frozen=True)
class AxisRanking:
    """The values of an axis by their mean, best first.

    `carried` are the pairs (better, worse) that the intervals separate.
    """

    axis: str
    metric: str
    subject: str
    language: str
    order: tuple[Label, ...]
    means: tuple[float, ...]
    carried: tuple[tuple[Label, Label], ...] = ()

    @property
    def best(self) -> Label | None:
        """The value that the intervals separate from every other one, if any."""
        first = self.order[0]
        return first if all((first, other) in self.carried for other in self.order[1:]) else None

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        metric = f"{self.metric} ({self.subject}{', ' + self.language if self.language else ''})"
        if self.best is not None:
            return f"{metric}: {self.best} is better than every other value of {self.axis}"
        if self.carried:
            pairs = "; ".join(f"{better} better than {worse}" for better, worse in self.carried)
            return f"{metric}: {pairs}; the intervals separate no others on {self.axis}"
        return f"{metric}: the intervals separate no values of {self.axis}"


Place = tuple[Label, ...]
"""The labels of a cell, one for each axis."""

_Pair = tuple[_Point, _Point]


@dataclass(frozen=True)
class _Field:
    """Every point of one metric, subject and language: labels of the axes -> seed -> point."""

    axes: tuple[str, ...]
    metric: str
    subject: str
    language: str
    points: Mapping[Place, Mapping[int, _Point]]

    def labels(self, axis: str) -> list[Label]:
        """Return the values of an axis."""
        return list(dict.fromkeys(place[self.axes.index(axis)] for place in self.points))

    def context(self, place: Place, axis: str) -> dict[str, Label]:
        """Return the labels of a place on the other axes."""
        return {name: label for name, label in zip(self.axes, place, strict=True) if name != axis}

    def shared_by_all(self, axis: str) -> _Field:
        """Return the points in those contexts that every value of the axis has."""
        index = self.axes.index(axis)
        contexts: dict[Label, list[dict[str, Label]]] = {}
        for place in self.points:
            contexts.setdefault(place[index], []).append(self.context(place, axis))
        points = {}
        for place, seeds in self.points.items():
            context = self.context(place, axis)
            if all(context in known for known in contexts.values()):
                points[place] = seeds
        return replace(self, points=points)

    def compare(self, axis: str, first: Label, second: Label) -> list[Difference]:
        """Return the differences of two values in each context, then their average if several."""
        index, pair = self.axes.index(axis), (axis, first, second)
        in_contexts: list[Difference] = []
        by_seed: dict[int, list[_Pair]] = {}
        for place, points in self.points.items():
            others = self.points.get((*place[:index], second, *place[index + 1 :]), {})
            both = {seed: (points[seed], others[seed]) for seed in points if seed in others}
            if place[index] != first or not both:
                continue
            single = [[points_of_seed] for points_of_seed in both.values()]
            in_contexts.append(self._difference(single, pair, self.context(place, axis)))
            for seed, points_of_seed in both.items():
                by_seed.setdefault(seed, []).append(points_of_seed)
        # The average is over seeds that have a point in every context.
        complete = [pairs for pairs in by_seed.values() if len(pairs) == len(in_contexts)]
        if len(in_contexts) > 1 and complete:
            return [*in_contexts, self._difference(complete, pair, {})]
        return in_contexts

    def _difference(
        self,
        by_seed: Sequence[Sequence[_Pair]],
        pair: tuple[str, Label, Label],
        context: Mapping[str, Label],
    ) -> Difference:
        """Return the mean difference over seeds; each seed has a pair of points per context."""
        means = [_mean_difference(pairs) for pairs in by_seed]
        mean, n = _mean(means), len(means)
        spread, over = None, "seeds"
        if n > 1:
            spread = math.sqrt(sum((value - mean) ** 2 for value in means) / (n - 1) / n)
            if all(value == means[0] for value in means):
                spread, over = _over_documents(by_seed[0]), "documents"
        return Difference(
            *pair, context, self.metric, self.subject, self.language, mean, n, spread, over
        )


def differences(
    rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings
) -> list[Difference]:
    """Return all differences between two values of an axis, per context and averaged."""
    result: list[Difference] = []
    for field in _fields(rows, axes, compared):
        for axis in axes:
            for first, second in combinations(field.labels(axis), 2):
                result += field.compare(axis, first, second)
    return result


def _fields(rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings) -> list[_Field]:
    """Return the points that are compared, separately for each language."""
    by_language: dict[str, dict[Place, dict[int, _Point]]] = {}
    column = "role" if compared.language in {"target", "replay"} else "language"
    wanted = (compared.metric, compared.subject, compared.language)
    for row in rows:
        if (row["metric"], row["subject"], row[column]) != wanted:
            continue
        place = tuple(row[f"{AXIS}{axis}"] for axis in axes)
        has_interval = row["low"] is not None and row["high"] is not None
        half = (row["high"] - row["low"]) / 2 if has_interval else None
        points = by_language.setdefault(row["language"], {}).setdefault(place, {})
        points[row["seed"]] = _Point(row["value"], half)
    return [
        _Field(tuple(axes), compared.metric, compared.subject, language, points)
        for language, points in by_language.items()
    ]


def _over_documents(points: Iterable[tuple[_Point, _Point]]) -> float | None:
    """Return the standard error from the intervals over documents, as if they were independent."""
    pairs, squares = list(points), 0.0
    for point in chain.from_iterable(pairs):
        if point.half is None:
            return None
        squares += point.half**2
    return math.sqrt(squares) / len(pairs) / _quantile(0.5 + CONFIDENCE / 2, None)


def better_value(difference: Difference, confidence: float = CONFIDENCE) -> Label | None:
    """Return the value that is better, `None` if the interval has zero in it.

    >>> where = ("embeddings", "mean", "random", {}, "bits per byte", "adapted", "hi")
    >>> d = Difference(*where, value=0.2, n=3, spread=0.01)
    >>> better_value(d), better_value(d, confidence=0.999)
    ('mean', None)
    """
    interval = difference.interval(confidence)
    if interval is None or difference.metric not in LESS_IS_BETTER:
        return None
    if interval[0] <= 0 <= interval[1]:
        return None
    second_is_better = (difference.value < 0) == LESS_IS_BETTER[difference.metric]
    return difference.second if second_is_better else difference.first


def ranking(
    rows: Sequence[Row], axes: Sequence[str], axis: str, compared: ComparedSettings
) -> list[AxisRanking]:
    """Return the ranking of an axis per language, over the contexts that all values share."""
    shared = [field.shared_by_all(axis) for field in _fields(rows, axes, compared)]
    return [
        _rank(field, axis)
        for field in shared
        if compared.metric in LESS_IS_BETTER and len(field.labels(axis)) > 1
    ]


def _rank(field: _Field, axis: str) -> AxisRanking:
    index = field.axes.index(axis)
    values: dict[Label, list[float]] = {}
    for place, seeds in field.points.items():
        values.setdefault(place[index], []).extend(point.value for point in seeds.values())
    means = {label: _mean(values[label]) for label in field.labels(axis)}
    order = sorted(means, key=means.__getitem__)
    if not LESS_IS_BETTER[field.metric]:
        order = sorted(means, key=lambda label: -means[label])
    pairs = list(combinations(order, 2))
    confidence = 1 - (1 - CONFIDENCE) / len(pairs)
    carried = []
    for pair in pairs:
        # The last difference is the average over contexts, the only one that all pairs share.
        average = field.compare(axis, *pair)[-1:]
        if average and better_value(average[0], confidence) == pair[0]:
            carried.append(pair)
    return AxisRanking(
        axis,
        field.metric,
        field.subject,
        field.language,
        tuple(order),
        tuple(means[label] for label in order),
        tuple(carried),
    )


def _mean_difference(pairs: Sequence[_Pair]) -> float:
    return sum(second.value - first.value for first, second in pairs) / len(pairs)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _quantile(share: float, degrees: int | None) -> float:
    """Return the quantile of Student's t, or of the normal distribution if `degrees` is None."""
    from scipy.stats import norm, t

    return float(norm.ppf(share) if degrees is None else t.ppf(share, degrees))


def difference_rows(differences: Iterable[Difference], axes: Sequence[str]) -> list[dict[str, Any]]:
    """Return differences as rows of a table, with their 95% intervals.

    The columns `axis.NAME` hold the context; they are empty where the difference is averaged.
    """
    rows = []
    for difference in differences:
        low, high = difference.interval() or (None, None)
        better = better_value(difference)
        context = difference.context
        rows.append(
            {
                "axis": difference.axis,
                "first": str(difference.first),
                "second": str(difference.second),
                **{f"{AXIS}{axis}": str(context.get(axis, "")) for axis in axes},
                "metric": difference.metric,
                "subject": difference.subject,
                "language": difference.language,
                "difference": difference.value,
                "low": low,
                "high": high,
                "seeds": difference.n,
                "over": difference.over if low is not None else "",
                "better": "" if better is None else str(better),
            }
        )
    return rows
