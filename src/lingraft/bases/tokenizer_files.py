"""Write a complete tokenizer into a model folder, and check that it fits the model.

A folder without tokenizer.json gets one from its other files. Whenever a tokenizer is changed, the
original small files of the model are kept in the folder `given` next to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.bases.as_transformers import add_class_settings
from lingraft.bases.folder import SMALL_FILES, read_config
from lingraft.checkpoint.config_files import context_of, text_parts
from lingraft.errors import ModelError, named_errors
from lingraft.progress import say
from lingraft.splice import identity_splice
from lingraft.store import copy_matching, file_digest, write_json
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.conversion_check import check_if_converted
from lingraft.tokenizer.edge_cases import code_texts, edge_case_texts
from lingraft.tokenizer.json_format import BATCH_SETTINGS
from lingraft.tokenizer.loaded_settings import with_loaded_settings
from lingraft.tokenizer.save_tokenizer import (
    batch_settings,
    decoder_of,
    save_tokenizer,
    saved_config,
)

GIVEN = "given"
"""Folder next to a stored model with its original small files, if its tokenizer was changed."""


def write_tokenizer(tokenizer: ModelTokenizer, folder: Path, *, context: int) -> None:
    """Write all files of a tokenizer for a model that reads `context` tokens."""
    config = {
        **tokenizer.config,
        "model_max_length": context,
        # With this entry transformers ignores special_tokens_map.json, whose roles may differ.
        "added_tokens_decoder": {},
    }
    source = replace(tokenizer, config=config)
    data, splice = tokenizer.family.data, identity_splice(tokenizer.size)
    save_tokenizer(source, data, splice, folder)


def complete_tokenizer(folder: Path, *, warn: Callable[[str], None] = say) -> ModelTokenizer:
    """Complete the tokenizer.json of a model folder, and check that it fits the model.

    Other tokenizer files are converted, and the result is checked against the library that reads
    them. Settings that only transformers has, such as tokens that the named class adds, are
    written, and dropout is removed; the original files are then kept in the folder `given`. Raises
    `TokenizerError` if there is no tokenizer or it cannot be converted, and `ModelError` if it has
    more ids than the model has embedding rows.
    """
    tokenizer = open_tokenizer(folder)
    completed = complete_settings(tokenizer, warn)
    is_changed = completed is not tokenizer or "dropout" in tokenizer.batch_settings
    if is_changed or not (folder / "tokenizer.json").is_file():
        _keep_given(folder)
        # Without a stated limit, a length that no text exceeds.
        context = context_of(read_config(folder)) or 1_000_000
        _write_converted(completed, folder, context=context)
    rows = rows_of(read_config(folder))
    if rows is not None and completed.size > rows:
        msg = (
            f"the tokenizer does not fit the model: its highest id is {completed.size - 1}, while "
            f"the model has {rows} embedding rows (vocab_size in config.json); use the tokenizer "
            "that the model was trained with"
        )
        raise ModelError(msg)
    return completed


def tokenizer_digests(path: Path) -> dict[str, str]:
    """Return the digests of a tokenizer file and of the files next to it that describe it."""
    files = {path}
    for pattern in SMALL_FILES:
        files.update(file for file in path.parent.glob(pattern) if file.is_file())
    return {file.relative_to(path.parent).as_posix(): file_digest(file) for file in sorted(files)}


def write_source_tokenizer(
    path: Path, folder: Path, *, warn: Callable[[str], None]
) -> ModelTokenizer:
    """Write a tokenizer without a model, converted if necessary, to `model` in a folder.

    `path` is the tokenizer file. The files as they were given are copied to `given`.
    """
    given, model = folder / GIVEN, folder / "model"
    given.mkdir()
    shutil.copyfile(path, given / path.name)
    copy_matching(path.parent, given, SMALL_FILES)
    with named_errors(given, str(path.parent)):
        tokenizer = complete_settings(open_tokenizer(given / path.name), warn)
    save_tokenizer(tokenizer, tokenizer.family.data, identity_splice(tokenizer.size), model)
    # The extended tokenizer gets a SentencePiece file if the source has one.
    if ".model" in path.name:
        shutil.copyfile(path, model / path.name)
    return tokenizer


def complete_settings(
    tokenizer: ModelTokenizer, warn: Callable[[str], None] = say
) -> ModelTokenizer:
    """Return a tokenizer with the settings that only its class in transformers defines.

    It is the same object if nothing is missing. If it was converted from other files than
    tokenizer.json, the conversion is checked first. Warns of truncation, padding and dropout, which
    are off while lingraft reads texts.
    """
    _warn_of_settings(tokenizer, warn)
    folder = tokenizer.folder
    is_converted = not (folder / "tokenizer.json").is_file()
    if is_converted:
        check_if_converted(tokenizer, [*edge_case_texts(), *code_texts()], warn=warn)
    completed = add_class_settings(tokenizer, folder)
    return with_loaded_settings(completed, warn) if is_converted else completed


def _warn_of_settings(tokenizer: ModelTokenizer, warn: Callable[[str], None]) -> None:
    """Warn of truncation, padding and dropout."""
    # Truncation and padding only shape batches, so the result keeps them. Dropout makes ids random.
    found = tokenizer.batch_settings
    kept = " and ".join(name for name in BATCH_SETTINGS if name in found)
    if kept:
        warn(
            f"tokenizer.json sets {kept}: off while lingraft learns, counts and checks, and in the "
            "result as in the source"
        )
    if "dropout" in found:
        warn(
            f"tokenizer.json sets dropout {found['dropout']}, with which the ids of a text are "
            "random: off while lingraft learns, counts and checks, and removed from the result"
        )


def given_folder(model: Path) -> Path:
    """Return the folder with the original tokenizer files of a stored model."""
    given = model.with_name(GIVEN)
    return given if given.is_dir() else model


def _keep_given(folder: Path) -> None:
    """Copy the small files of a model before its tokenizer is changed."""
    given = folder.with_name(GIVEN)
    given.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and path.suffix != ".safetensors":
            shutil.copyfile(path, given / path.name)


def _write_converted(tokenizer: ModelTokenizer, folder: Path, *, context: int) -> None:
    """Write tokenizer.json into the folder of the tokenizer; its other settings stay."""
    content = {**tokenizer.family.data, **batch_settings(tokenizer)}
    text = json.dumps(content, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = {"model_max_length": context, **saved_config(tokenizer, tokenizer.family.data)}
    # With this entry transformers ignores added_tokens.json and special_tokens_map.json, whose
    # content is part of tokenizer.json by now.
    config["added_tokens_decoder"] = decoder_of(tokenizer.family.data)
    write_json(folder / "tokenizer_config.json", config)


def rows_of(config: dict[str, Any]) -> int | None:
    """Return the number of embedding rows that a config.json states."""
    # The innermost part is the language model; outer ones are of a multimodal model.
    for part in reversed(text_parts(config)):
        if part.get("vocab_size") is not None:
            return int(part["vocab_size"])
    return None
