"""Merge tables: how `tokenizers` writes that a token is produced from two others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def splits(piece: str, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield every way to cut a piece into two known pieces, the shorter left part first.

    >>> list(splits("abc", {"a", "ab", "c", "bc"}))
    [('a', 'bc'), ('ab', 'c')]
    """
    for cut in range(1, len(piece)):
        left, right = piece[:cut], piece[cut:]
        if left in known and right in known:
            yield left, right


def add_tokens(model: dict[str, Any], pieces: Sequence[str], first_id: int, splittable: set[str]) -> None:
    """Append pieces to a BPE model in place: ids from `first_id` on, merges of all splits after those that are there.

    `splittable` holds the pieces of the base that may be merged; those of special tokens are not among them.
    """
    known = splittable | set(pieces)
    as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
    for offset, piece in enumerate(pieces):
        model["vocab"][piece] = first_id + offset
        for left, right in splits(piece, known):
            model["merges"].append(f"{left} {right}" if as_text else [left, right])
