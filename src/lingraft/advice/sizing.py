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
from lingraft.forecast.predict_fertility import FertilityCurve, tokens_per_byte
from lingraft.selection import ServingCost

FLAT = 0.01
GRID = 400


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


def advise_size(curve: FertilityCurve, now: float, serving: ServingCost | None) -> SizeAdvice:
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
