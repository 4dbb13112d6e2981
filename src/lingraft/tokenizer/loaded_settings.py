"""Settings of a tokenizer that its transformers class has, whether or not the files name them.

An extended tokenizer is saved under `PreTrainedTokenizerFast`, which loads tokenizer.json unchanged. The
class of the source (LlamaTokenizer, T5Tokenizer) may pad on another side, clean up spaces after
decoding, or put tokens around a text. What AutoTokenizer says of the source is therefore written out:
padding and truncation side, clean-up, the longest input, and the post-processor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.model_tokenizer import ModelTokenizer

NAMES = ("padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_max_length")
"""The settings that every tokenizer of transformers has."""

_UNLIMITED = 10**20  # transformers writes 10**30 where no length is known
_TEXT = "x"


@dataclass(frozen=True)
class LoadedSettings:
    """What AutoTokenizer makes of a folder.

    `values` are settings by their names in tokenizer_config.json; `before` and `after` are the ids
    that are put around a text, `pair` those of a pair of texts.
    """

    values: dict[str, Any]
    post_processor: Data | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    pair: tuple[int, ...]


def names_tokenizer_class(folder: Path) -> bool:
    """Say whether a folder tells transformers which class its tokenizer has."""
    return any((folder / name).is_file() for name in ("tokenizer_config.json", "config.json"))


def read_loaded_settings(folder: Path) -> LoadedSettings:
    """Load a folder with AutoTokenizer; raises `TokenizerError` where transformers cannot."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # it passes on whatever its readers raise
        reason = " ".join(str(error).split())[:200]
        msg = f"{folder}: transformers cannot load its tokenizer ({reason})"
        raise TokenizerError(msg) from error
    values = {name: getattr(loaded, name) for name in NAMES}
    if values["model_max_length"] > _UNLIMITED:
        del values["model_max_length"]
    before, after = _around(loaded)
    values |= _flags(loaded, before, after)
    backend = getattr(loaded, "backend_tokenizer", None)
    processor = backend.post_processor if backend is not None else None
    state = json.loads(processor.__getstate__()) if processor is not None else None
    return LoadedSettings(values, state, before, after, _in_a_pair(loaded))


def _around(loaded: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that are put before and after a text."""
    bare = loaded(_TEXT, add_special_tokens=False)["input_ids"]
    whole = loaded(_TEXT)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    return tuple(whole), ()


def _in_a_pair(loaded: Any) -> tuple[int, ...]:
    """Return the ids that are put around and between two texts."""
    encoded = loaded(_TEXT, _TEXT, return_special_tokens_mask=True)
    found: list[int] = []
    for token_id, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        if special:
            found.append(token_id)
    return tuple(found)


def _flags(loaded: Any, before: Sequence[int], after: Sequence[int]) -> dict[str, bool]:
    """Return `add_bos_token` and `add_eos_token` where they describe what really happens.

    llama.cpp reads them, PreTrainedTokenizerFast goes by the post-processor. Where a class has the
    flags and does not follow them, they are not written.
    """
    flags: dict[str, bool] = {}
    expected: list[list[int]] = []
    for role in ("bos", "eos"):
        flags[f"add_{role}_token"] = bool(getattr(loaded, f"add_{role}_token", False))
        expected.append([getattr(loaded, f"{role}_token_id")] if flags[f"add_{role}_token"] else [])
    return flags if expected == [list(before), list(after)] and any(flags.values()) else {}


def with_loaded_settings(tokenizer: ModelTokenizer, warn: Callable[[str], None]) -> ModelTokenizer:
    """Return a tokenizer with the settings that AutoTokenizer finds in its folder.

    A bare tokenizer file names no class, and is taken as it is. Warns where transformers cannot
    load the folder, because only what the files name is kept then.
    """
    if not names_tokenizer_class(tokenizer.folder):
        return tokenizer
    try:
        settings = read_loaded_settings(tokenizer.folder)
    except TokenizerError as error:
        warn(f"{error}; only the settings that they name are kept")
        return tokenizer
    return apply_loaded_settings(tokenizer, settings)


def apply_loaded_settings(tokenizer: ModelTokenizer, settings: LoadedSettings) -> ModelTokenizer:
    """Return a tokenizer whose configuration and post-processor say what AutoTokenizer makes of it."""
    family = tokenizer.family
    config = {**tokenizer.config, **settings.values}
    if settings.post_processor != family.data.get("post_processor"):
        data = {**family.data, "post_processor": settings.post_processor}
        family = type(family)(data, family.where).reuse_model_of(family)
    return replace(tokenizer, family=family, config=config)
