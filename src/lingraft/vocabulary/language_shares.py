"""Counts of words: at most as many as fit into memory, and several languages each with its share."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

_SCALE = 64
"""Counts are whole numbers: weights are applied on a scale fine enough that a unit seen once does not vanish."""


MAX_WORDS = 1_000_000
"""Distinct words of a corpus that tokens are learned from; more are left out, the rarest first.

The learner's index takes under 56 bytes a symbol; with 600,000 words, its peak was 497 MB.
"""


def most_frequent(counts: Counter[str], limit: int) -> tuple[Counter[str], int]:
    """Return the `limit` most frequent words, and the highest count among those left out (0 for none).

    Of words with equal counts, the first ones in the order of code points stay, in whatever order
    they were counted.

    >>> most_frequent(Counter(b=1, a=1, c=2), 2)
    (Counter({'c': 2, 'a': 1}), 1)
    """
    if len(counts) <= limit:
        return counts, 0
    ranked = heapq.nsmallest(limit + 1, counts.items(), key=_most_frequent_first)
    return Counter(dict(ranked[:limit])), ranked[limit][1]


def _most_frequent_first(item: tuple[str, int]) -> tuple[int, str]:
    word, count = item
    return -count, word


def shares(
    sizes: Sequence[int], temperature: float, weights: Sequence[float] | None = None
) -> list[float]:
    """Return the share of each language: proportional to weight x size^(1 / temperature).

    A temperature of 1 follows the amounts of text, a higher one evens them out.

    >>> shares([900, 100], 1.0), [round(share, 2) for share in shares([900, 100], 2.0)]
    ([0.9, 0.1], [0.75, 0.25])
    """
    raw = [
        size ** (1 / temperature) * weight
        for size, weight in zip(sizes, weights or [1.0] * len(sizes), strict=True)
    ]
    return [value / sum(raw) for value in raw]


def mixed(
    counts: Sequence[Counter[str]],
    sizes: Sequence[int],
    temperature: float,
    weights: Sequence[float] | None = None,
) -> Counter[str]:
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
