"""Byte-level BPE: GPT-2, Pythia, Phi-2, BLOOM, Qwen, Llama-3, Mistral-Nemo.

Every byte has a piece of its own, written as one printable character, so nothing is unknown. A regular expression
cuts the text into pre-tokens first; no token crosses their borders.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any, ClassVar

from lingraft.families.bpe import BPE
from lingraft.families.content import Data, front_of


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
            part.get("type") == "ByteLevel" for part in pre_tokenizers(data))

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
        return front_of(self.data)


def pre_tokenizers(data: Data) -> list[dict[str, Any]]:
    """Return the pre-tokenizers in order, a sequence taken apart."""
    pre: dict[str, Any] | None = data.get("pre_tokenizer")
    if not pre:
        return []
    return list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]
