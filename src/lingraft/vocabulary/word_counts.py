"""Words for the learner: the distinct units of a text, cut by the base tokenizer, as flat arrays.

Memory follows the number of distinct units, not the text. A character without a piece (SentencePiece's byte fallback)
is one *virtual* symbol with an id beyond the vocabulary: bytes never merge there, so the character itself has to be
added before anything can grow from it.

Reachability at model level: how a surface that stands alone is cut, base first, then new tokens by rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from lingraft.tokenizer.base import Family

Ints = npt.NDArray[np.int32]
_SLICE = 10_000  # units cut at a time: bounds the memory of encodings


@dataclass(frozen=True)
class WordTable:
    """Distinct units as symbols.

    `symbols` holds all words one after the other, `starts` where each begins (with the end as last entry), `counts`
    how often each occurs. `surfaces[symbol]` are its bytes, `None` for what can never be part of a new token. Symbols
    from `virtual` on are characters without a piece; each costs `costs[symbol - virtual]` tokens. Words from
    `protected` on count nothing, and no new token may occur in them.
    """

    symbols: Ints
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    surfaces: list[bytes | None]
    virtual: int
    costs: tuple[int, ...]
    protected: int

    @property
    def tokens(self) -> int:
        """The number of base tokens in the text."""
        costs = np.ones(len(self.surfaces), dtype=np.int64)
        costs[self.virtual :] = self.costs
        ends = np.concatenate([[0], np.cumsum(costs[self.symbols])])
        return int(((ends[self.starts[1:]] - ends[self.starts[:-1]]) * self.counts).sum())


def cut_words(family: Family, counts: Counter[str], protected: Iterable[str] = ()) -> WordTable:
    """Cut every unit once with the base tokenizer, most frequent first."""
    own = sorted(counts, key=lambda unit: (-counts[unit], unit))
    others = sorted(unit for unit in set(protected) if unit not in counts)
    shared = set(protected) & counts.keys()
    own = [unit for unit in own if unit not in shared]
    # a unit of both texts counts for the target and is protected all the same: it keeps its segmentation
    units = [*own, *sorted(shared), *others]
    characters = CharacterPieces(family)
    symbols: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    stream = iter(units)
    while chunk := list(islice(stream, _SLICE)):
        cut = [characters.grouped(ids) for ids in family.segment(chunk)]
        lengths += map(len, cut)
        symbols.append(np.fromiter((symbol for word in cut for symbol in word), dtype=np.int32))
    starts = np.concatenate([[0], np.cumsum(np.array(lengths, dtype=np.int64))])
    return WordTable(
        symbols=np.concatenate(symbols) if symbols else np.zeros(0, np.int32),
        starts=starts.astype(np.int64),
        counts=np.array([counts.get(unit, 0) for unit in units], dtype=np.int64),
        surfaces=[
            *(
                None if token_id in family.fallback else surface
                for token_id, surface in enumerate(family.vocabulary.surfaces)
            ),
            *characters.surfaces,
        ],
        virtual=family.size,
        costs=tuple(len(surface) for surface in characters.surfaces),
        protected=len(own),
    )


class CharacterPieces:
    """Gives each character that falls back to bytes a symbol of its own, beyond the vocabulary."""

    def __init__(self, family: Family) -> None:
        self.fallback = family.fallback
        self.first = family.size
        self.known: dict[bytes, int] = {}

    @property
    def surfaces(self) -> list[bytes]:
        """The characters, in the order of their symbols."""
        return list(self.known)

    def grouped(self, ids: Sequence[int]) -> Sequence[int]:
        """Return the ids with the bytes of each such character replaced by its symbol."""
        if not self.fallback or self.fallback.keys().isdisjoint(ids):
            return ids
        grouped: list[int] = []
        waiting = bytearray()
        for token_id in ids:
            byte = self.fallback.get(token_id)
            if byte is None:
                grouped.append(token_id)
                continue
            waiting.append(byte)
            if len(waiting) == _utf8_length(waiting[0]):
                character = bytes(waiting)
                grouped.append(self.known.setdefault(character, self.first + len(self.known)))
                waiting.clear()
        return grouped


def _utf8_length(lead: int) -> int:
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


CutAlone = Callable[[bytes], list[bytes]]
"""How the *base* cuts a surface that stands alone, as surfaces (an unknown character is one piece)."""


def cut_by_base(family: Family) -> CutAlone:
    """Return the base's way of cutting, on surfaces.

    >>> # cut_by_base(llama2)(" का".encode()) == [" क".encode(), "ा".encode()]
    """
    characters = CharacterPieces(family)
    surfaces = family.vocabulary.surfaces

    def cut(surface: bytes) -> list[bytes]:
        (ids,) = family.segment([family.piece_of(surface)])
        symbols = characters.grouped(ids)
        known = characters.surfaces
        return [
            (surfaces[symbol] or b"") if symbol < family.size else known[symbol - family.size]
            for symbol in symbols
        ]

    return cut


def cut_with_new(surface: bytes, cut_alone: CutAlone, rank: Mapping[bytes, int]) -> list[bytes]:
    """Cut a surface as the base does, then merge whatever spells a new token, lowest rank first, down to two parts.

    >>> cut_with_new(b"abcd", lambda s: [s[i : i + 1] for i in range(len(s))], {b"cd": 0, b"ab": 1})
    [b'ab', b'cd']
    """
    parts = cut_alone(surface)
    last = len(rank)
    while len(parts) > 2:
        best, at = min(
            (rank.get(left + right, last), i) for i, (left, right) in enumerate(pairwise(parts))
        )
        if best == last:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
