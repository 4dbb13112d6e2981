"""Steps: tokens that are in a vocabulary because merges pass through them.

A merge joins two tokens, so a token of three base pieces needs one of two pieces first, and a
character that the base spells by bytes needs its first bytes. A step may have no use of its own in
the text. This module says which tokens are needed as steps, and what a torn candidate (bytes that
are no whole UTF-8 text) leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.vocabulary.pair_index import END, PairIndex, Places, grouped
from lingraft.vocabulary.word_counts import CutAlone, cut_with_new

MOST_BYTES = 4
"""Of a character in UTF-8: a torn piece is whole after so many neighbours at most."""


def is_whole(surface: bytes) -> bool:
    """Say whether bytes are text: no character is cut at either end.

    >>> is_whole("क".encode()), is_whole("क".encode()[:2])
    (True, False)
    """
    try:
        surface.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class PartialCharacter:
    """A candidate that is no whole UTF-8 text: what it would save, and the pairs that spell it."""

    surface: bytes
    gain: int
    splits: Sequence[tuple[int, int]]

    def worth(
        self,
        chain: PairIndex,
        surfaces: Sequence[bytes | None],
        allowed: Callable[[bytes], bool],
        step_cost: int,
    ) -> int:
        """Return what the most frequent whole token behind it would save; 0 where none is allowed.

        The surface is completed by its neighbours in the text, the most frequent first. Where a
        torn step would leave nothing for other characters, it would have no use of its own, and
        the saving counts 1 / (1 + `step_cost`).
        """
        best = 0
        for left, right in self.splits:
            first = chain.current(left, right)
            spans = _Spans(first, chain.next[first].astype(np.int64), self.surface, self.gain)
            for _ in range(MOST_BYTES):
                saved, longer = spans.grown(chain, surfaces, allowed)
                if saved:
                    best = max(best, saved // (1 + step_cost) if saved >= spans.weight else saved)
                if saved or longer is None:
                    break
                spans = longer
        return best


@dataclass(frozen=True)
class _Spans:
    """Where torn bytes stand: first and last symbol of each place, the bytes, and how often."""

    first: Places
    last: Places
    torn: bytes
    weight: int

    def grown(
        self, chain: PairIndex, surfaces: Sequence[bytes | None], allowed: Callable[[bytes], bool]
    ) -> tuple[int, _Spans | None]:
        """Return how often a neighbour makes them whole, or the spans with the likeliest one."""
        to_the_left = 0x80 <= self.torn[0] < 0xC0
        neighbours = (chain.previous[self.first] if to_the_left else chain.next[self.last]).astype(
            np.int64
        )
        there = neighbours != END
        first, last, neighbours = self.first[there], self.last[there], neighbours[there]
        symbols = chain.symbol[neighbours]
        best, likeliest = 0, (0, 0, b"")
        for symbol, weight in grouped(symbols, chain.weight[first]):
            own = surfaces[symbol]
            if not own:
                continue
            text = own + self.torn if to_the_left else self.torn + own
            if not is_whole(text):
                likeliest = max(likeliest, (weight, symbol, text))
            elif allowed(text):
                best = max(best, weight)
        weight, symbol, text = likeliest
        if best or not weight:
            return best, None
        here = symbols == symbol
        if to_the_left:
            return 0, _Spans(neighbours[here], last[here], text, weight)
        return 0, _Spans(first[here], neighbours[here], text, weight)


def derivation(surface: bytes, cut_alone: CutAlone, rank: Mapping[bytes, int]) -> set[bytes]:
    """Return the new tokens that a new token is made of, when it stands alone, at every level.

    >>> sorted(derivation(b"abcd", lambda s: [s[i : i + 1] for i in range(len(s))],
    ...                   {b"cd": 0, b"ab": 1, b"abcd": 2}))
    [b'ab', b'cd']
    """
    found: set[bytes] = set()
    waiting = [surface]
    while waiting:
        parts = cut_with_new(waiting.pop(), cut_alone, rank)
        new = [part for part in parts if part in rank and part not in found and part != surface]
        found.update(new)
        waiting += new
    return found


@dataclass(frozen=True)
class IntermediateTokens:
    """The new tokens that are there as steps, and those that are not even that.

    `idle` have no use in the text, but tokens in use are made of them; `torn` are no whole UTF-8
    text, but whole tokens are made of them; `spare` are neither used nor needed.
    """

    idle: frozenset[bytes] = frozenset()
    torn: frozenset[bytes] = frozenset()
    spare: frozenset[bytes] = frozenset()

    @property
    def notes(self) -> dict[str, int]:
        """The counts, with their reasons."""
        return {
            "steps: without a use of their own, longer tokens are made of them": len(self.idle),
            "steps: part of a character, whole characters are made of them": len(self.torn),
        }


def find_intermediate_tokens(
    surfaces: Sequence[bytes], idle: Collection[bytes], cut_alone: CutAlone
) -> IntermediateTokens:
    """Say which tokens are steps; `surfaces` are all new tokens in rank order, `idle` those without use."""
    torn = {surface for surface in surfaces if not is_whole(surface)}
    suspects = torn | set(idle)
    rank = {surface: place for place, surface in enumerate(surfaces)}
    needed: set[bytes] = set()
    for surface in surfaces:
        if surface not in suspects and any(suspect in surface for suspect in suspects):
            needed |= derivation(surface, cut_alone, rank)
    return IntermediateTokens(
        idle=frozenset(needed & set(idle)),
        torn=frozenset(needed & torn),
        spare=frozenset(suspects - needed),
    )
