"""Finding the tokenizer of a folder or file, converting it where it has no tokenizer.json, and naming its family."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.added_tokens import TokenFiles, complete_added_tokens
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.convert import from_tiktoken, from_vocab_and_merges
from lingraft.tokenizer.json_format import Data, disable_batch_settings, parse_json
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_bpe import SentencePieceBPE
from lingraft.tokenizer.sentencepiece_model import from_sentencepiece
from lingraft.tokenizer.unigram import Unigram
from lingraft.tokenizer.validate import blame_unreadable_file, check_tokenizer_data

FAMILIES: tuple[type[Family], ...] = (ByteLevel, SentencePieceBPE, Unigram)

_SOURCES = (
    "tokenizer.json",
    "tokenizer.json.gz",
    "vocab.json",
    "*.tiktoken",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model.v*",
)
"""Where a folder keeps its tokenizer, the first that is there wins."""


def family_of(data: Data, where: Path) -> Family:
    """Bind a tokenizer.json's content to its family; raises `TokenizerError` with what was seen."""
    for family in FAMILIES:
        if family.recognises(data):
            return family(data, where)
    known = ", ".join(family.name for family in FAMILIES)
    kind = data["model"].get("type")
    pre = json.dumps(data.get("pre_tokenizer"))[:120]
    msg = f"{where}: a tokenizer of type {kind!r} with the pre-tokenizer {pre} is of no family known here ({known})"
    raise TokenizerError(msg)


def open_tokenizer(path: Path) -> ModelTokenizer:
    """Open the tokenizer of a model folder, or a tokenizer file.

    Reads tokenizer.json (also .gz); a SentencePiece, tiktoken or vocab.json + merges.txt file is converted. Raises
    `TokenizerError` where there is none, or none that is known.
    """
    path = Path(path)
    source = tokenizer_file(path)
    data = _read(source)
    check_tokenizer_data(data, source)
    folder = source.parent
    files = TokenFiles(
        folder,
        config=_json(folder / "tokenizer_config.json"),
        special_map=_json(folder / "special_tokens_map.json"),
        added=_json(folder / "added_tokens.json"),
    )
    settings = {**_roles(data), **files.settings}
    batch_settings = disable_batch_settings(data)
    config = {**settings, "model_config": _json(folder / "config.json")}
    with blame_unreadable_file(data, source):
        complete_added_tokens(data, settings, files, source)
        return ModelTokenizer(folder, family_of(data, source), config, batch_settings)


def tokenizer_file(path: Path) -> Path:
    """Return the file that holds the tokenizer of a folder; raises `TokenizerError` where there is none."""
    if path.is_file():
        return path
    if not path.exists():
        msg = f"{path}: there is no such file or folder; expected a tokenizer.json or a model folder that holds one"
        raise TokenizerError(msg)
    for pattern in _SOURCES:
        found = sorted(path.glob(pattern))
        if found:
            return found[0]
    listing = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
    msg = f"{path}: no tokenizer here; expected one of {', '.join(_SOURCES)}, found {listing}"
    raise TokenizerError(msg)


def _read(source: Path) -> Data:
    readers: tuple[tuple[Callable[[str], bool], Callable[[Path], Data]], ...] = (
        (lambda name: name == "vocab.json", from_vocab_and_merges),
        (lambda name: name.endswith((".json", ".json.gz")), _tokenizer_json),
        (lambda name: name.endswith(".tiktoken"), from_tiktoken),
        (lambda name: ".model" in name, _from_model_file),
    )
    for fits, read in readers:
        if fits(source.name):
            return read(source)
    msg = f"{source}: not a tokenizer file; expected {', '.join(_SOURCES)}"
    raise TokenizerError(msg)


def _tokenizer_json(source: Path) -> Data:
    try:
        raw = source.read_bytes()
        data = parse_json(gzip.decompress(raw) if source.suffix == ".gz" else raw)
    except (ValueError, OSError, EOFError) as error:
        msg = f"{source}: not a readable tokenizer.json ({error})"
        raise TokenizerError(msg) from error
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("model"), dict)
        or "vocab" not in data["model"]
    ):
        msg = f"{source}: not a tokenizer.json; expected an object with model.vocab"
        raise TokenizerError(msg)
    if "type" not in data["model"]:  # files of tokenizers < 0.9 name no type
        data["model"]["type"] = "BPE" if "merges" in data["model"] else "Unigram"
    return data


def _from_model_file(source: Path) -> Data:
    """tokenizer.model is SentencePiece's message, or tiktoken's lines (Llama-3)."""
    return from_tiktoken(source) if is_tiktoken(source) else from_sentencepiece(source)


def is_tiktoken(source: Path) -> bool:
    """Say whether a tokenizer file holds the lines of tiktoken: a token in base64 and its rank."""
    with source.open("rb") as file:
        first_line = file.readline(200)
    return first_line.rstrip().endswith(b" 0") and len(first_line.split()) == 2


def _roles(data: Data) -> dict[str, Any]:
    """What a converted file itself says about its begin, end and padding tokens."""
    roles: dict[str, Any] = data.pop("lingraft_roles", {})
    return roles


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        msg = f"{path}: not readable JSON ({error})"
        raise TokenizerError(msg) from error
    return content if isinstance(content, dict) else {}
