"""Reading the tokenizer of a model folder: finding its file, converting it, choosing its family."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import lru_cache
from pathlib import Path

from lingraft.errors import TokenizerError
from lingraft.tokenizer.added_tokens import TokenFiles, complete_added_tokens
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.convert import from_tiktoken, from_vocab_and_merges
from lingraft.tokenizer.file_names import VOCABULARY_FILES
from lingraft.tokenizer.json_format import Data, disable_batch_settings, parse_json, read_object
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_bpe import SentencePieceBPE
from lingraft.tokenizer.sentencepiece_model import from_sentencepiece
from lingraft.tokenizer.unigram import Unigram
from lingraft.tokenizer.validate import check_tokenizer_data, errors_of_damaged_files

FAMILIES: tuple[type[Family], ...] = (ByteLevel, SentencePieceBPE, Unigram)
_READ_WITH_IT = (
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)


def family_of(data: Data, where: Path) -> Family:
    """Return the family of a tokenizer.json; raises `TokenizerError` where it is not supported."""
    for family in FAMILIES:
        if family.recognises(data):
            return family(data, where)
    known = ", ".join(family.name for family in FAMILIES)
    kind = data["model"].get("type")
    pre_tokenizer = json.dumps(data.get("pre_tokenizer"))[:120]
    msg = (
        f"{where}: a tokenizer of type {kind!r} with the pre-tokenizer {pre_tokenizer} is not "
        f"supported; choose a base with another tokenizer ({known})"
    )
    raise TokenizerError(msg)


def open_tokenizer(path: Path) -> ModelTokenizer:
    """Open the tokenizer of a model folder, or a tokenizer file.

    Reads tokenizer.json (also .gz), and converts SentencePiece, tiktoken and vocab.json with
    merges.txt. Raises `TokenizerError` where there is none, or none that is supported. Files whose
    content has not changed give the same object again, so that nothing may change it.
    """
    source = tokenizer_file(Path(path))
    files = (source, *map(source.with_name, _READ_WITH_IT))
    return _open(source, tuple(map(_digest, files)))


def _digest(file: Path) -> bytes | None:
    """Return the digest of a file, or `None` if it is missing or unreadable.

    `_open` reads the file, too, and says so where it matters.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").digest()
    except OSError:
        return None


# A run opens its source and its extended tokenizer 25 times: 20 s with the 152,000 ids of Qwen2.
@lru_cache(maxsize=2)
def _open(source: Path, _content: tuple[bytes | None, ...]) -> ModelTokenizer:
    """Open a tokenizer file with the settings next to it."""
    data = _read(source)
    check_tokenizer_data(data, source)
    folder = source.parent
    files = TokenFiles(
        folder,
        config=read_object(folder / "tokenizer_config.json"),
        special_map=read_object(folder / "special_tokens_map.json"),
        added=read_object(folder / "added_tokens.json"),
    )
    # A converted file brings its own roles, which the folder's files override.
    settings = {**data.pop("lingraft_roles", {}), **files.settings}
    batch_settings = disable_batch_settings(data)
    config = {**settings, "model_config": read_object(folder / "config.json")}
    with errors_of_damaged_files(data, source):
        complete_added_tokens(data, settings, files, source)
        return ModelTokenizer(folder, family_of(data, source), config, batch_settings)


def tokenizer_file(path: Path) -> Path:
    """Return the tokenizer file of a folder; raises `TokenizerError` where there is none."""
    if path.is_file():
        return path
    if not path.exists():
        msg = (
            f"{path}: there is no such file or folder; expected a tokenizer.json or a model folder "
            "that holds one"
        )
        raise TokenizerError(msg)
    for pattern in VOCABULARY_FILES:
        for file in sorted(path.glob(pattern)):
            return file
    listing = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
    msg = (
        f"{path}: no tokenizer here; expected one of {', '.join(VOCABULARY_FILES)}, found {listing}"
    )
    raise TokenizerError(msg)


def _read(source: Path) -> Data:
    """Read or convert a tokenizer file, by its name."""
    name = source.name
    if name == "vocab.json":
        return from_vocab_and_merges(source)
    if name.endswith((".json", ".json.gz")):
        return _read_tokenizer_json(source)
    # Llama-3 stores tiktoken ranks as tokenizer.model, the name of SentencePiece's files.
    if name.endswith(".tiktoken") or (".model" in name and is_tiktoken(source)):
        return from_tiktoken(source)
    if ".model" in name:
        return from_sentencepiece(source)
    msg = f"{source}: not a tokenizer file; expected {', '.join(VOCABULARY_FILES)}"
    raise TokenizerError(msg)


def _read_tokenizer_json(source: Path) -> Data:
    try:
        raw = source.read_bytes()
        data = parse_json(gzip.decompress(raw) if source.suffix == ".gz" else raw)
    except (ValueError, OSError, EOFError) as error:
        msg = f"{source}: not a readable tokenizer.json ({error})"
        raise TokenizerError(msg) from error
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(model, dict) or "vocab" not in model:
        msg = f"{source}: not a tokenizer.json; expected an object with model.vocab"
        raise TokenizerError(msg)
    if "type" not in model:  # files of tokenizers < 0.9
        model["type"] = "BPE" if "merges" in model else "Unigram"
    return data


def is_tiktoken(source: Path) -> bool:
    """Whether a tokenizer file holds the lines of tiktoken: a token in base64 and its rank."""
    with source.open("rb") as file:
        first_line = file.readline(200)
    return first_line.rstrip().endswith(b" 0") and len(first_line.split()) == 2
