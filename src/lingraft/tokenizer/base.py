"""What a folder's tokenizer does, whatever its family: text to ids, ids to text, id to bytes, and how it is extended.

A `Family` reads `tokenizer.json` and knows four things about it: what each id stands for, what strings its model
sees ("units": a text after added tokens, normalizer and pre-tokenizer), how those are segmented, and how tokens are
added so that they are produced. One rule holds in all BPE families: *a new token is produced from any two adjacent
tokens that spell it*, and ranks below every token that was there before. It is SentencePiece's own rule and
tiktoken's; writing the merges of every split gives the same in the merge tables of `tokenizers`, so that the
learner, `tokenizer.json` and `tokenizer.model` agree. Nothing here needs torch or transformers.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import Tokenizer

from lingraft.errors import TokenizerError
from lingraft.splice import Vocabulary
from lingraft.tokenizer.json_format import Data, build_backend, copy_data, library_errors
from lingraft.tokenizer.learnable_text import DigitRule, derive_digit_rule, is_learnable
from lingraft.tokenizer.special_text import SpecialText, remove_special_text, unspellable_name

_ALLOWED = re.compile(rb"[^0-9A-Za-z\x80-\xff]*[A-Za-z\x80-\xff][^0-9]*", re.DOTALL)

_RUN_OF_SPACE = re.compile(r"\s \s|  |^ | $")
_BEFORE_WORD = re.compile(r" (?=\w)")
_STRETCHES = 500_000  # distinct stretches held at a time, about 60 MB


class Family(ABC):
    """A kind of tokenizer, bound to the content of one tokenizer.json; `where` it stands is told in messages."""

    name: ClassVar[str]

    def __init__(self, data: Data, where: object = "the tokenizer") -> None:
        self.data = data
        self.where = where

    def __getstate__(self) -> Data:
        """Leave what is built of the content behind: another process builds it again where it needs it."""
        return {"data": self.data, "where": self.where}

    @staticmethod
    @abstractmethod
    def recognises(data: Data) -> bool:
        """Say whether a tokenizer.json is of this family."""

    @abstractmethod
    def surface_of(self, piece: str) -> bytes:
        """Return the bytes that a piece of the vocabulary adds to a text."""

    @abstractmethod
    def piece_of(self, surface: bytes) -> str:
        """Return how the vocabulary writes a surface: the inverse of `surface_of`."""

    @abstractmethod
    def cut(self, text: str) -> Iterable[str]:
        """Return the strings that the model sees in a text, one after the other; no token crosses their borders."""

    @property
    def chunk_prefix(self) -> str:
        """What to put before a stretch from the middle of a text, so that `cut` sees it as it stands there."""
        return " "

    def units(self, texts: Iterable[str]) -> Counter[str]:
        """Count the distinct strings that the model sees in these texts; memory follows their number.

        Texts are first cut before each single space, where the tokenizer cuts too (`_cuts_at_spaces`; before words
        only where it keeps some spaces), and the distinct stretches are counted; `cut` then sees each of them once.
        Texts with runs of spaces, or with spaces at their ends, go through `cut` whole: regular expressions look ahead
        there, and a dummy prefix joins them. Spellings of special tokens are cut out of the units, so that no token
        is learned from them; other added tokens are cut out of the texts first, as the tokenizer does.
        """
        texts = self.between_added_tokens(texts)
        split = (lambda text: text.split(" ")) if self._cuts_at_spaces else _BEFORE_WORD.split
        units: Counter[str] = Counter()
        stretches: Counter[str] = Counter()
        for text in texts:
            if not self.can_cut_chunks or _RUN_OF_SPACE.search(text):
                units.update(self.cut(text))
                continue
            first, *rest = split(text)
            units.update(self.cut(first))
            stretches.update(rest)
            if len(stretches) > _STRETCHES:
                self._drain(stretches, units)
        self._drain(stretches, units)
        return remove_special_text(self.special_text.as_pieces(self.spelled_piece), units)

    @property
    def can_cut_chunks(self) -> bool:
        """Whether a stretch after `lead` is cut as it is inside of a text."""
        return True

    def between_added_tokens(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield what lies between added tokens that are not special: the model does not see those."""
        contents = {token["content"] for token in self.data.get("added_tokens") or []} - set(
            self.control.values()
        )
        pattern = SpecialText(tuple(sorted(contents)))
        for text in texts:
            yield from pattern.split(text)

    @cached_property
    def _cuts_at_spaces(self) -> bool:
        """Whether no unit goes on over a single space, whatever stands around it. BLOOM's do, between full stops."""
        around = (".", "a", "1", "'", "(", "-", "।", "क", "é", "😀")
        return all(
            [*self.cut(f"{left} {right}")]
            == [*self.cut(left), *self.cut(self.chunk_prefix + right)]
            for left in around
            for right in around
        )

    def _drain(self, stretches: Counter[str], units: Counter[str]) -> None:
        lead = self.chunk_prefix
        for stretch, count in stretches.items():
            for unit in self.cut(lead + stretch):
                units[unit] += count
        stretches.clear()

    @abstractmethod
    def with_tokens(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Return a tokenizer.json with these tokens added, in order, at `ids` (default: from `size` on)."""

    def with_units(self, surfaces: Sequence[bytes]) -> Data:
        """Return a tokenizer.json with whole units added that are looked up as they stand, without merges."""
        del surfaces
        msg = f"whole words cannot be added to a {self.name} tokenizer; choose vocabulary.method: continued"
        raise TokenizerError(msg)

    def without_tokens(self, token_ids: Iterable[int]) -> Data:
        """Return a tokenizer.json without these tokens; the ids of the others stay, with holes."""
        del token_ids
        msg = f"tokens cannot be taken out of a {self.name} tokenizer; choose vocabulary.method: continued"
        raise TokenizerError(msg)

    def allows(self, surface: bytes) -> bool:
        """Say whether a token may be added: one with a letter or a byte beyond ASCII, and without an ASCII digit.

        Digits, ASCII punctuation and white space alone belong to every language: tokens of them would change how the
        base reads numbers and code (with digits allowed, 10,000 Tamil tokens on Llama-2 change 47 of 1,638 English
        documents, without 34, and save 1.6% fewer tokens). Nor may a token hold the spelling of a special token, or
        what `learnable` rules out: soft hyphens, controls, joiners at its edges, digits that the base would split.
        """
        if _ALLOWED.fullmatch(surface) is None:
            return False
        if not is_learnable(surface.decode(errors="ignore"), lambda: self.digit_rule):
            return False
        return not self.special_text.mentions(surface.decode(errors="replace"))

    @cached_property
    def digit_rule(self) -> DigitRule:
        """What this tokenizer does with ASCII digits; digits of other scripts follow it."""
        return derive_digit_rule(self._cut_surfaces)

    def _cut_surfaces(self, texts: Sequence[str]) -> list[list[bytes]]:
        surfaces = self.vocabulary.surfaces
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[surfaces[token_id] or b"" for token_id in encoding.ids] for encoding in encodings]

    @property
    def pieces(self) -> dict[str, int]:
        """The vocabulary of the model: piece to id, without added tokens that stand outside of it."""
        vocab: dict[str, int] = self.data["model"]["vocab"]
        return vocab

    @cached_property
    def special(self) -> dict[int, str]:
        """Id and content of every added token (special ones, and those matched before the model sees the text)."""
        return {token["id"]: token["content"] for token in self.data.get("added_tokens") or []}

    @cached_property
    def control(self) -> dict[int, str]:
        """Id and content of the added tokens that are flagged as special: spelled out in a text, they are text."""
        return {
            token["id"]: token["content"]
            for token in self.data.get("added_tokens") or []
            if token.get("special")
        }

    @cached_property
    def special_text(self) -> SpecialText:
        """The spellings that a text must not turn into control tokens."""
        return SpecialText(tuple(sorted(set(self.control.values()))), bool(self.fallback))

    def spelled_piece(self, content: str) -> str:
        """Return how the model sees the spelling of a special token in a text."""
        return self.piece_of(content.encode())

    @cached_property
    def size(self) -> int:
        """One more than the highest id."""
        return max([*self.pieces.values(), *self.special]) + 1

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each id stands for."""
        surfaces: list[bytes | None] = [None] * self.size
        for piece, token_id in self.pieces.items():
            if token_id not in self.special:
                surfaces[token_id] = self.surface_of(piece)
        return Vocabulary(tuple(surfaces), self.special)

    @cached_property
    def known_surfaces(self) -> frozenset[bytes]:
        """The surfaces that have a piece of their own; a byte that only stands in for a character has none."""
        return frozenset(
            surface
            for token_id, surface in enumerate(self.vocabulary.surfaces)
            if surface and token_id not in self.fallback
        )

    @cached_property
    def backend(self) -> Tokenizer:
        """The `tokenizers` object, without truncation and padding; it reads special tokens in a text as text."""
        return self._built(self.data)

    def _built(self, data: Data) -> Tokenizer:
        backend = build_backend(data, self.where)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend

    @property
    def looks_up_pieces(self) -> bool:
        """Whether the model itself may take a stretch of text for any piece that it spells, without merges."""
        return bool(self.data["model"].get("ignore_merges"))

    @cached_property
    def _without_control(self) -> Tokenizer:
        """The `tokenizers` object in which control pieces have names that no text spells (`mark`)."""
        data = copy_data(self.data)
        data["added_tokens"] = [
            {**token, "content": self.placeholders.get(token["content"], token["content"])}
            for token in data.get("added_tokens") or []
        ]
        self._rename_control(data["model"])
        backend = self._built(data)
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def placeholders(self) -> dict[str, str]:
        """For each special token a name that no text spells, by content: `encode_with_placeholders` reads it as the token."""
        return {
            content: unspellable_name(content, token_id)
            for token_id, content in self.control.items()
        }

    def encode_with_placeholders(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts in which only the names in `marks` are special tokens; spellings are text."""
        backend = self._without_control
        moved = {
            backend.token_to_id(mark): token_id
            for token_id, mark in (
                (token_id, self.placeholders[content]) for token_id, content in self.control.items()
            )
        }
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            [moved.get(token_id, token_id) for token_id in self._ids(encoding)]
            for encoding in encodings
        ]

    def _ids(self, encoding: Any) -> list[int]:
        """Return the ids of an encoding of `_without_control`."""
        return list(encoding.ids)

    def _rename_control(self, model: Data) -> None:
        renamed = {
            piece: mark for piece, mark in self.placeholders.items() if piece in model["vocab"]
        }
        model["vocab"] = {
            renamed.get(piece, piece): token_id for piece, token_id in model["vocab"].items()
        }
        unknown = model.get("unk_token")
        model["unk_token"] = renamed.get(unknown, unknown) if unknown else unknown

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """Return the library's encoding of each text as text, no special tokens added around it."""
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        if not self.looks_up_pieces:
            return list(found)
        spelling = [i for i, text in enumerate(texts) if self.special_text.mentions(text)]
        if spelling:
            again = self._without_control.encode_batch(
                [texts[i] for i in spelling], add_special_tokens=False
            )
            for i, encoding in zip(spelling, again, strict=True):
                found[i] = encoding
        return list(found)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text as text: special tokens that it spells are spelled in pieces."""
        if self.looks_up_pieces and any(self.special_text.mentions(text) for text in texts):
            return [encoding.ids for encoding in self.encodings(texts)]
        return [
            encoding.ids
            for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def encode_markup(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts in which the spelling of a special token is that token, as in a rendered chat."""
        try:
            self.backend.encode_special_tokens = False
            found = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        finally:
            self.backend.encode_special_tokens = True
        return [encoding.ids for encoding in found]

    @cached_property
    def model_only(self) -> Tokenizer:
        """The model alone: no normalizer, no pre-tokenizer, no added tokens. It takes units."""
        return Tokenizer(
            self.backend.model
        )  # the same model, not a copy: 0.02 ms instead of 450 (Qwen2)

    def reuse_model_of(self, other: Family) -> Self:
        """Take over the built model of a family that differs in what stands before its model alone."""
        self.model_only = other.model_only
        return self

    def segment(self, units: Sequence[str]) -> list[list[int]]:
        """Return the ids of each unit under the model's own rules."""
        return [
            encoding.ids
            for encoding in self.model_only.encode_batch_fast(list(units), add_special_tokens=False)
        ]

    @property
    def fallback(self) -> Mapping[int, int]:
        """The byte of each id that stands for one byte of a character without a piece; empty where none is needed."""
        return {}

    def with_added_in_vocabulary(self) -> Data:
        """Return a copy of the data whose added tokens also stand in the model's vocabulary, under their ids.

        `tokenizers` numbers an added token that the model does not hold by the size of the model's vocabulary, not by
        the id in the file: once the vocabulary grows, GPT-2-style specials would move on the next load.
        """
        data = copy_data(self.data)
        for token_id, content in self.special.items():
            data["model"]["vocab"].setdefault(content, token_id)
        return data


@dataclass(frozen=True)
class ModelTokenizer:
    """The tokenizer of a model folder.

    `batch_settings` holds the truncation, padding and dropout of the file, which are switched off; `separator` names
    what stands between documents, as `training.packing.separator` does.
    """

    folder: Path
    family: Family
    config: Mapping[str, Any]
    batch_settings: Mapping[str, Any] = field(default_factory=dict)
    separator: str = "auto"

    @property
    def backend(self) -> Tokenizer:
        """The `tokenizers` object, without truncation and padding."""
        return self.family.backend

    @property
    def vocabulary(self) -> Vocabulary:
        """What each id stands for."""
        return self.family.vocabulary

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return self.family.size

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, read as text (`special_text`); no special tokens are added around it."""
        with library_errors(self.folder):
            return self.family.encode(texts)

    def encode_markup(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, where a special token that is spelled out is that token."""
        with library_errors(self.folder):
            return self.family.encode_markup(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of these ids; special tokens are spelled out."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def _special_id(self, role: str) -> int | None:
        content = self.config.get(f"{role}_token")
        if isinstance(content, dict):
            content = content.get("content")
        by_config = self.backend.token_to_id(content) if content else None
        number = self.config.get("model_config", {}).get(f"{role}_token_id")
        if by_config is None and isinstance(number, list):
            number = number[0] if number else None
        return by_config if by_config is not None else number

    @cached_property
    def bos_id(self) -> int | None:
        """The id that begins a text, where the model has one."""
        return self._special_id("bos")

    @cached_property
    def eos_id(self) -> int | None:
        """The id that ends a text, where the model has one."""
        return self._special_id("eos")

    @cached_property
    def pad_id(self) -> int | None:
        """The id that fills up a batch, where the model has one."""
        return self._special_id("pad")
