"""Differences between the values of an axis, paired by seed.

Two cells that differ in one axis only are compared seed by seed, because with the same seed they
have the same text, order of text and split.

To average over other axes, the differences of each seed are averaged first: the sample size stays
the number of seeds. If all seeds give the same number (fertility does not depend on them), the
interval is made from those of the two cells over documents, as if they were independent. Averaging
over other axes does not make it narrower, because cells usually have the same documents.
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
from lingraft.studies.statistics import CONFIDENCE, Difference, quantile
from lingraft.studies.study_table import AXIS, Row
from lingraft.text_units import FERTILITY_METRICS


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
    return half * quantile(0.5 + CONFIDENCE / 2, None) / quantile(0.5 + level / 2, None)


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
    return fmean(halves) / quantile(0.5 + CONFIDENCE / 2, None)


def _mean_difference(pairs: Sequence[_Pair]) -> float:
    return sum(second.value - first.value for first, second in pairs) / len(pairs)
