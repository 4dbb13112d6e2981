"""A tokenizer as users have it, written to a folder in the form that every stage reads.

A tokenizer object is saved with its own `save_pretrained`. If it still equals what its folder or
its Hub repository holds, those files are read instead: they may say more, such as tokenizer.model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from lingraft.bases.tokenizer_files import write_source_tokenizer
from lingraft.errors import LingraftError, TokenizerError
from lingraft.library.open_models import TokenizerLike
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file
from lingraft.tokenizer.loaded_settings import NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_STATE = ("padding", "truncation")
"""Parts of a backend that every call of a tokenizer may change."""


def write_given_tokenizer(
    tokenizer: TokenizerLike, folder: Path, *, warn: Callable[[str], None]
) -> ModelTokenizer:
    """Write a tokenizer object, a folder or a Hub id to `folder`; return it as lingraft reads it.

    Raises `TokenizerError` for other objects, and for tokenizers that are not supported.
    """
    path = _path_of(tokenizer)
    if path is None:
        loaded = _as_object(tokenizer)
        path = _unchanged_files(loaded) or _save(loaded, folder / "saved")
    with named_errors(folder, name_of(tokenizer)):
        return write_source_tokenizer(path, folder, warn=warn)


def name_of(tokenizer: TokenizerLike) -> str:
    """Return the name of a tokenizer for messages: its path, its Hub id or its class."""
    if isinstance(tokenizer, str | os.PathLike):
        return os.fspath(tokenizer)
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


@contextmanager
def named_errors(folder: Path, name: str) -> Iterator[None]:
    """Let errors name the tokenizer that the user gave instead of a temporary folder."""
    try:
        yield
    except LingraftError as error:
        error.args = (str(error).replace(str(folder), name),)
        raise


def _path_of(tokenizer: Any) -> Path | None:
    """Return the tokenizer file of an existing path, `None` for an object or a Hub id."""
    if not isinstance(tokenizer, str | os.PathLike):
        return None
    path = Path(tokenizer).expanduser()
    return tokenizer_file(path) if path.exists() else None


def _as_object(tokenizer: Any) -> PreTrainedTokenizerBase:
    """Return a tokenizer of transformers: the one that is given, or the one of a Hub id."""
    import transformers

    if isinstance(tokenizer, str):
        try:
            loaded: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(tokenizer)
        except Exception as error:  # errors of many kinds pass through from its readers
            reason = " ".join(str(error).split())[:200]
            msg = f"{tokenizer}: neither a folder nor a tokenizer of the Hub ({reason})"
            raise TokenizerError(msg) from error
        return loaded
    if isinstance(tokenizer, Tokenizer):
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        inner = getattr(tokenizer, "tokenizer", None)
        advice = "give AutoTokenizer.from_pretrained(...), or a folder that holds a tokenizer"
        if isinstance(inner, transformers.PreTrainedTokenizerBase):
            advice = "give its attribute `tokenizer`"
        msg = f"tokenizer: {type(tokenizer).__name__} is no tokenizer of transformers; {advice}"
        raise TokenizerError(msg)
    return tokenizer


def _save(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    try:
        tokenizer.save_pretrained(str(folder))
    except Exception as error:  # whatever the class of a user's tokenizer raises
        reason = " ".join(str(error).split())[:200]
        msg = (
            f"{name_of(tokenizer)}: {type(tokenizer).__name__} cannot be saved ({reason}); give a "
            "fast tokenizer, or the folder of its files"
        )
        raise TokenizerError(msg) from error
    with named_errors(folder, name_of(tokenizer)):
        return tokenizer_file(folder)


def _unchanged_files(tokenizer: PreTrainedTokenizerBase) -> Path | None:
    """Return the file that the tokenizer was loaded from, `None` if it differs from it by now."""
    from transformers import AutoTokenizer

    folder = _folder_of(str(tokenizer.name_or_path or ""))
    if folder is None:
        return None
    try:
        file = tokenizer_file(folder)
        again = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
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
