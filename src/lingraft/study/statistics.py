"""Differences between the values of an axis, paired over seeds, and what they carry.

Two cells that differ in one axis alone are compared seed by seed: same text, same order, same lots. The interval is
Student's t over these differences, so two seeds carry little (12.7 standard errors) and one carries nothing. Averaged
over the other axes, a seed's differences are averaged first: the seed stays the unit. Where all seeds give the same
number (a tokenizer does not depend on them), the cells' own intervals over documents stand in, taken as independent.

A claim needs an interval without zero. In a ranking of k values, k(k-1)/2 pairs are asked at once: each is held to its
part of the 5% (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
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
"""Which way is up; of a metric that is not here, differences are told, but nothing is called better."""

Label = str | float | int


@dataclass(frozen=True)
class Difference:
    """`second` minus `first` on an axis, in `context` (the labels of the other axes; none: their average).

    `n` seeds; `spread` is the standard error of `value` and `over` what it comes from: "seeds" or "documents".
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
        """Return the interval; None where there is none, with one seed."""
        if self.spread is None:
            return None
        half = self.spread * _quantile(
            0.5 + confidence / 2, self.n - 1 if self.over == "seeds" else None
        )
        return self.value - half, self.value + half


@dataclass(frozen=True)
class _Point:
    value: float
    half: float | None


@dataclass(frozen=True)
class AxisRanking:
    """The values of an axis by their mean, best first, and the pairs (better, worse) that the intervals carry."""

    axis: str
    metric: str
    subject: str
    language: str
    order: tuple[Label, ...]
    means: tuple[float, ...]
    carried: tuple[tuple[Label, Label], ...] = ()

    @property
    def best(self) -> Label | None:
        """The value that is carried to be better than every other one."""
        first = self.order[0]
        return first if all((first, other) in self.carried for other in self.order[1:]) else None

    @property
    def sentence(self) -> str:
        """What may be said."""
        what = f"{self.metric} ({self.subject}{', ' + self.language if self.language else ''})"
        if self.best is not None:
            return f"{what}: {self.best} is better than every other value of {self.axis}"
        if self.carried:
            told = "; ".join(f"{better} better than {worse}" for better, worse in self.carried)
            return f"{what}: {told}; nothing more is carried on {self.axis}"
        return f"{what}: no difference on {self.axis} is carried by the intervals"


Place = tuple[Label, ...]


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
        contexts = {
            label: [
                self.context(place, axis)
                for place in self.points
                if place[self.axes.index(axis)] == label
            ]
            for label in self.labels(axis)
        }
        kept = {
            place: seeds
            for place, seeds in self.points.items()
            if all(self.context(place, axis) in known for known in contexts.values())
        }
        return replace(self, points=kept)

    def compare(self, axis: str, first: Label, second: Label) -> list[Difference]:
        """Return the differences of two values in each context; where there are several, lastly their average."""
        index, found = self.axes.index(axis), []
        by_seed: dict[int, list[tuple[_Point, _Point]]] = {}
        for place, points in self.points.items():
            others = self.points.get((*place[:index], second, *place[index + 1 :]), {})
            both = {seed: (points[seed], others[seed]) for seed in points if seed in others}
            if place[index] != first or not both:
                continue
            found.append(
                self._difference(
                    [[one] for one in both.values()],
                    (axis, first, second),
                    self.context(place, axis),
                )
            )
            for seed, one in both.items():
                by_seed.setdefault(seed, []).append(one)
        whole = [every for every in by_seed.values() if len(every) == len(found)]
        if len(found) > 1 and whole:
            found.append(self._difference(whole, (axis, first, second), {}))
        return found

    def _difference(
        self,
        by_seed: Sequence[Sequence[tuple[_Point, _Point]]],
        pair: tuple[str, Label, Label],
        context: Mapping[str, Label],
    ) -> Difference:
        """Return the difference whose unit is a seed, with a pair of points for each context."""
        each = [
            sum(second.value - first.value for first, second in every) / len(every)
            for every in by_seed
        ]
        mean = sum(each) / len(each)
        spread, over = None, "seeds"
        if len(each) > 1:
            spread = math.sqrt(
                sum((value - mean) ** 2 for value in each) / (len(each) - 1) / len(each)
            )
            if all(value == each[0] for value in each):
                spread, over = _over_documents(by_seed[0]), "documents"
        return Difference(
            *pair, context, self.metric, self.subject, self.language, mean, len(each), spread, over
        )


def differences(
    rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings
) -> list[Difference]:
    """Return every difference between two values of an axis, in each context and averaged over them."""
    return [
        one
        for field in _fields(rows, axes, compared)
        for axis in axes
        for pair in combinations(field.labels(axis), 2)
        for one in field.compare(axis, *pair)
    ]


