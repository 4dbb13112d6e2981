"""Predict the loss at the end of training from the first part of a run.

Bits per byte fall as a power of the text seen, down to a constant. x is the text seen in bytes,
with each byte weighted by the learning rate over its peak. With x1 the text seen so far, s an
offset for the text that the model saw before, and a the value at x1:

    value(x) = a * (e + (1 - e) * ((x + s) / (x1 + s)) ** -alpha) * (1 - g * (1 - rate / peak))

where 0 <= e < 1 is the part that no text removes, and g is the extra gain of a falling rate (the
form of Tissue et al. 2024, arXiv 2408.11029). The first part of a run does not determine e, alpha
and s, so all combinations on a grid are fitted (a has a closed form). Each is weighted by the
likelihood of the points and by a prior on the slope at x1 (`SLOPE`). The prediction is the weighted
mean; the interval contains 95% of the weight, with g drawn as well.

Training steps are many and noisy, points on held-out text few and exact. Both kinds share the
shape, and each has its own a. The prediction is for held-out text if there are such points. If they
have fallen to less than half (`STEEP`), the upper bound is at least the last of them.

Suffixes: P points, G combinations of the grid, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.errors import RecipeError
from lingraft.forecast.extrapolate import CONFIDENCE, Floats

ALPHAS = np.geomspace(0.02, 1.2, 20)
IRREDUCIBLE = np.linspace(0.0, 0.95, 16)
OFFSETS = np.array([0.0, 0.05, 0.15, 0.4, 1.0, 2.5])
"""Values of s as shares of x1."""

SLOPE = (0.06, 0.45)
"""Prior from earlier runs: the median of -d log value / d log x at x1, and the standard deviation
of its logarithm. With 0.1, which runs of larger steps gave, 55 runs of the default batch ended 3%
to 5% above their predictions; with 0.06, the mean error is within 1.2% of 0 (results.md)."""

ANNEALING = (0.04, 0.025)
"""Mean and standard deviation of g. Chosen on 12 runs in Hindi and Turkish of 0.1 to 0.4 MB, with
the lower rates of small batches; with the 0.055 of a run of 4 MB, their ends were predicted 2.6%
too low. Checked on 12 runs in Tamil and Arabic: -0.7% (results.md). In all of them the rate fell to
0; that a rate which falls by less has a part of the gain was not measured."""

STEEP = 0.5
"""If held-out bits per byte fall below this share of their first value, they may fall no further.

