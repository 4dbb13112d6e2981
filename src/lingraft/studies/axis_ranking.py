"""Order the values of an axis, and list the pairs whose difference the intervals support.

The order is that of the means of a metric over the contexts that all values share, and in each over
the seeds that all values have; a context is a choice of values on the other axes. With k values
there are k(k-1)/2 pairs, so for k > 2 the interval of each difference is wider than the 95%
interval of a single one (Bonferroni correction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from lingraft.formatting import counted, join_words
from lingraft.measurement import MIN_DOCUMENTS, NEUTRAL
from lingraft.studies.axes import Label
from lingraft.studies.config import ComparedSettings
from lingraft.studies.measured_fields import MeasuredField, measured_fields
from lingraft.studies.statistics import CONFIDENCE, EQUIVALENCE_LEVEL, better_value
from lingraft.studies.study_table import Row

SAMPLED = frozenset({"document", "text", "sentence", "sample"})
"""What a text is sampled in: too few of them say nothing about the rest of the language."""


@dataclass(frozen=True)
class AxisRanking:
    """The values of an axis by their mean, best first; the lowest first for a neutral metric.

    `carried` are the pairs (better, worse) whose difference has an interval without 0.
    `few` is how many documents or samples there are where that is too few to claim an order, and
    `on_different_text` says that the values were measured on different documents; then no pair is.
    `equal` are the pairs whose difference is shown to be smaller than `margin`. `where` says which
    values of the other axes are ranked, if not all are, and `missing` are the values of this axis
    without a measurement, because they failed, or were not trained.
    """

    axis: str
    metric: str
    subject: str
    language: str
    order: tuple[Label, ...]
    means: tuple[float, ...]
    carried: tuple[tuple[Label, Label], ...] = ()
    few: str = ""
    equal: tuple[tuple[Label, Label], ...] = ()
    margin: float | None = None
    where: str = ""
    on_different_text: bool = False
    missing: tuple[Label, ...] = ()

    @property
    def best(self) -> Label | None:
        """The value that is better than every other one by `carried`, `None` if there is none."""
        first, *others = self.order
        pairs = {(first, other) for other in others}
        return first if pairs <= set(self.carried) and not self.missing else None

    @property
    def sentence(self) -> str:
        """The ranking in one sentence, for people."""
        metric = f"{self.metric} ({self.subject}{', ' + self.language if self.language else ''})"
        metric += self.where
        if self.metric in NEUTRAL:
            return f"{metric}: neither a lower nor a higher value is called better"
        if self.on_different_text:
            return (
                f"{metric}: the values of {self.axis} were measured on different documents, so "
                "they have no order; give all cells the same held-out text (target.heldout)"
            )
        if self.few:
            return f"{metric}: measured on {self.few}, too few to order the values of {self.axis}"
        equal = ""
        if self.equal:
            pairs = "; ".join(f"{first} and {second}" for first, second in self.equal)
            equal = f"; equal within {self.margin:g}: {pairs}"
        if self.missing:
            equal += f"; not measured with {join_words(list(map(str, self.missing)))}"
        if self.best is not None:
            return f"{metric}: {self.best} is better than every other value of {self.axis}{equal}"
        if self.carried:
            pairs = "; ".join(f"{better} better than {worse}" for better, worse in self.carried)
            return f"{metric}: {pairs}; the intervals separate no others on {self.axis}{equal}"
        return f"{metric}: the intervals separate no values of {self.axis}{equal}"


def ranking(
    rows: Sequence[Row], axes: Sequence[str], axis: str, compared: ComparedSettings
) -> list[AxisRanking]:
    """Return the ranking of an axis for each language, over contexts that all values share."""
    rankings: list[AxisRanking] = []
    for field in measured_fields(rows, axes, compared):
        if not field.direction and field.metric not in NEUTRAL:
            continue
        shared = field.shared_by_all(axis)
        if len(shared.means(axis)) > 1:
            ranked = replace(_rank(shared, axis), where=_shared_where(field, shared, axis))
            few = too_few(rows, field.metric, field.subject, field.language)
            if few:
                ranked = replace(ranked, carried=(), equal=(), few=few)
            rankings.append(ranked)
    return rankings


def too_few(rows: Sequence[Row], metric: str, subject: str, language: str) -> str:
    """Return what a number is measured on if that is too little, such as "8 samples", else ""."""
    counts = [(MIN_DOCUMENTS, "document")]
    for row in rows:
        same = (row["metric"], row["subject"], row["language"]) == (metric, subject, language)
        if same and row.get("per") in SAMPLED:
            counts.append((int(row["n"]), row["per"]))
    fewest, per = min(counts)
    if fewest >= MIN_DOCUMENTS:
        return ""
    return counted(fewest, "held-out document" if per == "document" else per)


def _shared_where(field: MeasuredField, shared: MeasuredField, axis: str) -> str:
    """Return which values of the other axes are shared, if not all; "" if all are."""
    parts = []
    for other in field.axes:
        labels = shared.labels(other)
        if other != axis and labels != field.labels(other):
            parts.append(f"{other} {' or '.join(map(str, labels))}")
    if parts:
        return f", only with {', '.join(parts)}"
    contexts = [
        {tuple(of.context(place, axis).values()) for place in of.points} for of in (field, shared)
    ]
    every, ranked = map(len, contexts)
    return "" if ranked == every else f", in {ranked} of {every} combinations of the other axes"


def _rank(field: MeasuredField, axis: str) -> AxisRanking:
    means = field.means(axis)
    sign = -1 if field.direction > 0 else 1
    # What is not a number is last.
    order = sorted(means, key=lambda label: (math.isnan(means[label]), sign * means[label]))
    pairs = list(combinations(order, 2))
    confidence = 1 - (1 - CONFIDENCE) / len(pairs)
    carried, equal = [], []
    for first, second in pairs:
        difference = field.compare_over_all(axis, first, second)
        if difference is not None and difference.is_equal(EQUIVALENCE_LEVEL / len(pairs)):
            equal.append((first, second))
        better = None if difference is None else better_value(difference, confidence)
        if better is not None:
            # A difference is over all seeds of its two values and a mean over those of all
            # values: with different seeds, the better value can have the worse mean.
            carried.append((better, second if better == first else first))
    return AxisRanking(
        axis,
        field.metric,
        field.subject,
        field.language,
        tuple(order),
        tuple(map(means.__getitem__, order)),
        tuple(carried),
        equal=tuple(equal),
        margin=field.margin,
    )
