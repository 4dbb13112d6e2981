"""SentencePiece BPE: Llama-2, Mistral-7B, Gemma and other vocabularies with "▁" for a space.

The vocabulary holds characters and merges of them. A character without a piece falls back to its
bytes, which never merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import regex

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import BPE, maps_bytes, pre_tokenizers
from lingraft.tokenizer.convert import tokenizer_data
from lingraft.tokenizer.json_format import Data, build_backend, split_step

SPACE = "▁"

# Many of these tokenizers have no pre-tokenizer: the whole text is one string, and only the
# vocabulary keeps words apart. Units are therefore cut where no piece of the vocabulary crosses: a
# run of "▁" begins a unit, and line breaks are units of their own.
UNIT_PATTERN = rf"{SPACE}+[^{SPACE}\n]*|[^{SPACE}\n]+|\n+"

_PREFIXES = ("", " ", SPACE)
_UNIT = regex.compile(UNIT_PATTERN)
_BYTE = regex.compile(r"<0x([0-9A-F]{2})>")


class SpaceMarked(Family):
    """A vocabulary with "▁" for a space: the common part of SentencePiece's BPE and Unigram."""

    def surface_of(self, piece: str) -> bytes:
        """Map "▁" to a space and "<0xNN>" to its byte."""
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()

    def piece_of(self, surface: bytes) -> str:
        """Map spaces to "▁"."""
        return surface.decode().replace(" ", SPACE)

    @cached_property
    def fallback(self) -> dict[int, int]:
        """The byte of each fallback piece, by id."""
        if not self.data["model"].get("byte_fallback"):
            return {}
        byte_of = {}
        for piece, token_id in self.pieces.items():
            byte = _BYTE.fullmatch(piece)
            if byte:
                byte_of[token_id] = int(byte[1], 16)
        return byte_of

    @cached_property
    def chunk_prefix(self) -> str:
        """The text that stands for the space before a word."""
        # A dummy prefix adds the space itself, a tokenizer that strips texts removes a space, and
        # some character maps turn "▁" into a space. So each candidate is tried on a text.
        for prefix in _PREFIXES:
            if self._stands_for_a_space(prefix):
                return prefix
        return ""

    @cached_property
    def can_cut_chunks(self) -> bool:
        """Whether `chunk_prefix` and a chunk give the units that the chunk has inside a text."""
        return self._stands_for_a_space(self.chunk_prefix)

    def _stands_for_a_space(self, prefix: str) -> bool:
        return [*self.cut("x y")] == [*self.cut("x"), *self.cut(f"{prefix}y")]

    def cut(self, text: str) -> Iterable[str]:
        """Return the words, each with the run of spaces before it, and runs of line breaks."""
        if not text:
            return []
        units: list[str] = []
        for part in self._pre_tokens(text):
            # A piece that is looked up whole stays whole: user-defined pieces of SentencePiece may
            # hold any text.
            units += [part] if part in self._looked_up_whole else _UNIT.findall(part)
        return units

    @property
    def _looked_up_whole(self) -> Mapping[str, int]:
        return self.pieces if self.data["model"].get("ignore_merges") else {}

    def allows(self, surface: bytes) -> bool:
        """Whether a token may be added; here also valid UTF-8 and not only white space."""
        if not super().allows(surface):
            return False
        try:
            text = surface.decode()
        except UnicodeDecodeError:
            return False
        return SPACE not in text and not text.isspace()


class SentencePieceBPE(SpaceMarked, BPE):
    """BPE over characters, with "▁" for the space and bytes for unknown characters."""

    name: ClassVar[str] = "SentencePiece BPE"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Whether the model is a BPE without a byte map whose vocabulary writes spaces as "▁"."""
        is_bpe = data["model"].get("type") == "BPE"
        return is_bpe and not maps_bytes(data) and SPACE in data["model"]["vocab"]

    def with_units(self, surfaces: Sequence[bytes]) -> Data:
        """Add whole words, and a pre-tokenizer that splits the text into words."""
        # The split changes no ids of the base as long as no piece of the base crosses a word.
        data = super().with_units(surfaces)
        hidden = [self.piece_of(content.encode()) for content in self.special.values()]
        hidden += [piece for piece, token_id in self.pieces.items() if token_id in self.fallback]
        steps = [
            *pre_tokenizers(data),
            split_step(UNIT_PATTERN),
            *split_names(data["model"], hidden),
        ]
        data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        return data


def split_names(model: Data, names: Sequence[str]) -> list[Data]:
    """Return steps of a pre-tokenizer that split a unit which is the name of a hidden piece.

    A model that looks units up whole (`ignore_merges`) would otherwise read the text "<0x41>" as a
    byte, and "</s>" as the end of a text. The names are split where the model's first token ends
    without that lookup, so that it gives the ids of merges.
    """
    plain = build_backend(tokenizer_data({**model, "ignore_merges": False}))
    rests: dict[str, list[str]] = {}
    for name, encoding in zip(names, plain.encode_batch(list(names)), strict=True):
        end = encoding.offsets[0][1] if encoding.ids else 0
        if 0 < end < len(name):
            rests.setdefault(name[:end], []).append(name[end:])
    spelled = []
    for first, others in rests.items():
        ways = "|".join(map(_escaped, others))
        spelled.append(rf"{_escaped(first)}(?=(?:{ways})\z)")
    return [split_step(rf"\A(?:{'|'.join(spelled)})")] if spelled else []


def _escaped(text: str) -> str:
    return str(regex.escape(text, special_only=True, literal_spaces=True))
