"""The tokenizer of a model folder: its family with the settings of the folder's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lingraft.splice import Vocabulary
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import library_errors


@dataclass(frozen=True)
class ModelTokenizer:
    """The tokenizer of a model folder.

    `config` is tokenizer_config.json with config.json under `model_config`. `batch_settings` holds
    the truncation, padding and dropout of the file, which are disabled. `separator` is the setting
    `training.packing.separator`.
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
        """The bytes of each id."""
        return self.family.vocabulary

    @property
    def size(self) -> int:
        """The highest id plus 1."""
        return self.family.size

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens around it.

        A special token that a text spells is read as text (see `special_text`).
        """
        with library_errors(self.folder):
            return self.family.encode(texts)

    def encode_markup(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, in which the spelling of a special token is that token."""
        with library_errors(self.folder):
            return self.family.encode_markup(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of these ids, with special tokens spelled out."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))

    def _special_id(self, role: str) -> int | None:
        content = self.config.get(f"{role}_token")
        if isinstance(content, dict):
            content = content.get("content")
        token_id = self.backend.token_to_id(content) if content else None
        if token_id is not None:
            return int(token_id)
        number: int | list[int] | None = self.config.get("model_config", {}).get(f"{role}_token_id")
        # Llama-3 lists several EOS ids; the first one is the end of a text.
        if isinstance(number, list):
            return number[0] if number else None
        return number

    @cached_property
    def bos_id(self) -> int | None:
        """The id at the start of a text, where the model has one."""
        return self._special_id("bos")

    @cached_property
    def eos_id(self) -> int | None:
        """The id at the end of a text, where the model has one."""
        return self._special_id("eos")

    @cached_property
    def pad_id(self) -> int | None:
        """The id that fills up a batch, where the model has one."""
        return self._special_id("pad")
