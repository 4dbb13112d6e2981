"""Where a training run will end, from its first part: bits per byte fall as a power of what was learned, to a floor.

A byte teaches as much as the learning rate lets it: x is the text seen, each byte weighed by the rate over its peak.
With x1 what was seen so far, s an offset for what the model knew before, and a the value now:

    value(x) = a * (e + (1 - e) * ((x + s) / (x1 + s)) ** -alpha) * (1 - g * (1 - rate / peak))

where 0 <= e < 1 is the part that no text removes, and g what a falling rate gains on top (the form of Tissue et al.
2024, arXiv 2408.11029). The part e, alpha and s are not settled by a first part alone, so none of them is chosen: each
combination on a grid is fitted (that leaves a, in closed form) and weighs by how likely it makes the points, and by
what earlier runs showed of the slope at x1 (`SLOPE`). The prediction is the mean of them all; its interval, in which g
is drawn too, holds 95% of their weight.

Steps of training are many and noisy (odd text), points on held-out text few and exact. Each kind has its own a, they
share the shape, and what is foretold is that of the held-out text where there is any.

Letters: P points, G combinations of the grid, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingraft.errors import RecipeError

Floats: TypeAlias = npt.NDArray[np.float64]

ALPHAS = np.geomspace(0.02, 1.2, 20)
FLOORS = np.linspace(0.0, 0.95, 16)
OFFSETS = np.array([0.0, 0.05, 0.15, 0.4, 1.0, 2.5])
"""Of s, as a share of x1."""

SLOPE = (0.1, 0.45)
"""Median of -d log value / d log x at x1, and the standard deviation of its logarithm."""

ANNEALING = (0.055, 0.02)
"""Of g: mean and standard deviation. Measured on `english-8m` and Hindi: 0.06; larger models gain less."""

LEAST_POINTS = 5
DRAWS = 4_000
CONFIDENCE = 0.95
LEAST_NOISE = 0.005
"""Relative: what points on held-out text miss of a power law is not noise but shape."""


@dataclass(frozen=True)
class Point:
    """Bits per byte after so many bytes; `factor` is the learning rate as a share of its peak (1 where unknown)."""

    bytes: float
    value: float
    factor: float = 1.0


@dataclass(frozen=True)
class Forecast:
    """A predicted value with its 95% interval."""

    value: float
    low: float
    high: float

    def __iter__(self) -> Iterator[float]:
        """Let it be unpacked: value, low, high = predict_end(...)."""
        return iter((self.value, self.low, self.high))


def predict_end(points: Sequence[Point | tuple[float, float]], end_bytes: float, *,
                heldout: Sequence[Point | tuple[float, float]] = (), annealed: bool = True,
                ahead: float | None = None) -> Forecast:
    """Predict bits per byte after `end_bytes` from the steps of the run so far, and from its held-out points.

    Points while the learning rate still rises are left out. `annealed` says that the rate falls to the end, `ahead` how
    many bytes are still to come, each weighed by its rate over the peak; without it, as a cosine gives it (or where the
    rate does not fall, all). Raises `RecipeError` with fewer than five points.

    >>> seen = [Point(b, 0.5 + 40 * (b + 1e4) ** -0.4) for b in range(10_000, 210_000, 5_000)]
    >>> end = predict_end(seen, 1_000_000, annealed=False)
    >>> abs(end.value / (0.5 + 40 * 1_010_000 ** -0.4) - 1) < 0.03 and end.low < end.value < end.high
    True
    """
    steps, exact = (_usable(given) for given in (points, heldout))
    if len(steps) + len(exact) < LEAST_POINTS:
        msg = (f"{len(steps) + len(exact)} points of bits per byte after the warm-up; a prediction needs "
               f"{LEAST_POINTS}: wait, or log more of them")
        raise RecipeError(msg)
    course = _Course.of([*steps, *exact], end_bytes, annealed=annealed, ahead=ahead)
    grid = _Grid.reaching(course.last, course.end)
    fits = [grid.fit(kind, course, noise) for kind, noise in ((exact, LEAST_NOISE), (steps, None)) if kind]
    weights_G = grid.weights(np.sum([fit.likelihood for fit in fits], axis=0))
    now_G, spread = fits[0].now, fits[0].spread
    random = np.random.default_rng(0)
    drawn_D = random.choice(len(weights_G), size=DRAWS, p=weights_G)
    ends_D = (now_G * grid.end)[drawn_D] * (1 + spread * random.standard_normal(DRAWS))
    mean = float(weights_G @ (now_G * grid.end))
    if annealed:
        ends_D = ends_D * (1 - np.maximum(random.normal(*ANNEALING, DRAWS), 0))
        mean *= 1 - ANNEALING[0]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ends_D, [tail, 1 - tail])
    return Forecast(mean, float(low), float(high))


def _usable(points: Sequence[Point | tuple[float, float]]) -> list[Point]:
    """Return the points from the peak of the learning rate on; the rest say how it starts, not how it goes on."""
    given = sorted((one if isinstance(one, Point) else Point(*one) for one in points), key=lambda one: one.bytes)
    known = [one for one in given if one.bytes > 0 and math.isfinite(one.value) and one.value > 0]
    peak = max((point.factor for point in known), default=0.0)
    first = next((index for index, point in enumerate(known) if point.factor >= 0.999 * peak), 0)
    return known[first:]


@dataclass(frozen=True)
class _Course:
    """The learning rate as a share of its peak along the bytes, and x at the last point and at the end."""

    bytes: Floats
    weighed: Floats
    last: float
    end: float

    @classmethod
    def of(cls, points: Sequence[Point], end_bytes: float, *, annealed: bool, ahead: float | None) -> _Course:
        """Add the rates up; what is still to come is given, follows a cosine over the whole run, or stays as it is."""
        ordered = sorted(points, key=lambda point: point.bytes)
        bytes_P = np.array([0.0, *(point.bytes for point in ordered)])
        factors = np.array([ordered[0].factor, *(point.factor for point in ordered)])
        weighed = np.concatenate([[0.0], np.cumsum(np.diff(bytes_P) * (factors[1:] + factors[:-1]) / 2)])
        seen, end = bytes_P[-1], max(end_bytes, bytes_P[-1])
        part = seen / end
        if ahead is None:
            ahead = end * ((1 - part) / 2 - math.sin(math.pi * part) / (2 * math.pi)) if annealed else (
                (end - seen) * factors[-1])
        return cls(bytes_P, weighed, float(weighed[-1]), float(weighed[-1] + ahead))

    def at(self, points: Sequence[Point]) -> Floats:
        """Return x at points."""
        return np.interp([point.bytes for point in points], self.bytes, self.weighed)


@dataclass(frozen=True)
class _Fit:
    """For each combination the logarithm of its likelihood, [G], and a, [G]; the relative standard error of a."""

    likelihood: Floats
    now: Floats
    spread: float


@dataclass(frozen=True)
class _Grid:
    """Every combination of alpha, e and s, each [G], for x1 = `last`; `end` is the shape at the end."""

    last: float
    alpha: Floats
    floor: Floats
    shift: Floats
    end: Floats

    @classmethod
    def reaching(cls, last: float, end: float) -> _Grid:
        """Lay the grid out."""
        alpha, floor, offset = (grid.ravel() for grid in np.meshgrid(ALPHAS, FLOORS, OFFSETS, indexing="ij"))
        shift = offset * last
        return cls(last, alpha, floor, shift, _shape(alpha, floor, (end + shift) / (last + shift)))

    def fit(self, points: Sequence[Point], course: _Course, noise: float | None) -> _Fit:
        """Fit a to points of one kind; their relative noise is what the best combination leaves, where not given."""
        seen_P = course.at(points)
        fallen_P = np.array([1 - point.factor for point in points])
        values_P = np.array([point.value for point in points]) / (1 - ANNEALING[0] * fallen_P)
        ratio_GP = (seen_P + self.shift[:, None]) / (self.last + self.shift[:, None])
        residual_GP = np.log(values_P) - np.log(_shape(self.alpha[:, None], self.floor[:, None], ratio_GP))
        weights_P = seen_P / self.last  # what is early says little of what comes: rows settle before the body learns
        now_G = (residual_GP @ weights_P) / weights_P.sum()
        squares_G = (residual_GP - now_G[:, None]) ** 2 @ weights_P
        left = squares_G.min() / max(weights_P.sum() - 2, 1)
        variance = max(left, (noise or LEAST_NOISE) ** 2)
        return _Fit(-0.5 * squares_G / variance, np.exp(now_G), math.sqrt(variance / weights_P.sum()))

    def weights(self, likelihood_G: Floats) -> Floats:
        """Return the weight of each combination, what is known of slopes included."""
        slope_G = self.alpha * (1 - self.floor) * self.last / (self.last + self.shift)
        whole_G = likelihood_G - 0.5 * (np.log(slope_G / SLOPE[0]) / SLOPE[1]) ** 2
        weights_G = np.exp(whole_G - whole_G.max())
        share_G: Floats = weights_G / weights_G.sum()
        return share_G


def _shape(alpha: Floats, floor: Floats, ratio: Floats) -> Floats:
    shape: Floats = floor + (1 - floor) * ratio ** -alpha
    return shape
