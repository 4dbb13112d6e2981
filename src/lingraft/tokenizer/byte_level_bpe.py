"""What byte-level and SentencePiece BPE share: adding tokens with merges, adding whole units, taking tokens out.

Byte-level BPE: GPT-2, Pythia, Phi-2, BLOOM, Qwen, Llama-3, Mistral-Nemo.

Every byte has a piece of its own, written as one printable character, so nothing is unknown. A regular expression
cuts the text into pre-tokens first; no token crosses their borders.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import Data, build_preprocessing


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
        return {
            piece
            for piece, token_id in self.pieces.items()
            if token_id not in self.special and token_id not in self.fallback
        }

    def with_tokens(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
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

    def without_tokens(self, token_ids: Iterable[int]) -> Data:
        """Take tokens out, with every merge that makes or uses them; the ids of the others stay, with holes."""
        dropped = set(token_ids)
        gone = {piece for piece, token_id in self.pieces.items() if token_id in dropped}
        data = self.with_added_in_vocabulary()
        model = data["model"]
        model["vocab"] = {
            piece: token_id for piece, token_id in model["vocab"].items() if piece not in gone
        }
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
        model["merges"] += [
            f"{left} {right}" if as_text else [left, right] for left, right in merges
        ]


@cache
def byte_characters() -> tuple[str, ...]:
    """Return the character that stands for each byte (GPT-2's table: printable bytes for themselves, others from 256).

    >>> byte_characters()[ord(" ")], byte_characters()[ord("a")]
    ('Ġ', 'a')
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(spare)) for byte in range(256))


@cache
def _byte_of() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


class ByteLevel(BPE):
    """BPE over bytes."""

    name: ClassVar[str] = "byte-level BPE"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Say whether the model is a BPE whose pre-tokenizer maps bytes."""
        return data["model"].get("type") == "BPE" and any(
            part.get("type") == "ByteLevel" for part in pre_tokenizers(data)
        )

    def surface_of(self, piece: str) -> bytes:
        """Map each character back to its byte; a piece with other characters stands for its own text."""
        table = _byte_of()
        try:
            return bytes(table[character] for character in piece)
        except KeyError:
            return piece.encode()

    def piece_of(self, surface: bytes) -> str:
        """Map each byte to its character."""
        table = byte_characters()
        return "".join(table[byte] for byte in surface)

    def cut(self, text: str) -> Iterable[str]:
        """Return the pre-tokens, each byte written as its character."""
        normalizer, pre_tokenizer = self._front
        seen = normalizer.normalize_str(text) if normalizer else text
        return [unit for unit, _ in pre_tokenizer.pre_tokenize_str(seen)]

    @cached_property
    def _front(self) -> tuple[Any, Any]:
        return build_preprocessing(self.data)


def pre_tokenizers(data: Data) -> list[dict[str, Any]]:
    """Return the pre-tokenizers in order, a sequence taken apart."""
    pre: dict[str, Any] | None = data.get("pre_tokenizer")
    if not pre:
        return []
    return list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]
