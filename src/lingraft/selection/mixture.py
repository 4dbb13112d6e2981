"""Several target languages: one set of counts in which each language weighs what the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_SCALE = 64
"""Counts are whole numbers: weights are applied on a scale fine enough that a unit seen once does not vanish."""


def shares(sizes: Sequence[int], temperature: float, weights: Sequence[float] | None = None) -> list[float]:
    """Return the share of each language: proportional to weight x size^(1 / temperature).

    A temperature of 1 follows the amounts of text, a higher one evens them out.

    >>> shares([900, 100], 1.0), [round(share, 2) for share in shares([900, 100], 2.0)]
    ([0.9, 0.1], [0.75, 0.25])
    """
    raw = [size ** (1 / temperature) * weight
           for size, weight in zip(sizes, weights or [1.0] * len(sizes), strict=True)]
    return [value / sum(raw) for value in raw]


def mixed(counts: Sequence[Counter[str]], sizes: Sequence[int], temperature: float,
          weights: Sequence[float] | None = None) -> Counter[str]:
    """Add up the counts of several languages so that each has its share; one language is returned as it is."""
    if len(counts) == 1:
        return counts[0]
    total = sum(sizes)
    mixture: Counter[str] = Counter()
    for own, size, share in zip(counts, sizes, shares(sizes, temperature, weights), strict=True):
        factor = share * total / size * _SCALE
        for unit, count in own.items():
            mixture[unit] += max(round(count * factor), 1)
    return mixture
