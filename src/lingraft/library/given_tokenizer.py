"""A tokenizer as users have it, written to a folder in the form that every stage reads.

A tokenizer object is saved with its own `save_pretrained`. If it still equals what its folder or
its Hub repository holds, those files are read instead: they may say more, such as tokenizer.model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import Tokenizer

from lingraft.advice.diagnose_command import named_tokenizer_folder
from lingraft.bases.tokenizer_files import complete_settings, write_source_tokenizer
from lingraft.errors import TokenizerError, named_errors, one_line
from lingraft.progress import say
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file
from lingraft.tokenizer.loaded_settings import NAMES, load_auto_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenizerLike: TypeAlias = "str | os.PathLike[str] | Tokenizer | PreTrainedTokenizerBase"
"""A tokenizer of transformers or of `tokenizers`, or the name of a folder, file or Hub model."""

BATCH_STATE = ("padding", "truncation")
"""Parts of a backend that every call of a tokenizer may change."""


def write_given_tokenizer(
    tokenizer: TokenizerLike, folder: Path, *, warn: Callable[[str], None]
) -> ModelTokenizer:
    """Write a tokenizer object, a folder or a Hub id to `folder`; return it as lingraft reads it.

    Raises `TokenizerError` for other objects, and for tokenizers that are not supported.
    """
    saved = folder / "saved"
    path = _file_of(tokenizer, saved)
    with named_errors(folder, name_of(tokenizer)), named_errors(saved, name_of(tokenizer)):
        return write_source_tokenizer(path, folder, warn=warn)


def open_given_tokenizer(tokenizer: TokenizerLike, folder: Path) -> ModelTokenizer:
    """Open a tokenizer to measure or to use it; one in memory may be saved to `folder` first.

    Raises `TokenizerError` for other objects, and for tokenizers that are not supported.
    """
    path = _file_of(tokenizer, folder)
    with named_errors(folder, name_of(tokenizer)):
        return complete_settings(open_tokenizer(path), say)


def save_given_tokenizer(tokenizer: TokenizerLike, folder: Path) -> ModelTokenizer:
    """Save a tokenizer in memory to the folder of its model, with whose configuration it is opened.

    A folder or a Hub id is opened where it is.
    """
    if isinstance(tokenizer, str | os.PathLike):
        return open_given_tokenizer(tokenizer, folder)
    path = _save(_as_object(tokenizer), folder)
    with named_errors(folder, name_of(tokenizer)):
        return complete_settings(open_tokenizer(path), say)


def _file_of(tokenizer: TokenizerLike, folder: Path) -> Path:
    """Return the file of a tokenizer; one in memory that has none is saved to `folder`."""
    if isinstance(tokenizer, str | os.PathLike):
        return tokenizer_file(named_tokenizer_folder(os.fspath(tokenizer)))
    loaded = _as_object(tokenizer)
    return _unchanged_files(loaded) or _save(loaded, folder)


def name_of(tokenizer: TokenizerLike) -> str:
    """Return the name of a tokenizer for messages: its path, its Hub id or its class."""
    if isinstance(tokenizer, str | os.PathLike):
        return os.fspath(tokenizer)
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _as_object(tokenizer: Any) -> PreTrainedTokenizerBase:
    """Return a tokenizer of transformers; raises `TokenizerError` for other objects."""
    import transformers

    if isinstance(tokenizer, Tokenizer):
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        inner = getattr(tokenizer, "tokenizer", None)
        advice = "give AutoTokenizer.from_pretrained(...), or a folder that holds a tokenizer"
        if isinstance(tokenizer, type):
            advice = "give an object, such as AutoTokenizer.from_pretrained(...)"
        if isinstance(inner, transformers.PreTrainedTokenizerBase):
            advice = "give its attribute `tokenizer`"
        msg = f"tokenizer: {_kind_of(tokenizer)} is no tokenizer of transformers; {advice}"
        raise TokenizerError(msg)
    return tokenizer


def _kind_of(tokenizer: Any) -> str:
    is_class = isinstance(tokenizer, type)
    return f"the class {tokenizer.__name__}" if is_class else type(tokenizer).__name__


def _save(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    try:
        tokenizer.save_pretrained(str(folder))
    except Exception as error:  # whatever the class of a user's tokenizer raises
        msg = (
            f"{name_of(tokenizer)}: {type(tokenizer).__name__} cannot be saved "
            f"({one_line(error)}); give a fast tokenizer, or the folder of its files"
        )
        raise TokenizerError(msg) from error
    _save_attributes(tokenizer, folder / "tokenizer_config.json")
    with named_errors(folder, name_of(tokenizer)):
        return tokenizer_file(folder)


def _save_attributes(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Write settings that were changed on the object, which `save_pretrained` leaves out."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {name: getattr(tokenizer, name) for name in NAMES}
    file.write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")


def _unchanged_files(tokenizer: PreTrainedTokenizerBase) -> Path | None:
    """Return the file that the tokenizer was loaded from, `None` if it differs from it by now."""
    folder = _folder_of(str(tokenizer.name_or_path or ""))
    if folder is None:
        return None
    try:
        file = tokenizer_file(folder)
        again = load_auto_tokenizer(folder)
    except Exception:  # noqa: BLE001 - an incomplete folder: the object itself is saved
        return None
    return file if _state(again) == _state(tokenizer) else None


def _folder_of(name: str) -> Path | None:
    """Return the local folder of a tokenizer's name: a path, or a snapshot in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if not name or Path(name).is_dir():
        return Path(name) if name else None
    try:
        cached = try_to_load_from_cache(name, "tokenizer_config.json")
    except HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _state(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, ...]:
    """Return everything that decides what a tokenizer does and what of it is saved."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    for name in BATCH_STATE if backend is not None else ():
        content.pop(name, None)
    return (
        type(tokenizer),
        content,
        tokenizer.special_tokens_map,
        tokenizer.chat_template,
        [getattr(tokenizer, name) for name in NAMES],
    )
