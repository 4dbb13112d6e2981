"""Several target languages: the share of each in the word counts that tokens are learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# Counts stay integers, so they are scaled up before weights apply: rounding then loses little.
SCALE = 64


def compute_shares(
    sizes: Sequence[int], temperature: float, weights: Sequence[float] | None = None
) -> list[float]:
    """Return the share of each language, proportional to weight x size^(1 / temperature).

    A temperature of 1 follows the amounts of text, a higher one evens them out.

    >>> compute_shares([900, 100], 1.0)
    [0.9, 0.1]
    >>> [round(share, 2) for share in compute_shares([900, 100], 2.0)]
    [0.75, 0.25]
    """
    raw = []
    for size, weight in zip(sizes, weights or [1.0] * len(sizes), strict=True):
        raw.append(size ** (1 / temperature) * weight)
    total = sum(raw)
    return [value / total for value in raw]


def mix_counts(
    counts: Sequence[Counter[str]],
    sizes: Sequence[int],
    temperature: float,
    weights: Sequence[float] | None = None,
) -> Counter[str]:
    """Add up the counts of several languages so that each language has its share.

    `sizes` are the bytes of text of each language. The counts of a single language are returned
    unchanged.
    """
    if len(counts) == 1:
        return counts[0]
    total = sum(sizes)
    mixture: Counter[str] = Counter()
    shares = compute_shares(sizes, temperature, weights)
    for language_counts, size, share in zip(counts, sizes, shares, strict=True):
        factor = share * total / size * SCALE
        for unit, count in language_counts.items():
            # At least 1: a rare unit of a language with a small weight must not disappear.
            mixture[unit] += max(round(count * factor), 1)
    return mixture
