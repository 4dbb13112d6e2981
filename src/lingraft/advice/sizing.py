"""How many tokens: tokens per byte against vocabulary size, what serving a byte then costs, and where that is least.

The curve is the diagnosis' own prediction (tokens learned from a sample, counted on held-out text, carried on to all
the text), made continuous: monotone pieces through its points over the logarithm of the size. Serving a byte costs
tokens per byte times the FLOPs of a token, and each added row makes the head larger (Dagan et al. 2024,
arXiv 2402.01035). Near the least cost the curve is flat: every size that costs less than `FLAT` more is as good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lingraft.diagnosis.advice import worthwhile_size
from lingraft.diagnosis.prediction import Curve
from lingraft.selection import ServingCost

FLAT = 0.01
GRID = 400


@dataclass(frozen=True)
class TokensPerByte:
    """Tokens per byte by added tokens: [sizes, values, low, high], from none added on; 95% intervals."""

    sizes: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, added: float) -> tuple[float, float, float]:
        """Return value, low and high at any size up to the largest that was looked at.

        >>> curve = TokensPerByte((0, 1000), (0.5, 0.25), (0.5, 0.24), (0.5, 0.26))
        >>> curve.at(0), curve.at(1000), 0.25 < curve.at(300)[0] < 0.5
        ((0.5, 0.5, 0.5), (0.25, 0.24, 0.26), True)
        """
        if len(self.sizes) == 1:
            return self.values[0], self.low[0], self.high[0]
        where = np.log1p(min(max(added, 0), self.sizes[-1]) / self._scale)
        known = np.log1p(np.array(self.sizes) / self._scale)
        found = [float(_monotone(known, np.log(each), where)) for each in (self.values, self.low, self.high)]
        value, low, high = (float(np.exp(one)) for one in found)
        return round(value, 12), round(low, 12), round(high, 12)

    @property
    def _scale(self) -> float:
        return self.sizes[1] / 2


def _monotone(known: object, values: object, where: float) -> float:
    """Interpolate by monotone cubic pieces (Fritsch and Carlson 1980)."""
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(known, values)(where))


def tokens_per_byte(now: float, curve: Curve) -> TokensPerByte:
    """Return the curve in tokens per byte, from what the tokenizer takes now."""
    points = curve.points
    return TokensPerByte((0, *(point.added for point in points)), (now, *(now * point.share for point in points)),
                         (now, *(now * point.low for point in points)),
                         (now, *(now * point.high for point in points)))


@dataclass(frozen=True)
class SizeAdvice:
    """How many tokens to add.

    `size` is where serving a byte costs least (or, without weights, up to where a thousand more are worth their rows:
    `rule` says which); from `least` to `most` it costs under 1% more, whichever end of the interval holds. `saving` is
    the share of the cost of serving a byte that it saves, with its interval, and `tax` how much more a token costs.
    """

    size: int
    least: int
    most: int
    rule: str
    saving: tuple[float, float, float]
    tax: float
    tokens: tuple[float, float, float]


def advise_size(curve: Curve, now: float, serving: ServingCost | None) -> SizeAdvice:
    """Recommend a size; `now` are the tokens per byte without added tokens."""
    known = tokens_per_byte(now, curve)
    if serving is None:
        size = worthwhile_size(curve)
        tokens = known.at(size)
        saving = tuple(1 - one / now for one in tokens)
        return SizeAdvice(size, size, size, "marginal", (saving[0], saving[2], saving[1]), 1.0, tokens)
    sizes = np.unique(np.round(np.concatenate([[0], np.geomspace(50, known.sizes[-1], GRID)])).astype(int))
    tokens_KS = np.array([known.at(size) for size in sizes]).T
    cost_KS = tokens_KS * np.array([serving.per_token(int(size)) for size in sizes])
    best_K = cost_KS.argmin(axis=1)
    good_KS = cost_KS <= cost_KS.min(axis=1, keepdims=True) * (1 + FLAT)
    good = np.flatnonzero(good_KS.any(axis=0))
    size, before = int(sizes[best_K[0]]), now * serving.per_token(0)
    value, low, high = (1 - float(cost_KS[k, best_K[0]]) / before for k in range(3))
    return SizeAdvice(size, int(sizes[good[0]]), int(sizes[good[-1]]), "serving", (value, high, low),
                      serving.per_token(size) / serving.per_token(0), known.at(size))
