"""Reachability at model level: how a surface that stands alone is cut, base first, then new tokens by rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from lingraft.families.base import Family
from lingraft.selection.words import Characters

CutAlone = Callable[[bytes], list[bytes]]
"""How the *base* cuts a surface that stands alone, as surfaces (an unknown character is one piece)."""


def cut_by_base(family: Family) -> CutAlone:
    """Return the base's way of cutting, on surfaces.

    >>> # cut_by_base(llama2)(" का".encode()) == [" क".encode(), "ा".encode()]
    """
    characters = Characters(family)
    surfaces = family.vocabulary.surfaces

    def cut(surface: bytes) -> list[bytes]:
        (ids,) = family.segment([family.piece_of(surface)])
        symbols = characters.grouped(ids)
        known = characters.surfaces
        return [(surfaces[symbol] or b"") if symbol < family.size else known[symbol - family.size]
                for symbol in symbols]

    return cut


def cut_with_new(surface: bytes, cut_alone: CutAlone, rank: Mapping[bytes, int]) -> list[bytes]:
    """Cut a surface as the base does, then merge whatever spells a new token, lowest rank first, down to two parts.

    >>> cut_with_new(b"abcd", lambda s: [s[i : i + 1] for i in range(len(s))], {b"cd": 0, b"ab": 1})
    [b'ab', b'cd']
    """
    parts = cut_alone(surface)
    last = len(rank)
    while len(parts) > 2:
        best, at = min((rank.get(left + right, last), i)
                       for i, (left, right) in enumerate(pairwise(parts)))
        if best == last:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
