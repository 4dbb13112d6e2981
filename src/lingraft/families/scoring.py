"""Scores for new Unigram pieces, on the base's scale.

Three things are wanted of the score of a new piece. It must beat every other segmentation of its surface, or the piece
is never produced. It must not lie below the base's lowest score: a character without a piece costs that score less
ten, so a lower one would change how the base cuts text with such characters. And it should be no higher than needed,
so that base text keeps its segmentation. Hence, for pieces from short to long,

    score = max(lowest + bonus, best other segmentation + STEP x (its pieces - 1)) + spread

The margin grows with the pieces that are saved, so that among segmentations that group the same base pieces the
shortest one wins (each has the base's score plus STEP x pieces saved), not the one that a greedy rule finds first. The
bonus, at most BONUS and falling with the rank, favours frequent pieces among those at the lowest score; it is small
against that score, so fewer pieces still win against more. The spread, under SPREAD and another one for each piece,
breaks ties: SentencePiece sums in 32 bits and `tokenizers` in 64, so exact ties would fall differently there (in 34 of
500 long Turkish documents on T5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

STEP = 0.5
"""Below the scores of pieces, so that base text stays; of 0.01 to 1, all gave token counts within 0.3%."""
BONUS = 1.0
SPREAD = 0.2
"""Above the resolution of 32-bit sums over a long text, about 0.004 after 4,000 tokens."""
UNKNOWN_PENALTY = 10.0
"""What a character without a piece costs beyond the lowest score, in SentencePiece and `tokenizers`."""
_HALF = 1000
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, lie evenly


class Score(NamedTuple):
    """The score of a new piece, and how many pieces spell its surface best without it."""

    score: float
    others: int


def scored(pieces: Sequence[str], base: Mapping[str, float], *, byte_fallback: bool = False) -> list[Score]:
    """Return a score for each new piece, the first in rank first; the scores of `base` stay as they are.

    With `byte_fallback`, a character without a piece counts as its bytes.

    >>> [(round(score, 2), others) for score, others in scored(["ab", "abc"], {"a": -2.0, "b": -3.0, "c": -9.0})]
    [(-4.5, 2), (-7.88, 2)]
    """
    lowest = min(base.values(), default=0.0)
    known = dict(base)
    found: dict[str, Score] = {}
    bonus = {piece: BONUS / (1 + rank / _HALF) for rank, piece in enumerate(pieces)}
    spread = {piece: SPREAD * (rank * _GOLDEN % 1) for rank, piece in enumerate(pieces)}
    for piece in sorted(pieces, key=len):
        score, others = best_segmentation(piece, known, lowest - UNKNOWN_PENALTY, byte_fallback=byte_fallback)
        known[piece] = _single(max(lowest + bonus[piece], score + STEP * (others - 1)) + spread[piece])
        found[piece] = Score(known[piece], others)
    return [found[piece] for piece in pieces]


def best_segmentation(piece: str, known: Mapping[str, float], unknown: float, *,
                      byte_fallback: bool = False) -> tuple[float, int]:
    """Return score and number of tokens of the best way to spell a piece by others.

    A character that no piece spells costs `unknown`; it is one token, or as many as it has bytes.

    >>> best_segmentation("abc", {"a": -1.0, "b": -1.0, "ab": -1.5, "abc": 0.0}, -20.0)
    (-21.5, 2)
    """
    size = len(piece)
    if size == 1:
        return unknown, len(piece.encode()) if byte_fallback else 1
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-np.inf, 0)] * size
    for start in range(size):
        score, count = best[start]
        for end in range(start + 1, size + 1):
            if end - start == size:
                continue
            own = known.get(piece[start:end], unknown if end == start + 1 else None)
            if own is None or score + own <= best[end][0]:
                continue
            lacks_piece = byte_fallback and piece[start:end] not in known
            best[end] = (score + own, count + (len(piece[start:end].encode()) if lacks_piece else 1))
    return best[size]


def _single(score: float) -> float:
    """Round to 32 bits, as SentencePiece stores scores: both files then hold the same number."""
    return float(np.float32(score))
