"""SentencePiece BPE: Llama-2, Mistral-7B, Gemma, and others with "▁" for a space.

The vocabulary holds characters and what grows from them; a character without a piece falls back to bytes, which never
merge. There is often no pre-tokenizer at all: the whole text is one string, and only the vocabulary keeps words
apart. Units are therefore cut where no piece of the vocabulary crosses: before a run of "▁", and around line breaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import regex

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import BPE, pre_tokenizers
from lingraft.tokenizer.json_format import Data, build_preprocessing

SPACE = "▁"
UNIT_PATTERN = rf"{SPACE}+[^{SPACE}\n]*|[^{SPACE}\n]+|\n+"
"""Where no piece of such a vocabulary crosses: a run of "▁" opens a unit, line breaks stand alone."""

_LEADS = ("", " ", SPACE)
_UNIT = regex.compile(UNIT_PATTERN)
_BYTE = regex.compile(r"<0x([0-9A-F]{2})>")


class SpaceMarked(Family):
    """A vocabulary that writes a space as "▁": what SentencePiece's BPE and Unigram share."""

    def surface_of(self, piece: str) -> bytes:
        """Turn "▁" into a space and "<0xNN>" into its byte."""
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()

    def piece_of(self, surface: bytes) -> str:
        """Turn spaces into "▁"."""
        return surface.decode().replace(" ", SPACE)

    @cached_property
    def fallback(self) -> dict[int, int]:
        """The byte of each fallback piece, by id."""
        if not self.data["model"].get("byte_fallback"):
            return {}
        found = ((token_id, _BYTE.fullmatch(piece)) for piece, token_id in self.pieces.items())
        return {token_id: int(byte[1], 16) for token_id, byte in found if byte}

    @cached_property
    def chunk_prefix(self) -> str:
        """What stands for the space before a word: nothing where the tokenizer puts one there itself.

        A space is taken away by a tokenizer that strips texts, and "▁" is made a space by some
        character maps. Where none of the three gives the word as it stands in a text, texts are cut
        whole (`can_cut_chunks`).
        """
        return next((lead for lead in _LEADS if self._stands_for_a_space(lead)), "")

    @cached_property
    def can_cut_chunks(self) -> bool:
        """Whether a stretch after `lead` is cut as it is inside of a text."""
        return self._stands_for_a_space(self.chunk_prefix)

    def _stands_for_a_space(self, lead: str) -> bool:
        return [*self.cut("x y")] == [*self.cut("x"), *self.cut(f"{lead}y")]

    def cut(self, text: str) -> Iterable[str]:
        """Return the words, each with the run of spaces before it, and line breaks apart."""
        if not text:
            return []
        normalizer, pre_tokenizer = self._front
        seen = normalizer.normalize_str(text) if normalizer else text
        parts = (
            [part for part, _ in pre_tokenizer.pre_tokenize_str(seen)] if pre_tokenizer else [seen]
        )
        units: list[str] = []
        for part in parts:
            # a piece that is looked up whole stays whole: SentencePiece's user-defined pieces may hold any text
            units += [part] if part in self._looked_up_whole else _UNIT.findall(part)
        return units

    @property
    def _looked_up_whole(self) -> Mapping[str, int]:
        return self.pieces if self.data["model"].get("ignore_merges") else {}

    @cached_property
    def _front(self) -> tuple[Any, Any]:
        return build_preprocessing(self.data)

    def allows(self, surface: bytes) -> bool:
        """Leave out, beside digits and ASCII punctuation alone, what the vocabulary cannot write: torn characters."""
        if not super().allows(surface):
            return False
        try:
            text = surface.decode()
        except UnicodeDecodeError:
            return False
        return SPACE not in text and not text.isspace()


class SentencePieceBPE(SpaceMarked, BPE):
    """BPE over characters, with "▁" for the space and bytes for what is unknown."""

    name: ClassVar[str] = "SentencePiece BPE"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Say whether the model is a BPE without a byte map whose vocabulary writes spaces as "▁"."""
        byte_level = any(part.get("type") == "ByteLevel" for part in pre_tokenizers(data))
        return (
            data["model"].get("type") == "BPE"
            and not byte_level
            and SPACE in data["model"]["vocab"]
        )

    @cached_property
    def crossing(self) -> list[str]:
        """Pieces of the base that cross the borders of units; where there are some, unit counts are approximate."""
        return [
            piece
            for piece, token_id in self.pieces.items()
            if token_id not in self.special and len(_UNIT.findall(piece)) > 1
        ]

    def with_units(self, surfaces: Sequence[bytes]) -> Data:
        """Add whole words; the text is cut into words first, which changes nothing where no piece crosses them."""
        data = super().with_units(surfaces)
        split = {
            "type": "Split",
            "pattern": {"Regex": UNIT_PATTERN},
            "behavior": "Isolated",
            "invert": False,
        }
        data["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [*pre_tokenizers(data), split],
        }
        return data
