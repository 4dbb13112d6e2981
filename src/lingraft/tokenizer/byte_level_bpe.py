"""BPE tokenizers: adding tokens with merges, and the byte-level family.

Byte-level BPE (GPT-2, Pythia, Phi-2, BLOOM, Qwen, Llama-3, Mistral-Nemo) has a piece for every
byte, written as one printable character, so no text is unknown. A regular expression splits the
text into pre-tokens first; no token crosses the boundary of a pre-token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import Data, merges_of


def splits(piece: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield every split of a piece into two known pieces, the shorter left part first.

    >>> list(splits("abc", {"a", "ab", "c", "bc"}))
    [('a', 'bc'), ('ab', 'c')]
    """
    for cut in range(1, len(piece)):
        left, right = piece[:cut], piece[cut:]
        if left in known and right in known:
            yield left, right


class BPE(Family):
    """A vocabulary with a table of merges, in which the first applicable merge is applied."""

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The merges in the order of their ranks."""
        return merges_of(self.data)

    @cached_property
    def splittable(self) -> set[str]:
        """The pieces that may be part of a merge: neither added tokens nor fallback bytes."""
        excluded = self.special.keys() | self.fallback.keys()
        return {piece for piece, token_id in self.pieces.items() if token_id not in excluded}

    def with_tokens(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Add the tokens with the merges of all their splits, after every merge of the base."""
        data = self.with_added_in_vocabulary()
        pieces = list(map(self.piece_of, surfaces))
        known = self.splittable | set(pieces)
        model = data["model"]
        model["vocab"] |= dict(zip(pieces, self._ids_for(surfaces, ids), strict=True))
        merges: list[tuple[str, str]] = []
        for piece in pieces:
            merges += splits(piece, known)
        self._append_merges(model, merges)
        return data

    def with_units(self, surfaces: Sequence[bytes]) -> Data:
        """Add whole units without merges: the model looks a unit up before it merges anything."""
        data = self.with_added_in_vocabulary()
        pieces = list(map(self.piece_of, surfaces))
        data["model"]["vocab"] |= dict(zip(pieces, self._ids_for(surfaces, None), strict=True))
        data["model"]["ignore_merges"] = True
        return data

    def without_tokens(self, token_ids: Iterable[int]) -> Data:
        """Remove tokens and every merge that produces or uses them; the other ids stay."""
        dropped_ids = set(token_ids)
        dropped = set()
        for piece, token_id in self.pieces.items():
            if token_id in dropped_ids:
                dropped.add(piece)
        data = self.with_added_in_vocabulary()
        model = data["model"]
        for piece in dropped:
            del model["vocab"][piece]
        kept = []
        for left, right in self.merges:
            if dropped.isdisjoint((left, right, left + right)):
                kept.append((left, right))
        model["merges"] = []
        self._append_merges(model, kept)
        return data

    def _ids_for(self, surfaces: Sequence[bytes], ids: Sequence[int] | None) -> Sequence[int]:
        return range(self.size, self.size + len(surfaces)) if ids is None else ids

    def _append_merges(self, model: Data, merges: Iterable[tuple[str, str]]) -> None:
        """Append merges in the form that the file uses: pairs, or strings in older files."""
        before = self.data["model"]["merges"]
        if before and isinstance(before[0], str):
            model["merges"] += map(" ".join, merges)
        else:
            model["merges"] += map(list, merges)


@cache
def byte_characters() -> tuple[str, ...]:
    """Return the character that stands for each byte, by GPT-2's table.

    Printable bytes stand for themselves, the others for characters from U+0100 on.

    >>> byte_characters()[ord(" ")], byte_characters()[ord("a")]
    ('Ġ', 'a')
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    characters = []
    next_spare = 0x100
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(next_spare))
            next_spare += 1
    return tuple(characters)


@cache
def _byte_of() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


class ByteLevel(BPE):
    """BPE over bytes."""

    name: ClassVar[str] = "byte-level BPE"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Whether the model is a BPE whose pre-tokenizer maps bytes to characters."""
        return data["model"].get("type") == "BPE" and maps_bytes(data)

    def surface_of(self, piece: str) -> bytes:
        """Map each character back to its byte; a piece with any other character is plain text."""
        table = _byte_of()
        try:
            return bytes(map(table.__getitem__, piece))
        except KeyError:
            return piece.encode()

    def piece_of(self, surface: bytes) -> str:
        """Map each byte to its character."""
        table = byte_characters()
        return "".join(map(table.__getitem__, surface))

    def cut(self, text: str) -> Iterable[str]:
        """Return the pre-tokens, with each byte as its character."""
        return self._pre_tokens(text)


def pre_tokenizers(data: Data) -> list[dict[str, Any]]:
    """Return the steps of the pre-tokenizer in order; a `Sequence` is replaced by its parts."""
    pre: dict[str, Any] | None = data.get("pre_tokenizer")
    if not pre:
        return []
    return list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]


def maps_bytes(data: Data) -> bool:
    """Whether a step of the pre-tokenizer maps bytes to characters, as GPT-2's does."""
    return any(part.get("type") == "ByteLevel" for part in pre_tokenizers(data))
