"""The table of before and after: one row for each metric and language, with what may be said of the change.

A change is only called better or worse where the intervals allow it: the paired interval of the difference where there
is one, else the intervals of both values, which then must not overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lingraft.intrinsic.forgetting import TASKS
from lingraft.measurement import Measurement
from lingraft.report.words import number, percent

SUBJECTS = ("source", "spliced", "adapted")
CHANGE = " change"
"""A metric of this ending is the paired difference of the metric before it."""

HIGHER = frozenset({"characters per token", "generation speed", "generation speed in characters", "prefill speed",
                    "documents tokenised identically"})
HEADLINE = frozenset({"tokens per word", "bits per byte", "documents tokenised identically", "generation speed",
                      "premium over English", "under-trained added tokens"})
NEUTRAL = frozenset({"new tokens generated"})


@dataclass(frozen=True)
class Comparison:
    """One metric in one language: its rows by subject, and the paired differences to the source by subject."""

    metric: str
    language: str
    unit: str
    rows: Mapping[str, Measurement]
    paired: Mapping[str, Measurement]

    @property
    def last(self) -> Measurement | None:
        """The adapted model, or the spliced one where nothing was trained."""
        return self.rows.get("adapted") or self.rows.get("spliced")

    @property
    def factor(self) -> float | None:
        """How many times the source's value the last one is."""
        before, after = self.rows.get("source"), self.last
        return after.value / before.value if before and after and before.value else None

    @property
    def difference(self) -> Measurement | None:
        """The paired difference of the last one, where it was measured."""
        return self.paired.get(self.last.subject) if self.last else None

    @property
    def verdict(self) -> str:
        """Return better, worse, same, unclear (intervals do not tell them apart), or untold (no intervals)."""
        before, after = self.rows.get("source"), self.last
        if not before or not after or self.metric in NEUTRAL or self.unit == "documents":
            return ""
        if after.value == before.value:
            return "same"
        apart = self._apart(before, after)
        if apart is not True:
            return "untold" if apart is None else "unclear"
        higher = self.metric in HIGHER or after.split == TASKS
        return "better" if (after.value > before.value) == higher else "worse"

    def _apart(self, before: Measurement, after: Measurement) -> bool | None:
        if self.difference and self.difference.low is not None and self.difference.high is not None:
            return not self.difference.low <= 0 <= self.difference.high
        if None in (before.low, before.high, after.low, after.high):
            return None
        low, high = sorted((before, after), key=lambda row: row.value)
        return bool(low.high < high.low)  # type: ignore[operator]  # none of them is None


VERDICTS = {"": "", "better": "▲ better", "worse": "▼ worse", "same": "= same", "unclear": "≈ within the intervals",
            "untold": "no interval"}


def comparisons(rows: Sequence[Measurement]) -> list[Comparison]:
    """Return every metric in every language, in the order of measuring."""
    values: dict[tuple[str, str], dict[str, Measurement]] = {}
    paired: dict[tuple[str, str], dict[str, Measurement]] = {}
    for row in rows:
        home = paired if row.metric.endswith(CHANGE) else values
        home.setdefault((row.metric.removesuffix(CHANGE), row.language), {})[row.subject] = row
    return [Comparison(metric, language, next(iter(found.values())).unit, found, paired.get((metric, language), {}))
            for (metric, language), found in values.items()]


def parted(table: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Return what a reader wants first, scores of tasks among it, and the rest.

    Where nothing is wanted first (a language of its own kind, say), everything is.
    """
    first = [one for one in table if one.metric in HEADLINE or any(row.split == TASKS for row in one.rows.values())]
    return (first, [one for one in table if one not in first]) if first else (list(table), [])


def find(table: Sequence[Comparison], metric: str, language: str | None) -> Comparison | None:
    """Return the comparison of a metric in a language."""
    return next((one for one in table if (one.metric, one.language) == (metric, language)), None)


def interval(row: Measurement | None) -> str:
    """Return the interval of a row in words; of a single point, nothing.

    >>> interval(Measurement("m", "s", 1.5, "u", low=1.25, high=1.75, confidence=0.95))
    '1.25 to 1.75'
    """
    if row is None or row.low is None or row.high is None or row.low == row.high:
        return ""
    low, high = (replace(row, value=value) for value in (row.low, row.high))
    return f"{shown(low)} to {shown(high)}"


def change(one: Comparison) -> str:
    """Return the change from the source in words: a factor where it is large, else a percentage."""
    if one.factor is None:
        return ""
    if one.verdict == "same":
        return "0"
    if one.difference and not one.metric.startswith("tokens"):  # of tokens the factor says more
        span = signed_interval(one.difference)
        return signed(one.difference.value) + (f" ({span})" if span else "")
    if one.factor == 0:
        return "to 0"
    if one.factor <= 1 / 1.5:
        return f"{1 / one.factor:.2f}× fewer" if one.metric.startswith("tokens") else f"÷ {1 / one.factor:.2f}"
    return f"× {one.factor:.2f}" if one.factor >= 1.5 else f"{one.factor - 1:+.1%}".replace("-", "−")


def signed_interval(row: Measurement | None) -> str:
    """Return the interval of a difference, with signs.

    >>> signed_interval(Measurement("m", "s", 0.1, "u", low=-0.0875, high=0.2))
    '−0.087 to +0.200'
    """
    return "" if row is None or row.low is None or row.high is None else f"{signed(row.low)} to {signed(row.high)}"


def signed(value: float) -> str:
    """Return a difference with its sign.

    >>> signed(-0.25)
    '−0.250'
    """
    return f"{value:+.3f}".replace("-", "−")


def shown(row: Measurement) -> str:
    """Return the value of a row: a share as a percentage, else the number.

    >>> shown(Measurement("m", "s", 0.256, "share")), shown(Measurement("m", "s", 13.49, "tokens/word"))
    ('25.6%', '13.5')
    """
    return percent(round(row.value, 4)) if row.unit == "share" else number(row.value)
