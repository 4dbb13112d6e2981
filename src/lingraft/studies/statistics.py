"""A difference between two values of an axis, its interval, and which value is better.

The interval of a mean over seeds is Student's t. With two seeds it is wide (12.7 standard errors to
each side); with one seed there is none. A value counts as better if the interval does not contain
0. `measured_fields` computes the differences of a study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lingraft.measurement import direction
from lingraft.studies.axes import Label

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
        >>> from dataclasses import replace
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
        half = self.spread * quantile(0.5 + confidence / 2, degrees)
        return self.value - half, self.value + half


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
    half = spread * quantile(0.5 + CONFIDENCE / 2, n - 1)
    return mean - half, mean + half


def joint_interval(low: float, high: float, *, seeds: int, tests: int) -> tuple[float, float]:
    """Apply a Bonferroni correction to the 95% interval of a mean over seeds, for `tests` means.

    >>> low, high = joint_interval(-1.0, 3.0, seeds=3, tests=5)
    >>> round(low, 2), round(high, 2)
    (-3.61, 5.61)
    """
    middle, half = (low + high) / 2, (high - low) / 2
    degrees, share = seeds - 1, (1 - CONFIDENCE) / 2
    half *= quantile(1 - share / tests, degrees) / quantile(1 - share, degrees)
    return middle - half, middle + half


def quantile(share: float, degrees: int | None) -> float:
    """Return the quantile of Student's t, or of the normal distribution if `degrees` is None."""
    # Imported here, because scipy.stats takes long to import and few commands need it.
    from scipy.stats import norm, t

    return float(norm.ppf(share) if degrees is None else t.ppf(share, degrees))