def _fields(rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings) -> list[_Field]:
    """Return the points that are compared, for each language apart."""
    by_language: dict[str, dict[Place, dict[int, _Point]]] = {}
    for row in rows:
        named = row["role"] if compared.language in {"target", "replay"} else row["language"]
        if (row["metric"], row["subject"]) != (
            compared.metric,
            compared.subject,
        ) or named != compared.language:
            continue
        place = tuple(row[f"{AXIS}{axis}"] for axis in axes)
        half = (
            (row["high"] - row["low"]) / 2
            if row["low"] is not None and row["high"] is not None
            else None
        )
        by_language.setdefault(row["language"], {}).setdefault(place, {})[row["seed"]] = _Point(
            row["value"], half
        )
    return [
        _Field(tuple(axes), compared.metric, compared.subject, language, points)
        for language, points in by_language.items()
    ]


def _over_documents(points: Iterable[tuple[_Point, _Point]]) -> float | None:
    """Return the standard error from the intervals over documents, as if these were drawn for each cell anew."""
    pairs = list(points)
    halves = [point.half for pair in pairs for point in pair]
    if any(half is None for half in halves):
        return None
    squares = sum((half or 0.0) ** 2 for half in halves)
    return math.sqrt(squares) / len(pairs) / _quantile(0.5 + CONFIDENCE / 2, None)


def better(difference: Difference, confidence: float = CONFIDENCE) -> Label | None:
    """Return the value that is better, where the interval carries it; None where it does not.

    >>> d = Difference("embeddings", "mean", "random", {}, "bits per byte", "adapted", "hi", 0.2, 3, 0.01)
    >>> better(d), better(d, confidence=0.999)
    ('mean', None)
    """
    interval = difference.interval(confidence)
    if (
        interval is None
        or difference.metric not in LESS_IS_BETTER
        or interval[0] <= 0 <= interval[1]
    ):
        return None
    return (
        difference.second
        if (difference.value < 0) == LESS_IS_BETTER[difference.metric]
        else difference.first
    )


def ranking(
    rows: Sequence[Row], axes: Sequence[str], axis: str, compared: ComparedSettings
) -> list[AxisRanking]:
    """Return the ranking of an axis' values in each language, averaged over the contexts that all of them share."""
    shared = [field.shared_by_all(axis) for field in _fields(rows, axes, compared)]
    return [
        _ranked(field, axis)
        for field in shared
        if compared.metric in LESS_IS_BETTER and len(field.labels(axis)) > 1
    ]


def _ranked(field: _Field, axis: str) -> AxisRanking:
    labels, index = field.labels(axis), field.axes.index(axis)
    means = {
        label: _mean(
            [
                point.value
                for place, seeds in field.points.items()
                if place[index] == label
                for point in seeds.values()
            ]
        )
        for label in labels
    }
    sign = 1 if LESS_IS_BETTER[field.metric] else -1
    order = sorted(labels, key=lambda label: sign * means[label])
    pairs = list(combinations(order, 2))
    confidence = 1 - (1 - CONFIDENCE) / len(pairs)
    compared = {pair: field.compare(axis, *pair)[-1:] for pair in pairs}  # the average stands last
    carried = tuple(
        pair
        for pair, whole in compared.items()
        if whole and better(whole[0], confidence) == pair[0]
    )
    return AxisRanking(
        axis,
        field.metric,
        field.subject,
        field.language,
        tuple(order),
        tuple(means[label] for label in order),
        carried,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _quantile(share: float, degrees: int | None) -> float:
    """Return the quantile of Student's t, or of the normal distribution where `degrees` is None."""
    from scipy.stats import norm, t

    return float(norm.ppf(share) if degrees is None else t.ppf(share, degrees))


def difference_rows(found: Iterable[Difference], axes: Sequence[str]) -> list[dict[str, Any]]:
    """Return differences as rows of a table, with their 95% intervals; contexts as `axis.NAME`, empty: averaged."""
    rows = []
    for one in found:
        low, high = one.interval() or (None, None)
        rows.append(
            {
                "axis": one.axis,
                "first": str(one.first),
                "second": str(one.second),
                **{
                    f"{AXIS}{axis}": str(one.context[axis]) if axis in one.context else ""
                    for axis in axes
                },
                "metric": one.metric,
                "subject": one.subject,
                "language": one.language,
                "difference": one.value,
                "low": low,
                "high": high,
                "seeds": one.n,
                "over": one.over if low is not None else "",
                "better": "" if (winner := better(one)) is None else str(winner),
            }
        )
    return rows
