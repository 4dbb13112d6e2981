"""Predict the loss at the end of training from the first part of a run.

Bits per byte fall as a power of the text seen, down to a floor. x is the text seen in bytes, each
byte weighted by the learning rate over its peak. With x1 the text seen so far, s an offset for what
the model knew before, and a the value at x1:

    value(x) = a * (e + (1 - e) * ((x + s) / (x1 + s)) ** -alpha) * (1 - g * (1 - rate / peak))

where 0 <= e < 1 is the part that no text removes, and g is the extra gain of a falling rate (the
form of Tissue et al. 2024, arXiv 2408.11029). The first part of a run does not determine e, alpha
and s, so all combinations on a grid are fitted (a has a closed form). Each is weighted by the
likelihood of the points and by a prior on the slope at x1 from earlier runs (`SLOPE`). The
prediction is the weighted mean; the interval holds 95% of the weight, with g drawn too.

Training steps are many and noisy, points on held-out text few and exact. The two kinds share the
shape, and each has its own a. The prediction is for held-out text where there are such points.

Letters: P points, G combinations of the grid, D draws.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lingraft.errors import RecipeError
from lingraft.formatting import with_interval

Floats: TypeAlias = npt.NDArray[np.float64]

ALPHAS = np.geomspace(0.02, 1.2, 20)
FLOORS = np.linspace(0.0, 0.95, 16)
OFFSETS = np.array([0.0, 0.05, 0.15, 0.4, 1.0, 2.5])
"""Of s, as a share of x1."""

SLOPE = (0.1, 0.45)
"""Median of -d log value / d log x at x1, and the standard deviation of its logarithm."""

ANNEALING = (0.055, 0.02)
"""Mean and standard deviation of g. `english-8m`, Hindi: 0.06; larger models gain less."""

LEAST_POINTS = 5
FALLEN = 0.5
"""A learning rate that ends below this share of its peak has the gain of a falling rate."""

FIRST, EVERY = 0.1, 0.05
"""Shares of the steps: the first prediction in the progress bar, and its updates."""

DRAWS = 4_000
CONFIDENCE = 0.95
LEAST_NOISE = 0.005
"""Relative. Held-out points deviate from a power law by its shape, not by noise."""


@dataclass(frozen=True)
class LossPoint:
    """Bits per byte after `bytes`; `factor` is the learning rate over its peak (1 if unknown)."""

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


def predict_end(
    points: Sequence[LossPoint | tuple[float, float]],
    end_bytes: float,
    *,
    heldout: Sequence[LossPoint | tuple[float, float]] = (),
    annealed: bool = True,
    ahead: float | None = None,
) -> Forecast:
    """Predict bits per byte after `end_bytes` from the steps and held-out points so far.

    Points while the learning rate still rises are left out. `annealed` says that the rate falls to
    the end, `ahead` how many bytes are still to come, each weighted by its rate over the peak; by
    default those of a cosine, or of a constant rate where it is not annealed. Raises `RecipeError`
    with fewer than five points.

    >>> seen = [LossPoint(b, 0.5 + 40 * (b + 1e4) ** -0.4) for b in range(10_000, 210_000, 5_000)]
    >>> end = predict_end(seen, 1_000_000, annealed=False)
    >>> abs(end.value / (0.5 + 40 * 1_010_000 ** -0.4) - 1) < 0.03
    True
    >>> end.low < end.value < end.high
    True
    """
    steps, exact = (_usable(given) for given in (points, heldout))
    if len(steps) + len(exact) < LEAST_POINTS:
        msg = (
            f"{len(steps) + len(exact)} points of bits per byte after the warm-up; a prediction "
            f"needs {LEAST_POINTS}: wait, or log more of them"
        )
        raise RecipeError(msg)
    course = _Course.of([*steps, *exact], end_bytes, annealed=annealed, ahead=ahead)
    grid = _Grid.reaching(course.last, course.end)
    kinds = ((exact, LEAST_NOISE), (steps, None))
    fits = [grid.fit(kind, course, noise) for kind, noise in kinds if kind]
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


def _usable(points: Sequence[LossPoint | tuple[float, float]]) -> list[LossPoint]:
    """Return the points from the peak of the learning rate on: the warm-up has another shape."""
    given = [one if isinstance(one, LossPoint) else LossPoint(*one) for one in points]
    given.sort(key=lambda one: one.bytes)
    known = [one for one in given if one.bytes > 0 and math.isfinite(one.value) and one.value > 0]
    peak = max((point.factor for point in known), default=0.0)
    first = next((index for index, point in enumerate(known) if point.factor >= 0.999 * peak), 0)
    return known[first:]


@dataclass(frozen=True)
class _Course:
    """x along the bytes of a run, at the last point and at the end."""

    bytes: Floats
    weighted: Floats
    last: float
    end: float

    @classmethod
    def of(
        cls, points: Sequence[LossPoint], end_bytes: float, *, annealed: bool, ahead: float | None
    ) -> _Course:
        """Integrate the rate; the rest is `ahead`, or follows a cosine, or keeps the last rate."""
        ordered = sorted(points, key=lambda point: point.bytes)
        bytes_P = np.array([0.0, *(point.bytes for point in ordered)])
        factors = np.array([ordered[0].factor, *(point.factor for point in ordered)])
        steps = np.diff(bytes_P) * (factors[1:] + factors[:-1]) / 2
        weighted = np.concatenate([[0.0], np.cumsum(steps)])
        seen, end = bytes_P[-1], max(end_bytes, bytes_P[-1])
        part = seen / end
        if ahead is None:
            cosine = end * ((1 - part) / 2 - math.sin(math.pi * part) / (2 * math.pi))
            ahead = cosine if annealed else (end - seen) * factors[-1]
        return cls(bytes_P, weighted, float(weighted[-1]), float(weighted[-1] + ahead))

    def at(self, points: Sequence[LossPoint]) -> Floats:
        """Return x at points."""
        return np.interp([point.bytes for point in points], self.bytes, self.weighted)


@dataclass(frozen=True)
class _Fit:
    """Log-likelihood and a of each combination, [G]; the relative standard error of a."""

    likelihood: Floats
    now: Floats
    spread: float


@dataclass(frozen=True)
class _Grid:
    """All combinations of alpha, e and s, each [G], for x1 = `last`; `end` is the final shape."""

    last: float
    alpha: Floats
    floor: Floats
    shift: Floats
    end: Floats

    @classmethod
    def reaching(cls, last: float, end: float) -> _Grid:
        """Build the grid."""
        grids = np.meshgrid(ALPHAS, FLOORS, OFFSETS, indexing="ij")
        alpha, floor, offset = (grid.ravel() for grid in grids)
        shift = offset * last
        return cls(last, alpha, floor, shift, _shape(alpha, floor, (end + shift) / (last + shift)))

    def fit(self, points: Sequence[LossPoint], course: _Course, noise: float | None) -> _Fit:
        """Fit a to points of one kind; by default the noise is the residual of the best fit."""
        seen_P = course.at(points)
        fallen_P = np.array([1 - point.factor for point in points])
        values_P = np.array([point.value for point in points]) / (1 - ANNEALING[0] * fallen_P)
        ratio_GP = (seen_P + self.shift[:, None]) / (self.last + self.shift[:, None])
        shape_GP = _shape(self.alpha[:, None], self.floor[:, None], ratio_GP)
        residual_GP = np.log(values_P) - np.log(shape_GP)
        weights_P = seen_P / self.last  # less for early points: rows settle before the body learns
        now_G = (residual_GP @ weights_P) / weights_P.sum()
        squares_G = (residual_GP - now_G[:, None]) ** 2 @ weights_P
        left = squares_G.min() / max(weights_P.sum() - 2, 1)
        variance = max(left, (noise or LEAST_NOISE) ** 2)
        error = math.sqrt(variance / weights_P.sum())
        return _Fit(-0.5 * squares_G / variance, np.exp(now_G), error)

    def weights(self, likelihood_G: Floats) -> Floats:
        """Return the weight of each combination, with the prior on the slope."""
        slope_G = self.alpha * (1 - self.floor) * self.last / (self.last + self.shift)
        whole_G = likelihood_G - 0.5 * (np.log(slope_G / SLOPE[0]) / SLOPE[1]) ** 2
        weights_G = np.exp(whole_G - whole_G.max())
        share_G: Floats = weights_G / weights_G.sum()
        return share_G


def _shape(alpha: Floats, floor: Floats, ratio: Floats) -> Floats:
    shape: Floats = floor + (1 - floor) * ratio**-alpha
    return shape


@dataclass
class ProgressForecast:
    """The prediction that the progress bar of a training phase shows.

    `factor(step, steps)` is the learning rate over its peak, `text` the prediction shown last.
    """

    factor: Callable[[int, int], float]
    steps: int
    text: str = ""

    def update(self, log: Path, step: int) -> str:
        """Return the text for the progress bar, like ", held-out end 0.931 (0.902 to 0.958)"."""
        if step >= FIRST * self.steps and step % max(1, round(EVERY * self.steps)) == 0:
            rows = read_log(log)
            found = self.predict(rows, step)
            what = "held-out end" if any(row.get("heldout") for row in rows) else "end"
            interval = with_interval(found.value, found.low, found.high) if found else ""
            self.text = f", {what} {interval}" if found else ""
        return self.text

    def predict(self, rows: Sequence[Mapping[str, Any]], step: int) -> Forecast | None:
        """Predict the end of the phase from rows of its log; `None` while there are too few."""
        points = points_of(rows)
        language = next((next(iter(row["heldout"])) for row in rows if row.get("heldout")), "")
        if not points or not step:
            return None
        each = points[-1].bytes / step
        ahead = each * sum(self.factor(later, self.steps) for later in range(step, self.steps))
        falls = self.factor(self.steps - 1, self.steps) < FALLEN
        try:
            return predict_end(
                points,
                each * self.steps,
                heldout=heldout_points(rows, language),
                annealed=falls,
                ahead=ahead,
            )
        except RecipeError:
            return None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training.jsonl; none where there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """Return the target's bits per byte, step by step, from rows of training.jsonl."""
    steps = [row for row in rows if "target_bits_per_byte" in row]
    peak = _peak(steps)
    return [
        LossPoint(
            row["target_bytes"], row["target_bits_per_byte"], row["learning_rate_added_rows"] / peak
        )
        for row in steps
    ]


def heldout_points(rows: Sequence[Mapping[str, Any]], language: str) -> list[LossPoint]:
    """Return the held-out curve of a language from rows of training.jsonl, without step 0."""
    steps = {row["step"]: row for row in rows if "target_bytes" in row}
    peak = _peak(list(steps.values()))
    return [
        LossPoint(
            steps[row["step"]]["target_bytes"],
            row["heldout"][language],
            steps[row["step"]]["learning_rate_added_rows"] / peak,
        )
        for row in rows
        if row["step"] in steps and language in row.get("heldout", {})
    ]


def weighted_bytes(planned: Sequence[LossPoint]) -> float:
    """Return the bytes from the first to the last point, weighted by the rate over its peak."""
    return sum(
        (later.bytes - before.bytes) * (later.factor + before.factor) / 2
        for before, later in pairwise(planned)
    )


def _peak(rows: Sequence[Mapping[str, Any]]) -> float:
    return max((float(row["learning_rate_added_rows"]) for row in rows), default=0.0) or 1.0
