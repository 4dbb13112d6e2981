"""The parts of a model folder that checks read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.checkpoint.find_embeddings import EmbeddingNames, embedding_names
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, each part read once.

    A part that is missing or cannot be read raises `LingraftError`.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The settings of config.json."""
        return self._read_json("config.json")

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The settings of the language model in it."""
        return self.config.get("text_config") or self.config

    @cached_property
    def generation_config(self) -> Mapping[str, Any]:
        """The settings of generation_config.json, empty without one."""
        name = "generation_config.json"
        return self._read_json(name) if (self.path / name).is_file() else {}

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The tensors."""
        return Checkpoint.open(self.path)

    @cached_property
    def names(self) -> EmbeddingNames:
        """The names of the matrices of the vocabulary."""
        return embedding_names(self.checkpoint)

    @cached_property
    def tokenizer(self) -> ModelTokenizer:
        """The tokenizer."""
        return open_tokenizer(self.path)

    def _read_json(self, name: str) -> Mapping[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            msg = f"{self.path / name}: cannot be read as JSON ({error})"
            raise ModelError(msg) from error
        if not isinstance(content, dict):
            msg = f"{self.path / name}: not a JSON object with settings"
            raise ModelError(msg)
        return content
