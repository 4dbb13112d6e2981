"""Differences between the values of an axis, paired by seed.

Two cells that differ in one axis only are compared seed by seed, because with the same seed they
have the same text, order of text and split. The interval of the mean difference is Student's t over
seeds. With two seeds it is wide (12.7 standard errors to each side); with one seed there is none.

To average over other axes, the differences of each seed are averaged first: the sample size stays
the number of seeds. If all seeds give the same number (fertility does not depend on them), the
interval is made from those of the two cells over documents, as if they were independent. Averaging
over other axes does not make it narrower, because cells usually have the same documents.

A value counts as better if the interval does not contain 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from lingraft.measurement import direction
from lingraft.studies.axes import Label
from lingraft.studies.config import ComparedSettings
from lingraft.studies.study_table import AXIS, Row
from lingraft.text_units import FERTILITY_METRICS

CONFIDENCE = 0.95
EQUIVALENCE_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """`second` minus `first` on an axis.

    `context` maps the other axes to their labels; if it is empty, `value` is the average over all
    contexts. `n` is the number of seeds. `spread` is the standard error of `value`, `None` if it is
    not known. `over` says what it was computed over: "seeds" or "documents". `margin` is the size
    below which a difference counts as none, if the study sets it. `split` and `unit` are those of
    the measurements.
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
    margin: float | None = None
    split: str = ""
    unit: str = ""

    @property
    def direction(self) -> int:
        """1 if higher is better, -1 if lower is, 0 if neither is."""
        return direction(self.metric, self.split, self.unit)

    def is_equal(self, level: float = EQUIVALENCE_LEVEL) -> bool:
        """Return whether two one-sided tests at this level show a difference below the margin.

        This is so if the interval of 1 - 2 x level lies within it (Schuirmann 1987).

        >>> where = ("embeddings", "mean", "align", {}, "bits per byte", "adapted", "hi")
        >>> d = Difference(*where, value=0.002, n=5, spread=0.002, margin=0.01)
        >>> d.is_equal(), replace(d, spread=0.02).is_equal(), replace(d, margin=None).is_equal()
        (True, False, False)
        """
        interval = self.interval(1 - 2 * level)
        if interval is None or self.margin is None:
            return False
        return -self.margin < interval[0] and interval[1] < self.margin

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Return lower and upper end of the interval, `None` without a standard error."""
        if self.spread is None:
            return None
        # Of many documents, the mean is normally distributed; of few seeds, it follows Student's t.
        degrees = self.n - 1 if self.over == "seeds" else None
        half = self.spread * _quantile(0.5 + confidence / 2, degrees)
        return self.value - half, self.value + half


@dataclass(frozen=True)
class _Point:
    """A measurement of a cell; `half` is half the width of its interval over documents."""

    value: float
    half: float | None


Place = tuple[Label, ...]
"""The labels of a cell, one for each axis."""

_Pair = tuple[_Point, _Point]


@dataclass(frozen=True)
class MeasuredField:
    """All points of a metric, subject and language: place -> seed -> point."""

    axes: tuple[str, ...]
    metric: str
    subject: str
    language: str
    points: Mapping[Place, Mapping[int, _Point]]
    margin: float | None = None
    split: str = ""
    unit: str = ""

    @property
    def direction(self) -> int:
        """1 if higher is better, -1 if lower is, 0 if neither is."""
        return direction(self.metric, self.split, self.unit)

    def labels(self, axis: str) -> list[Label]:
        """Return the labels on an axis, each once, in the order of the cells."""
        index = self.axes.index(axis)
        return list(dict.fromkeys(place[index] for place in self.points))

    def context(self, place: Place, axis: str) -> dict[str, Label]:
        """Return the labels of a place on the other axes."""
        return {name: label for name, label in zip(self.axes, place, strict=True) if name != axis}

    def shared_by_all(self, axis: str) -> MeasuredField:
        """Return the points in those contexts that have a point for every value of the axis."""
        index, labels = self.axes.index(axis), self.labels(axis)
        points = {}
        for place, seeds in self.points.items():
            in_context = {(*place[:index], label, *place[index + 1 :]) for label in labels}
            if in_context <= self.points.keys():
                points[place] = seeds
        return replace(self, points=points)

    def means(self, axis: str) -> dict[Label, float]:
        """Return the mean at each value of an axis, over seeds and then over contexts.

        In each context, the mean is over the seeds that all values have, so that a failed cell does
        not shift one of them. Contexts without such a seed are left out.
        """
        by_context: dict[Place, dict[Label, Mapping[int, _Point]]] = {}
        index = self.axes.index(axis)
        for place, points in self.points.items():
            context = (*place[:index], *place[index + 1 :])
            by_context.setdefault(context, {})[place[index]] = points
        means: dict[Label, list[float]] = {}
        for of_label in by_context.values():
            seeds = set.intersection(*map(set, of_label.values()))
            for label, points in of_label.items() if seeds else ():
                means.setdefault(label, []).append(fmean(points[seed].value for seed in seeds))
        return {label: fmean(of_contexts) for label, of_contexts in means.items()}

    def compare(self, axis: str, first: Label, second: Label) -> list[Difference]:
        """Return the difference of two values in each context, and then the average if several."""
        index, compared = self.axes.index(axis), (axis, first, second)
        in_contexts: list[Difference] = []
        by_seed: dict[int, list[_Pair]] = {}
        for place, points in self.points.items():
            if place[index] != first:
                continue
            others = self.points.get((*place[:index], second, *place[index + 1 :]), {})
            pairs_in_context: list[list[_Pair]] = []
            for seed, point in points.items():
                if seed in others:
                    pair = (point, others[seed])
                    pairs_in_context.append([pair])
                    by_seed.setdefault(seed, []).append(pair)
            if pairs_in_context:
                context = self.context(place, axis)
                in_contexts.append(self._difference(pairs_in_context, compared, context))
        # The average is over seeds that have a point in every context.
        complete = [pairs for pairs in by_seed.values() if len(pairs) == len(in_contexts)]
        if len(in_contexts) > 1 and complete:
            return [*in_contexts, self._difference(complete, compared, {})]
        return in_contexts

    def compare_over_all(self, axis: str, first: Label, second: Label) -> Difference | None:
        """Return the difference over all contexts; None if no seed has both values in each one."""
        index = self.axes.index(axis)
        contexts = sum(place[index] == first for place in self.points)
        found = self.compare(axis, first, second)
        # With several contexts, `compare` returns one difference for each and then the average.
        # Where a context is missing or no seed is in all of them, the last one is not over all.
        is_over_all = len(found) == (1 if contexts == 1 else contexts + 1)
        return found[-1] if is_over_all else None

    def _difference(
        self,
        by_seed: Sequence[Sequence[_Pair]],
        compared: tuple[str, Label, Label],
        context: Mapping[str, Label],
    ) -> Difference:
        """Return the mean difference over seeds, each with a pair of points for each context."""
        means = list(map(_mean_difference, by_seed))
        mean, n = sum(means) / len(means), len(means)
        spread, over = None, "seeds"
        if n > 1:
            variance = sum((value - mean) ** 2 for value in means) / (n - 1)
            spread = math.sqrt(variance / n)
            # Equal numbers show that the metric does not depend on the seed: the interval over
            # seeds would have no width.
            if len(set(means)) == 1:
                spread, over = _error_over_documents(by_seed[0]), "documents"
        return Difference(
            *compared,
            context,
            self.metric,
            self.subject,
            self.language,
            mean,
            n,
            spread,
            over,
            self.margin,
            self.split,
            self.unit,
        )


def differences(
    rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings
) -> list[Difference]:
    """Return the differences of all pairs of values of each axis, by context and averaged."""
    result: list[Difference] = []
    for field in measured_fields(rows, axes, compared):
        for axis in axes:
            for first, second in combinations(field.labels(axis), 2):
                result += field.compare(axis, first, second)
    return result


def measured_fields(
    rows: Sequence[Row], axes: Sequence[str], compared: ComparedSettings
) -> list[MeasuredField]:
    """Return the points that `compared` asks for, separately for each language.

    Fertility is asked for by any of its names: each language has it in its own unit.
    """
    by_language: dict[tuple[str, str], dict[Place, dict[int, _Point]]] = {}
    kinds: dict[tuple[str, str], set[tuple[str, str]]] = {}
    column = "role" if compared.language in {"target", "replay"} else "language"
    is_fertility = compared.metric in FERTILITY_METRICS
    metrics = FERTILITY_METRICS if is_fertility else (compared.metric,)
    wanted = (compared.subject, compared.language)
    for row in rows:
        if row["metric"] not in metrics or (row["subject"], row[column]) != wanted:
            continue
        place = tuple(row[f"{AXIS}{axis}"] for axis in axes)
        has_interval = row["low"] is not None and row["high"] is not None
        half = _half_width(row) if has_interval else None
        of_language = by_language.setdefault((row["language"], row["metric"]), {})
        kinds.setdefault((row["language"], row["metric"]), set()).add((row["split"], row["unit"]))
        points = of_language.setdefault(place, {})
        points[row["seed"]] = _Point(row["value"], half)
    fields = []
    for (language, metric), points_of_language in by_language.items():
        names = (metric, compared.subject, language)
        found = kinds[language, metric]
        # A mean of a task is a share only where all of its values are between 0 and 1.
        split, unit = next(iter(found)) if len(found) == 1 else (next(iter(found))[0], "")
        field = MeasuredField(
            tuple(axes), *names, points_of_language, compared.margin, split=split, unit=unit
        )
        fields.append(field)
    return fields


def _half_width(row: Row) -> float:
    """Return half the width of the interval of a row, at the level of the others."""
    half: float = (row["high"] - row["low"]) / 2
    level = row.get("confidence") or CONFIDENCE
    if level == CONFIDENCE:
        return half
    return half * _quantile(0.5 + CONFIDENCE / 2, None) / _quantile(0.5 + level / 2, None)


def _error_over_documents(pairs: Sequence[_Pair]) -> float | None:
    """Return the standard error of the mean difference, from the intervals over documents.

    The two points of a pair count as independent. The pairs do not: contexts usually have the same
    documents, so that their mean is as uncertain as they are.
    """
    halves: list[float] = []
    for first, second in pairs:
        if first.half is None or second.half is None:
            return None
        halves.append(math.hypot(first.half, second.half))
    return fmean(halves) / _quantile(0.5 + CONFIDENCE / 2, None)


def better_value(difference: Difference, confidence: float = CONFIDENCE) -> Label | None:
    """Return the value that is better, `None` if the interval contains 0 or is not finite.

    >>> where = ("embeddings", "mean", "random", {}, "bits per byte", "adapted", "hi")
    >>> d = Difference(*where, value=0.2, n=3, spread=0.01)
    >>> better_value(d), better_value(d, confidence=0.999)
    ('mean', None)
    """
    interval = difference.interval(confidence)
    if interval is None or not difference.direction or not all(map(math.isfinite, interval)):
        return None
    if interval[0] <= 0 <= interval[1]:
        return None
    return difference.second if difference.value * difference.direction > 0 else difference.first


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval of a mean over seeds; `None` if nothing varies with the seed.

    >>> low, high = interval_over_seeds([1.0, 2.0])
    >>> round(low, 2), round(high, 2), interval_over_seeds([1.0])
    (-4.85, 7.85, None)
    """
    n = len(values)
    if len(set(values)) < 2:
        return None
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = spread * _quantile(0.5 + CONFIDENCE / 2, n - 1)
    return mean - half, mean + half


def joint_interval(low: float, high: float, *, seeds: int, tests: int) -> tuple[float, float]:
    """Apply a Bonferroni correction to the 95% interval of a mean over seeds, for `tests` means.

    >>> low, high = joint_interval(-1.0, 3.0, seeds=3, tests=5)
    >>> round(low, 2), round(high, 2)
    (-3.61, 5.61)
    """
    middle, half = (low + high) / 2, (high - low) / 2
    degrees, share = seeds - 1, (1 - CONFIDENCE) / 2
    half *= _quantile(1 - share / tests, degrees) / _quantile(1 - share, degrees)
    return middle - half, middle + half


def _mean_difference(pairs: Sequence[_Pair]) -> float:
    return sum(second.value - first.value for first, second in pairs) / len(pairs)


def _quantile(share: float, degrees: int | None) -> float:
    """Return the quantile of Student's t, or of the normal distribution if `degrees` is None."""
    # Imported here, because scipy.stats takes long to import and few commands need it.
    from scipy.stats import norm, t

    return float(norm.ppf(share) if degrees is None else t.ppf(share, degrees))
