"""What byte-level and SentencePiece BPE share: adding tokens with merges, adding whole units, taking tokens out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property

from lingraft.families.base import Family
from lingraft.families.content import Data


def splits(piece: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield every way to cut a piece into two known pieces, the shorter left part first.

    >>> list(splits("abc", {"a", "ab", "c", "bc"}))
    [('a', 'bc'), ('ab', 'c')]
    """
    for cut in range(1, len(piece)):
        left, right = piece[:cut], piece[cut:]
        if left in known and right in known:
            yield left, right


class BPE(Family):
    """A vocabulary with a table of merges, the first that applies wins."""

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The merges in the order of their ranks."""
        table = self.data["model"]["merges"]
        return [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in table]

    @cached_property
    def splittable(self) -> set[str]:
        """The pieces that may be part of a merge: neither special tokens nor fallback bytes."""
        return {piece for piece, token_id in self.pieces.items()
                if token_id not in self.special and token_id not in self.fallback}

    def extended(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Add the tokens with the merges of all their splits, after every merge of the base."""
        data = self.with_added_in_vocabulary()
        pieces = [self.piece_of(surface) for surface in surfaces]
        known = self.splittable | set(pieces)
        model = data["model"]
        model["vocab"] |= dict(zip(pieces, self._ids_for(surfaces, ids), strict=True))
        self._write_merges(model, [pair for piece in pieces for pair in splits(piece, known)])
        return data

    def with_units(self, surfaces: Sequence[bytes]) -> Data:
        """Add whole units without merges: the model looks a unit up before it merges anything."""
        data = self.with_added_in_vocabulary()
        pieces = [self.piece_of(surface) for surface in surfaces]
        data["model"]["vocab"] |= dict(zip(pieces, self._ids_for(surfaces, None), strict=True))
        data["model"]["ignore_merges"] = True
        return data

    def without(self, token_ids: Iterable[int]) -> Data:
        """Take tokens out, with every merge that makes or uses them; the ids of the others stay, with holes."""
        dropped = set(token_ids)
        gone = {piece for piece, token_id in self.pieces.items() if token_id in dropped}
        data = self.with_added_in_vocabulary()
        model = data["model"]
        model["vocab"] = {piece: token_id for piece, token_id in model["vocab"].items() if piece not in gone}
        kept = [merge for merge in self.merges if gone.isdisjoint((*merge, merge[0] + merge[1]))]
        model["merges"] = []
        self._write_merges(model, kept)
        return data

    def _ids_for(self, surfaces: Sequence[bytes], ids: Sequence[int] | None) -> Sequence[int]:
        return range(self.size, self.size + len(surfaces)) if ids is None else ids

    def _write_merges(self, model: Data, merges: Iterable[tuple[str, str]]) -> None:
        """Append merges in the form that the file uses: pairs, or strings in files of older tokenizers."""
        before = self.data["model"]["merges"]
        as_text = bool(before) and isinstance(before[0], str)
        model["merges"] += [f"{left} {right}" if as_text else [left, right] for left, right in merges]
