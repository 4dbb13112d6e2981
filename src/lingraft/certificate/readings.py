"""A tokenizer folder as a library reads it, in one form: ours, or that of transformers.

Claims compare two `Reading`s. One of the two is always made by transformers; a comparison of our
reading with our reading would say nothing about what both leave out.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingraft.model_code import as_permitted, permitted
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.added_tokens import FLAGS, content_of
from lingraft.tokenizer.load_tokenizer import tokenizer_file

ROLES = ("bos", "eos", "pad", "unk")

Ids = list[list[int]]


@dataclass(frozen=True)
class Reading:
    """What a library makes of a tokenizer folder.

    `vocab` is every token with its id, added ones included; `flags` are those of added tokens in
    the order of `FLAGS`; `roles` the ids that the tokenizer itself names, `None` where it names
    none. `ids` reads texts without, `plain` with the tokens that a plain call puts around them.
    """

    reader: str
    vocab: Mapping[str, int]
    flags: Mapping[str, tuple[bool, ...]]
    roles: Mapping[str, int | None]
    ids: Callable[[Sequence[str]], Ids]
    plain: Callable[[Sequence[str]], Ids]
    loaded: Any = None  # the tokenizer of transformers


def our_reading(tokenizer: ModelTokenizer) -> Reading:
    """Return how lingraft reads a tokenizer."""
    family = tokenizer.family
    tokens = family.data.get("added_tokens") or []
    flags = {}
    for token in tokens:
        flags[token["content"]] = tuple(bool(token.get(name)) for name in FLAGS)
    special = {content: token_id for token_id, content in family.special.items()}
    vocab = {**family.pieces, **special}
    roles = {}
    for role in ROLES:
        content = content_of(tokenizer.config.get(f"{role}_token"))
        roles[role] = vocab.get(content) if content else None

    def plain(texts: Sequence[str]) -> Ids:
        backend = tokenizer.backend
        try:
            backend.encode_special_tokens = False
            encodings = backend.encode_batch_fast(list(texts), add_special_tokens=True)
        finally:
            backend.encode_special_tokens = True
        return [encoding.ids for encoding in encodings]

    return Reading("lingraft", vocab, flags, roles, tokenizer.encode_markup, plain)


def their_reading(given: Path) -> Reading | str:
    """Return how transformers reads a folder or file, or the reason why it cannot.

    AutoTokenizer reads what `from_pretrained` of a user reads. A packed tokenizer.json is unpacked
    for it, and a vocab.json of no named class is GPT-2's. A lone SentencePiece file of no named
    class is not given to it: transformers guesses a class then, whose ids are not the model's.
    """
    source = tokenizer_file(given)
    folder = source.parent
    if ".model" in source.name and not _names_class(folder):
        return "no tokenizer class is named next to the file"
    try:
        if source.name.endswith(".json.gz"):
            return reading_of(_unpacked(source))
        if source.name == "vocab.json" and not (folder / "config.json").is_file():
            from transformers import GPT2Tokenizer

            return reading_of(_plain(GPT2Tokenizer.from_pretrained(folder)))
        return in_transformers(folder)
    except Exception as error:  # noqa: BLE001 - any class of any library may be named there
        return f"AutoTokenizer cannot open it: {' '.join(str(error).split())[:120]}"


def in_transformers(folder: Path) -> Reading:
    """Return how transformers reads a folder; raises whatever AutoTokenizer raises."""
    return reading_of(auto_tokenizer(folder))


def reading_of(loaded: Any) -> Reading:
    """Return the reading of a tokenizer of transformers."""
    flags, roles = {}, {}
    for token in loaded.added_tokens_decoder.values():
        flags[token.content] = tuple(bool(getattr(token, name)) for name in FLAGS)
    for role in ROLES:
        named = getattr(loaded, f"{role}_token", None) is not None
        roles[role] = getattr(loaded, f"{role}_token_id") if named else None

    def ids(texts: Sequence[str]) -> Ids:
        found: Ids = loaded(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def plain(texts: Sequence[str]) -> Ids:
        found: Ids = loaded(list(texts), verbose=False)["input_ids"]
        return found

    reader = f"transformers {version('transformers')}, {type(loaded).__name__}"
    return Reading(reader, loaded.get_vocab(), flags, roles, ids, plain, loaded)


def auto_tokenizer(folder: Path) -> Any:
    """Return AutoTokenizer of a folder, kept for as long as its files stay what they are."""
    return _loaded(str(folder), _stamp(folder), runs_code=permitted(folder))


@lru_cache(maxsize=3)  # the source, the result and the trained model of one run
def _loaded(folder: str, stamp: tuple[object, ...], *, runs_code: bool) -> Any:
    del stamp, runs_code  # parts of the key of the cache
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded = AutoTokenizer.from_pretrained(folder, **as_permitted(Path(folder)))
    finally:
        logging.set_verbosity(verbosity)
    return _plain(loaded)


def _plain(loaded: Any) -> Any:
    """Switch off what makes ids of a text depend on more than the text."""
    backend = loaded.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    return loaded


def _unpacked(source: Path) -> Any:
    """Load a packed tokenizer.json with the files next to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer.json").write_bytes(gzip.decompress(source.read_bytes()))
        for path in source.parent.glob("*.json"):
            shutil.copyfile(path, folder / path.name)
        return auto_tokenizer(folder)


def _names_class(folder: Path) -> bool:
    """Say whether a file says which class of transformers reads the tokenizer."""
    for name in ("tokenizer_config.json", "config.json"):
        path = folder / name
        if path.is_file() and json.loads(path.read_bytes()).get("tokenizer_class"):
            return True
    return False


def _stamp(folder: Path) -> tuple[object, ...]:
    """Return what changes when a file of a tokenizer does."""
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".safetensors"]
    stats = []
    for path in sorted(files):
        stat = path.stat()
        stats.append((path.name, stat.st_size, stat.st_mtime_ns))
    return tuple(stats)