The upper bound of the interval is then at least their last value. Such a curve is that of a base
that learns a new script: it falls faster than a power law, and then nearly stops. For a base that
was pretrained on children's stories, 5 of 12 measured ends were above the interval without this
rule, and all 12 are inside with it (results.md).
"""

MIN_POINTS = 5
DRAWS = 4_000
# Held-out points are exact, but the power law is only a model of the curve.
MIN_NOISE = 0.005
"""Minimum relative deviation of a point from the fitted curve."""


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
    end_factor: float = 0.0,
    ahead: float | None = None,
) -> Forecast:
    """Predict bits per byte after `end_bytes` from the steps and held-out points so far.

    Points of the warm-up are left out. `end_factor` is the last learning rate over the peak: 0.0 of
    one that falls to zero, 1.0 of a constant one. `ahead` is the number of bytes that follow, each
    weighted by its rate over the peak; the default is that of a cosine schedule. Raises
    `RecipeError` with fewer than five points, or if the rate was always 0.

    >>> seen = [LossPoint(b, 0.5 + 40 * (b + 1e4) ** -0.4) for b in range(10_000, 210_000, 5_000)]
    >>> end = predict_end(seen, 1_000_000, end_factor=1.0)
    >>> abs(end.value / (0.5 + 40 * 1_010_000 ** -0.4) - 1) < 0.03
    True
    >>> end.low < end.value < end.high
    True
    """
    steps, exact = _after_warmup(points), _after_warmup(heldout)
    if len(steps) + len(exact) < MIN_POINTS:
        msg = (
            f"{len(steps) + len(exact)} points of bits per byte after the warm-up; a prediction "
            f"needs {MIN_POINTS}: wait, or log more of them"
        )
        raise RecipeError(msg)
    if not any(point.factor > 0 for point in [*steps, *exact]):
        msg = "the learning rate was 0 at every point so far: nothing can be predicted from them"
        raise RecipeError(msg)
    seen = _WeightedBytes.of([*steps, *exact], end_bytes, end_factor=end_factor, ahead=ahead)
    grid = _Grid.build(seen.last, seen.end)
    # Held-out points are first, because the prediction is for the kind of the first fit.
    fits = [grid.fit(kind, seen) for kind in (exact, steps) if kind]
    weights_G = grid.weights(fits)
    now_G, error = fits[0].now, fits[0].error
    # A fixed seed: the same log gives the same interval.
    random = np.random.default_rng(0)
    drawn_D = random.choice(len(weights_G), size=DRAWS, p=weights_G)
    ends_D = (now_G * grid.end)[drawn_D] * (1 + error * random.standard_normal(DRAWS))
    fall = 1 - end_factor
    # A negative gain would mean that a falling rate raises the loss.
    ends_D = ends_D * (1 - fall * np.maximum(random.normal(*ANNEALING, DRAWS), 0))
    mean = float(weights_G @ (now_G * grid.end)) * (1 - fall * ANNEALING[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ends_D, [tail, 1 - tail])
    return Forecast(mean, float(low), max(float(high), _flat_end(heldout)))


def _flat_end(heldout: Sequence[LossPoint | tuple[float, float]]) -> float:
    """Return the last held-out value if the curve is steep (`STEEP`), else 0."""
    points = _valid(heldout)
    return points[-1].value if points and points[-1].value < STEEP * points[0].value else 0.0


def _after_warmup(points: Sequence[LossPoint | tuple[float, float]]) -> list[LossPoint]:
    """Return the valid points from the peak of the learning rate on.

    The loss during the warm-up does not follow the power law.
    """
    valid = _valid(points)
    peak = max((point.factor for point in valid), default=0.0)
    for index, point in enumerate(valid):
        if point.factor >= 0.999 * peak:
            return valid[index:]
    return valid


def _valid(points: Sequence[LossPoint | tuple[float, float]]) -> list[LossPoint]:
    """Return the points after the start with a value, in the order of the bytes."""
    valid = []
    for given in points:
        point = given if isinstance(given, LossPoint) else LossPoint(*given)
        if point.bytes > 0 and math.isfinite(point.value) and point.value > 0:
            valid.append(point)
    return sorted(valid, key=lambda point: point.bytes)


def _columns(points: Sequence[LossPoint]) -> tuple[Floats, Floats, Floats]:
    """Return the bytes, values and factors of the points, each [P]."""
    table = [(point.bytes, point.value, point.factor) for point in points]
    bytes_P, values_P, factors_P = np.array(table, dtype=np.float64).T
    return bytes_P, values_P, factors_P


@dataclass(frozen=True)
class _WeightedBytes:
    """x as a function of the bytes of a run, and its values at the last point and at the end."""

    bytes: Floats
    weighted: Floats
    last: float
    end: float

    @classmethod
    def of(
        cls,
        points: Sequence[LossPoint],
        end_bytes: float,
        *,
        end_factor: float,
        ahead: float | None,
    ) -> _WeightedBytes:
        """Integrate the learning rate over the bytes of the points, with the trapezoidal rule.

        From the last point to the end, x grows by `ahead`. The default is the integral of a cosine
        schedule that ends at `end_factor`.
        """
        bytes_P, _, factors_P = _columns(sorted(points, key=lambda point: point.bytes))
        bytes_P = np.concatenate([[0.0], bytes_P])
        factors = np.concatenate([factors_P[:1], factors_P])
        steps = np.diff(bytes_P) * (factors[1:] + factors[:-1]) / 2
        weighted = np.concatenate([[0.0], np.cumsum(steps)])
        seen, end = bytes_P[-1], max(end_bytes, bytes_P[-1])
        part = seen / end
        if ahead is None:
            cosine = end * ((1 - part) / 2 - math.sin(math.pi * part) / (2 * math.pi))
            ahead = (1 - end_factor) * cosine + end_factor * (end - seen)
        return cls(bytes_P, weighted, float(weighted[-1]), float(weighted[-1] + ahead))

    def at(self, points: Sequence[LossPoint]) -> Floats:
        """Return x at the points, [P]."""
        bytes_P, _, _ = _columns(points)
        return np.interp(bytes_P, self.bytes, self.weighted)


@dataclass(frozen=True)
class _Fit:
    """Log-likelihood and a of each combination, [G]; the relative standard error of a."""

    likelihood: Floats
    now: Floats
    error: float


@dataclass(frozen=True)
class _Grid:
    """All combinations of alpha, e and s, each [G], with x1 = `last` and the shape at the end."""

    last: float
    alpha: Floats
    irreducible: Floats
    offset: Floats
    end: Floats

    @classmethod
    def build(cls, last: float, end: float) -> _Grid:
        """Build the grid."""
        grids = np.meshgrid(ALPHAS, IRREDUCIBLE, OFFSETS, indexing="ij")
        alpha, irreducible, relative_offset = map(np.ravel, grids)
        offset = relative_offset * last
        end_shape = _shape(alpha, irreducible, (end + offset) / (last + offset))
        return cls(last, alpha, irreducible, offset, end_shape)

    def fit(self, points: Sequence[LossPoint], seen: _WeightedBytes) -> _Fit:
        """Fit a to points of one kind; the noise is the residual of the best combination."""
        seen_P = seen.at(points)
        _, values_P, factors_P = _columns(points)
        # The gain of a rate that has already fallen is removed, so that all points are comparable.
        values_P = values_P / (1 - ANNEALING[0] * (1 - factors_P))
        ratio_GP = (seen_P + self.offset[:, None]) / (self.last + self.offset[:, None])
        shape_GP = _shape(self.alpha[:, None], self.irreducible[:, None], ratio_GP)
        residual_GP = np.log(values_P) - np.log(shape_GP)
        # Early points count less: they show how the added rows settle, before the layers learn.
        weights_P = seen_P / self.last
        now_G = (residual_GP @ weights_P) / weights_P.sum()
        squares_G = (residual_GP - now_G[:, None]) ** 2 @ weights_P
        residual = squares_G.min() / max(weights_P.sum() - 2, 1)
        variance = max(residual, MIN_NOISE**2)
        error = math.sqrt(variance / weights_P.sum())
        return _Fit(-0.5 * squares_G / variance, np.exp(now_G), error)

    def weights(self, fits: Sequence[_Fit]) -> Floats:
        """Return the weight of each combination, from all fits and the prior on the slope."""
        likelihood_G = np.sum([fit.likelihood for fit in fits], axis=0)
        # The derivative of -log value by log x at x1, from the formula at the top.
        slope_G = self.alpha * (1 - self.irreducible) * self.last / (self.last + self.offset)
        posterior_G = likelihood_G - 0.5 * (np.log(slope_G / SLOPE[0]) / SLOPE[1]) ** 2
        # The maximum is subtracted, so that the exponentials do not all underflow to 0.
        weights_G = np.exp(posterior_G - posterior_G.max())
        share_G: Floats = weights_G / weights_G.sum()
        return share_G


def _shape(alpha: Floats, irreducible: Floats, ratio: Floats) -> Floats:
    shape: Floats = irreducible + (1 - irreducible) * ratio**-alpha
    return shape
