"""The settings of a tokenizer that come from its transformers class instead of its files.

An extended tokenizer is saved with the class `PreTrainedTokenizerFast`, which loads tokenizer.json
unchanged. The class of the source (LlamaTokenizer, T5Tokenizer) may pad on another side, clean up
spaces after decoding, or put tokens around a text. The values that AutoTokenizer reports for the
source are therefore written to the result: padding and truncation side, clean-up, maximum length,
and the post-processor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError, one_line
from lingraft.model_code import trust_option
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.model_tokenizer import ModelTokenizer

NAMES = ("padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_max_length")
"""The settings that every tokenizer of transformers has."""

_UNLIMITED = 10**20  # transformers uses 10**30 where no length is known
_TEXT = "x"


@dataclass(frozen=True)
class LoadedSettings:
    """The settings of a folder that AutoTokenizer loaded.

    `values` are settings by their names in tokenizer_config.json. `before` and `after` are the
    special ids that are put around a text. `pair` are those around and between two texts.
    """

    values: dict[str, Any]
    post_processor: Data | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    pair: tuple[int, ...]


def names_tokenizer_class(folder: Path) -> bool:
    """Whether a folder holds a file in which transformers finds the class of its tokenizer."""
    tokenizer_config, model_config = folder / "tokenizer_config.json", folder / "config.json"
    return tokenizer_config.is_file() or model_config.is_file()


def load_auto_tokenizer(folder: Path, *, runs_code: bool = False) -> Any:
    """Load the tokenizer of a local folder with AutoTokenizer; raises whatever transformers raises.

    Code in the folder runs only with `runs_code`, if it was permitted; nobody is asked about it.
    """
    # Imported here: most work with tokenizers needs no transformers, which is slow to import.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        option = trust_option(folder if runs_code else None)
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **option)
    finally:
        logging.set_verbosity(verbosity)


def read_loaded_settings(folder: Path) -> LoadedSettings:
    """Load a folder with AutoTokenizer; raises `TokenizerError` where transformers cannot."""
    try:
        loaded = load_auto_tokenizer(folder)
    except Exception as error:  # errors of many kinds pass through from its readers
        msg = f"{folder}: transformers cannot load its tokenizer ({one_line(error)})"
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
    """Return the ids that the tokenizer puts before and after a text."""
    bare = loaded(_TEXT, add_special_tokens=False)["input_ids"]
    complete = loaded(_TEXT)["input_ids"]
    for start in range(len(complete) - len(bare) + 1):
        end = start + len(bare)
        if complete[start:end] == bare:
            return tuple(complete[:start]), tuple(complete[end:])
    return tuple(complete), ()


def _in_a_pair(loaded: Any) -> tuple[int, ...]:
    """Return the ids that the tokenizer puts around and between two texts."""
    encoded = loaded(_TEXT, _TEXT, return_special_tokens_mask=True)
    return tuple(compress(encoded["input_ids"], encoded["special_tokens_mask"]))


def _flags(loaded: Any, before: Sequence[int], after: Sequence[int]) -> dict[str, bool]:
    """Return `add_bos_token` and `add_eos_token`; empty where the tokenizer ignores them."""
    # llama.cpp reads these flags; PreTrainedTokenizerFast uses the post-processor. Some classes
    # have the flags and do not follow them. Then they would mislead llama.cpp.
    flags: dict[str, bool] = {}
    expected: list[list[int]] = []
    for role in ("bos", "eos"):
        is_added = bool(getattr(loaded, f"add_{role}_token", False))
        flags[f"add_{role}_token"] = is_added
        expected.append([getattr(loaded, f"{role}_token_id")] if is_added else [])
    return flags if expected == [list(before), list(after)] and any(flags.values()) else {}


def with_loaded_settings(tokenizer: ModelTokenizer, warn: Callable[[str], None]) -> ModelTokenizer:
    """Return a tokenizer with the settings that AutoTokenizer reports for its folder.

    A single tokenizer file names no class and keeps its settings. Warns where transformers cannot
    load the folder: only the settings in the files are kept then.
    """
    if not names_tokenizer_class(tokenizer.folder):
        return tokenizer
    try:
        settings = read_loaded_settings(tokenizer.folder)
    except TokenizerError as error:
        warn(f"{error}; only the settings in its files are kept")
        return tokenizer
    return apply_loaded_settings(tokenizer, settings)


def apply_loaded_settings(tokenizer: ModelTokenizer, settings: LoadedSettings) -> ModelTokenizer:
    """Return a tokenizer with the settings and the post-processor of AutoTokenizer."""
    family = tokenizer.family
    config = {**tokenizer.config, **settings.values}
    if settings.post_processor != family.data.get("post_processor"):
        data = {**family.data, "post_processor": settings.post_processor}
        family = type(family)(data, family.where).reuse_model_of(family)
    return replace(tokenizer, family=family, config=config)
