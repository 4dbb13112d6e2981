"""The words of a text for the learner, and how a surface is cut when it stands alone.

`cut_words` cuts every distinct unit once with the base tokenizer. The result is a few flat arrays,
so memory grows with the number of distinct units and not with the text. A character without a piece
(SentencePiece's byte fallback) is one *virtual* symbol beyond the vocabulary: SentencePiece never
merges bytes, so the character itself must become a token before a longer token can contain it.

`cut_by_base` and `cut_with_new` cut a single surface as the model of the base and of the extended
tokenizer do. They decide whether a candidate is reachable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from lingraft.tokenizer.base import Family

Symbols = npt.NDArray[np.int32]

# How the base cuts a surface that stands alone, as surfaces. An unknown character is one of them.
CutAlone = Callable[[bytes], list[bytes]]

_UNITS_AT_ONCE = 10_000  # units segmented at a time, which bounds the memory of encodings


@dataclass(frozen=True)
class WordTable:
    """Distinct units as symbols.

    Attributes:
        symbols: all words, one after the other.
        starts: where each word begins, followed by the end of the last one.
        counts: how often each word occurs.
        surfaces: the bytes of each symbol, `None` if it can never be part of a new token.
        virtual: the first virtual symbol; these are characters without a piece.
        costs: the number of base tokens of each virtual symbol.
        protected: the first protected word; no new token may occur in these words.
        measured: how often each word occurs in another text whose tokens are counted, too; `None`
            without such a text.
    """

    symbols: Symbols
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    surfaces: list[bytes | None]
    virtual: int
    costs: tuple[int, ...]
    protected: int
    measured: npt.NDArray[np.int64] | None = None

    @property
    def tokens(self) -> int:
        """The number of base tokens in the text."""
        return self.count_tokens(self.counts)

    def count_tokens(self, counts: npt.NDArray[np.int64]) -> int:
        """Return the number of base tokens in a text with these counts of the words."""
        costs = np.ones(len(self.surfaces), dtype=np.int64)
        costs[self.virtual :] = self.costs
        ends = np.concatenate([[0], np.cumsum(costs[self.symbols])])
        return int(((ends[self.starts[1:]] - ends[self.starts[:-1]]) * counts).sum())


def cut_words(
    family: Family,
    counts: Counter[str],
    protected: Iterable[str] = (),
    measured: Counter[str] | None = None,
) -> WordTable:
    """Cut every unit once with the base tokenizer, the most frequent units first.

    Units that occur only in `measured` have a count of 0: no token is learned because of them.
    """
    protected_units = set(protected)
    if measured:
        counts = counts.copy()
        for unit in measured:
            counts.setdefault(unit, 0)
    # A unit of both texts keeps its count, but it is protected: its segmentation must not change.
    shared = sorted(protected_units & counts.keys())
    free = sorted(counts.keys() - protected_units, key=lambda unit: (-counts[unit], unit))
    units = [*free, *shared, *sorted(protected_units - counts.keys())]
    characters = CharacterPieces(family)
    chunks: list[Symbols] = []
    lengths: list[int] = []
    stream = iter(units)
    while chunk := list(islice(stream, _UNITS_AT_ONCE)):
        symbols: list[int] = []
        for ids in family.segment(chunk):
            word = characters.group(ids)
            lengths.append(len(word))
            symbols += word
        chunks.append(np.array(symbols, dtype=np.int32))
    surfaces: list[bytes | None] = list(family.vocabulary.surfaces)
    for token_id in family.fallback:  # a single byte of a character is never part of a new token
        surfaces[token_id] = None
    starts = np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))])
    return WordTable(
        symbols=np.concatenate(chunks) if chunks else np.zeros(0, np.int32),
        starts=starts.astype(np.int64),
        counts=_counts_of(units, counts),
        surfaces=[*surfaces, *characters.surfaces],
        virtual=family.size,
        costs=tuple(len(surface) for surface in characters.surfaces),
        protected=len(free),
        measured=_counts_of(units, measured) if measured is not None else None,
    )


def _counts_of(units: Sequence[str], counts: Counter[str]) -> npt.NDArray[np.int64]:
    return np.array([counts.get(unit, 0) for unit in units], dtype=np.int64)


class CharacterPieces:
    """Gives each character that falls back to bytes a symbol beyond the vocabulary."""

    def __init__(self, family: Family) -> None:
        self.fallback = family.fallback
        self.first = family.size
        self.known: dict[bytes, int] = {}

    @property
    def surfaces(self) -> list[bytes]:
        """The characters, in the order of their symbols."""
        return list(self.known)

    def group(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids with the bytes of each such character replaced by its symbol."""
        if not self.fallback or self.fallback.keys().isdisjoint(ids):
            return ids
        symbols: list[int] = []
        waiting = bytearray()
        for token_id in ids:
            byte = self.fallback.get(token_id)
            if byte is None:
                symbols.append(token_id)
                continue
            waiting.append(byte)
            if len(waiting) == _utf8_length(waiting[0]):
                character = bytes(waiting)
                symbols.append(self.known.setdefault(character, self.first + len(self.known)))
                waiting.clear()
        return symbols


def _utf8_length(lead: int) -> int:
    """Return the number of bytes of a UTF-8 character, by its first byte."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def cut_by_base(family: Family) -> CutAlone:
    """Return a function that cuts a surface as the model of the base does.

    >>> # cut_by_base(llama2)(" का".encode()) == [" क".encode(), "ा".encode()]
    """
    characters = CharacterPieces(family)
    surfaces = family.vocabulary.surfaces

    def cut(surface: bytes) -> list[bytes]:
        (ids,) = family.segment([family.piece_of(surface)])
        symbols = characters.group(ids)
        known = characters.surfaces
        parts = []
        for symbol in symbols:
            if symbol < family.size:
                parts.append(surfaces[symbol] or b"")
            else:
                parts.append(known[symbol - family.size])
        return parts

    return cut


def cut_with_new(surface: bytes, cut_alone: CutAlone, rank: Mapping[bytes, int]) -> list[bytes]:
    """Cut a surface as the base does, then merge new tokens, lowest rank first, to two parts.

    The last merge is left out: two parts mean that one more merge produces the surface.

    >>> cut_with_new(b"abcd", lambda s: [s[i : i + 1] for i in range(len(s))], {b"cd": 0, b"ab": 1})
    [b'ab', b'cd']
    """
    parts = cut_alone(surface)
    no_rank = len(rank)
    while len(parts) > 2:
        # Of equal ranks the leftmost pair is merged first, as `tokenizers` does.
        ranks = [rank.get(left + right, no_rank) for left, right in pairwise(parts)]
        best = min(ranks)
        if best == no_rank:
            break
        at = ranks.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
