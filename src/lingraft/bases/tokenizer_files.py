"""Writing a tokenizer into a model folder, and asking whether it fits the model that lies there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lingraft.awkward import awkward_texts, code_texts
from lingraft.bases.folder import read_config
from lingraft.checkpoint.config_files import text_parts
from lingraft.errors import ModelError
from lingraft.families import ModelTokenizer, open_tokenizer
from lingraft.families.conversion_check import checked_conversion
from lingraft.families.loaded_settings import with_loaded_settings
from lingraft.families.saving import saved_config
from lingraft.progress import say

ROLES = ("bos", "eos", "pad", "unk")


def write_tokenizer(tokenizer: ModelTokenizer, folder: Path, *, context: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, so that plain AutoTokenizer gives the same ids."""
    data = json.dumps(tokenizer.family.data, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(data, encoding="utf-8")
    named = {f"{role}_token": tokenizer.config.get(f"{role}_token") for role in ROLES}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
              "clean_up_tokenization_spaces": False, **{role: content for role, content in named.items() if content}}
    text = json.dumps(config, ensure_ascii=False, indent=1)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def complete_tokenizer(folder: Path, *, warn: Callable[[str], None] = say) -> ModelTokenizer:
    """Make sure that a model folder has a tokenizer.json, and that it fits the model.

    Other files are converted, which is checked against the library that reads them. Raises
    `TokenizerError` where there is no tokenizer, or none that can be converted, `ModelError` where
    its ids reach beyond the model's rows.
    """
    tokenizer = open_tokenizer(folder)
    if not (folder / "tokenizer.json").is_file():
        checked_conversion(tokenizer, [*awkward_texts(), *code_texts()], warn)
        tokenizer = with_loaded_settings(tokenizer, warn)
        context = context_of(read_config(folder)) or 1_000_000
        _write_converted(tokenizer, folder, context=context)
    rows = rows_of(read_config(folder))
    if rows is not None and tokenizer.size > rows:
        msg = (f"the tokenizer does not fit the model: its highest id is {tokenizer.size - 1}, while the model has "
               f"{rows} embedding rows (vocab_size in config.json); put the tokenizer that the model was trained with "
               "beside it")
        raise ModelError(msg)
    return tokenizer


def _write_converted(tokenizer: ModelTokenizer, folder: Path, *, context: int) -> None:
    """Write tokenizer.json into the folder that the tokenizer was read from; its settings stay."""
    data = json.dumps(tokenizer.family.data, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(data, encoding="utf-8")
    config = {"model_max_length": context, **saved_config(tokenizer, tokenizer.family.data)}
    text = json.dumps(config, ensure_ascii=False, indent=1)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def rows_of(config: dict[str, Any]) -> int | None:
    """Return the number of embedding rows that a config.json promises."""
    rows = [part["vocab_size"] for part in text_parts(config) if part.get("vocab_size") is not None]
    return int(rows[-1]) if rows else None


def context_of(config: dict[str, Any]) -> int | None:
    """Return the longest input that a config.json promises, in tokens."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    parts = reversed(text_parts(config))
    found = next((part[name] for part in parts for name in names if part.get(name)), None)
    return int(found) if found else None
