"""Intermediate tokens: tokens that a vocabulary needs only because merges pass through them.

A merge joins two tokens, so a token of three base tokens first needs a token of two. A character
that the base spells with bytes needs a token of its first bytes. An intermediate token may never
occur in the text itself. This module finds the intermediate tokens of a vocabulary, and estimates
what a candidate that is not valid UTF-8 leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.vocabulary.pair_index import END, PairIndex, Places, sum_by_symbol
from lingraft.vocabulary.word_counts import CutAlone, cut_with_new

# A UTF-8 character has at most 4 bytes, so that many neighbours always complete it.
MAX_CHARACTER_BYTES = 4

INTERMEDIATE = "intermediate"
"""The first word of the notes that count intermediate tokens."""


def is_valid_utf8(surface: bytes) -> bool:
    """Return whether bytes decode: no character is cut at either end.

    >>> is_valid_utf8("क".encode()), is_valid_utf8("क".encode()[:2])
    (True, False)
    """
    try:
        surface.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class PartialCharacter:
    """A candidate that is not valid UTF-8: its saving, and the pairs of symbols that spell it."""

    surface: bytes
    saving: int
    splits: Sequence[tuple[int, int]]

    def worth(
        self,
        index: PairIndex,
        surfaces: Sequence[bytes | None],
        allowed: Callable[[bytes], bool],
        step_cost: int,
    ) -> int:
        """Return the saving of the most frequent valid token that contains it, 0 if there is none.

        The surface is extended by its neighbours in the text, the most frequent first. If that
        token would use every occurrence, the partial token would be unused, and the saving counts
        1 / (1 + `step_cost`).
        """
        best = 0
        for left, right in self.splits:
            first = index.places_of(left, right)
            last = index.next[first].astype(np.int64)
            spans = _Spans(first, last, self.surface, self.saving)
            for _ in range(MAX_CHARACTER_BYTES):
                saving, longer = spans.extend(index, surfaces, allowed)
                if saving:
                    divisor = 1 + step_cost if saving >= spans.weight else 1
                    best = max(best, saving // divisor)
                if saving or longer is None:
                    break
                spans = longer
        return best


@dataclass(frozen=True)
class _Spans:
    """The occurrences of partial characters: their first and last places, bytes and weight."""

    first: Places
    last: Places
    surface: bytes
    weight: int

    def extend(
        self, index: PairIndex, surfaces: Sequence[bytes | None], allowed: Callable[[bytes], bool]
    ) -> tuple[int, _Spans | None]:
        """Extend the spans by one neighbour.

        Returns the highest count of an allowed neighbour that completes the characters. If there
        is none, returns 0 and the spans with the most frequent neighbour, `None` if all end here.
        """
        # A first byte of 0x80 to 0xBF continues a character that began in the symbol before.
        to_the_left = 0x80 <= self.surface[0] < 0xC0
        neighbours = index.previous[self.first] if to_the_left else index.next[self.last]
        neighbours = neighbours.astype(np.int64)
        exists = neighbours != END
        first, last, neighbours = self.first[exists], self.last[exists], neighbours[exists]
        symbols = index.symbol[neighbours]
        best, most_frequent = 0, (0, 0, b"")
        for symbol, weight in sum_by_symbol(symbols, index.weight[first]):
            other = surfaces[symbol]
            if not other:
                continue
            longer = other + self.surface if to_the_left else self.surface + other
            if not is_valid_utf8(longer):
                most_frequent = max(most_frequent, (weight, symbol, longer))
            elif allowed(longer):
                best = max(best, weight)
        weight, symbol, longer = most_frequent
        if best or not weight:
            return best, None
        here = symbols == symbol
        if to_the_left:
            return 0, _Spans(neighbours[here], last[here], longer, weight)
        return 0, _Spans(first[here], neighbours[here], longer, weight)


def find_parts(surface: bytes, cut_alone: CutAlone, rank: Mapping[bytes, int]) -> set[bytes]:
    """Return all new tokens from which merges build a new token, at every level.

    >>> sorted(find_parts(b"abcd", lambda s: [s[i : i + 1] for i in range(len(s))],
    ...                   {b"cd": 0, b"ab": 1, b"abcd": 2}))
    [b'ab', b'cd']
    """
    found: set[bytes] = set()
    waiting = [surface]
    while waiting:
        for part in cut_with_new(waiting.pop(), cut_alone, rank):
            if part in rank and part not in found and part != surface:
                found.add(part)
                waiting.append(part)
    return found


@dataclass(frozen=True)
class IntermediateTokens:
    """The intermediate tokens of a vocabulary, and the tokens that are not needed.

    Attributes:
        unused: tokens that do not occur in the text, but from which tokens in use are built.
        partial: tokens that are not valid UTF-8, from which valid tokens are built.
        unneeded: unused or partial tokens from which no token in use is built.
    """

    unused: frozenset[bytes] = frozenset()
    partial: frozenset[bytes] = frozenset()
    unneeded: frozenset[bytes] = frozenset()

    @property
    def notes(self) -> dict[str, int]:
        """The counts by reason, as the notes of a run hold them."""
        return {
            f"{INTERMEDIATE}: not used alone, but in longer tokens": len(self.unused),
            f"{INTERMEDIATE}: part of a character, whole ones are made of it": len(self.partial),
        }


def find_intermediate_tokens(
    surfaces: Sequence[bytes], unused: Collection[bytes], cut_alone: CutAlone
) -> IntermediateTokens:
    """Find the intermediate tokens among all new tokens, which are in rank order.

    `unused` are the new tokens that do not occur in the text.
    """
    partial = {surface for surface in surfaces if not is_valid_utf8(surface)}
    suspects = partial | set(unused)
    rank = {surface: position for position, surface in enumerate(surfaces)}
    needed: set[bytes] = set()
    for surface in surfaces:
        if surface not in suspects and any(suspect in surface for suspect in suspects):
            needed |= find_parts(surface, cut_alone, rank)
    return IntermediateTokens(
        unused=frozenset(needed & set(unused)),
        partial=frozenset(needed & partial),
        unneeded=frozenset(suspects - needed),
    )
