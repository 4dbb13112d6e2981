"""How a library reads a tokenizer folder, in one form for lingraft and for transformers.

Claims compare two `Reading`s. At least one of them is always made by transformers: two readings by
lingraft could lack the same tokens, and the comparison would not notice.
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

from lingraft.errors import one_line
from lingraft.model_code import is_permitted
from lingraft.store import temporary_folder
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.added_tokens import FLAGS, content_of
from lingraft.tokenizer.json_format import library_errors
from lingraft.tokenizer.load_tokenizer import tokenizer_file
from lingraft.tokenizer.loaded_settings import load_auto_tokenizer

ROLES = ("bos", "eos", "pad", "unk")

Ids = list[list[int]]


@dataclass(frozen=True)
class Reading:
    """What a library reads from a tokenizer folder.

    Attributes:
        reader: the name of the library.
        vocab: the id of every token, added tokens included.
        flags: the flags of each added token, in the order of `FLAGS`.
        roles: the id of each special role, `None` if the tokenizer has no token for it.
        ids: encodes texts without special tokens around them.
        plain: encodes texts with the special tokens that a plain call adds.
        loaded: the tokenizer object of transformers, `None` for a reading by lingraft.
    """

    reader: str
    vocab: Mapping[str, int]
    flags: Mapping[str, tuple[bool, ...]]
    roles: Mapping[str, int | None]
    ids: Callable[[Sequence[str]], Ids]
    plain: Callable[[Sequence[str]], Ids]
    loaded: Any = None


def read_with_lingraft(tokenizer: ModelTokenizer) -> Reading:
    """Return how lingraft reads a tokenizer."""
    family = tokenizer.family
    flags = {}
    for token in family.data.get("added_tokens") or []:
        flags[token["content"]] = tuple(bool(token.get(name)) for name in FLAGS)
    special = {content: token_id for token_id, content in family.special.items()}
    vocab = {**family.pieces, **special}
    roles = {}
    for role in ROLES:
        content = content_of(tokenizer.config.get(f"{role}_token"))
        roles[role] = vocab.get(content) if content else None

    def plain(texts: Sequence[str]) -> Ids:
        # A plain call of transformers reads special tokens in a text as such; lingraft reads them
        # as text. The flag belongs to the shared backend, so it is always set back.
        backend = tokenizer.backend
        try:
            backend.encode_special_tokens = False
            with library_errors(tokenizer.folder):
                encodings = backend.encode_batch_fast(list(texts), add_special_tokens=True)
        finally:
            backend.encode_special_tokens = True
        return [encoding.ids for encoding in encodings]

    return Reading("lingraft", vocab, flags, roles, tokenizer.encode_markup, plain)


def read_with_transformers(given: Path) -> Reading | str:
    """Return how transformers reads a folder or file, or the reason why it cannot.

    AutoTokenizer is what users call. A compressed tokenizer.json is decompressed for it. A
    vocab.json without a named class is read as GPT-2's.
    """
    source = tokenizer_file(given)
    folder = source.parent
    # Without a named class transformers guesses one, whose ids may not be those of the model.
    if ".model" in source.name and not _names_class(folder):
        return "no tokenizer class is named next to the file"
    try:
        if source.name.endswith(".json.gz"):
            return build_reading(_load_decompressed(source))
        if source.name == "vocab.json" and not (folder / "config.json").is_file():
            from transformers import GPT2Tokenizer

            return build_reading(_disable_padding(GPT2Tokenizer.from_pretrained(folder)))
        return read_folder_with_transformers(folder)
    except Exception as error:  # noqa: BLE001 - any class of any library may be named there
        return f"AutoTokenizer cannot open it: {one_line(error)[:120]}"


def read_folder_with_transformers(folder: Path) -> Reading:
    """Return how transformers reads a folder; raises the errors of AutoTokenizer."""
    return build_reading(_load_once(folder))


def read_file_with_transformers(folder: Path) -> Reading:
    """Return how transformers reads tokenizer.json itself, without the class that is named."""
    from transformers import PreTrainedTokenizerFast

    return build_reading(_disable_padding(PreTrainedTokenizerFast.from_pretrained(folder)))


def build_reading(loaded: Any) -> Reading:
    """Return the reading of a loaded tokenizer of transformers."""
    flags, roles = {}, {}
    for token in loaded.added_tokens_decoder.values():
        flags[token.content] = tuple(bool(getattr(token, name)) for name in FLAGS)
    for role in ROLES:
        named = getattr(loaded, f"{role}_token", None) is not None
        roles[role] = getattr(loaded, f"{role}_token_id") if named else None

    reader = f"transformers {version('transformers')}, {type(loaded).__name__}"

    def ids(texts: Sequence[str]) -> Ids:
        with library_errors(reader):
            encoded: Ids = loaded(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return encoded

    def plain(texts: Sequence[str]) -> Ids:
        with library_errors(reader):
            encoded: Ids = loaded(list(texts), verbose=False)["input_ids"]
        return encoded

    return Reading(reader, loaded.get_vocab(), flags, roles, ids, plain, loaded)


def _load_once(folder: Path) -> Any:
    """Load AutoTokenizer from a folder; the result is cached until a file changes."""
    return _load_cached(folder, _fingerprint(folder), runs_code=is_permitted(folder))


@lru_cache(maxsize=3)  # a run reads three: the source, the result and the trained model
def _load_cached(folder: Path, fingerprint: tuple[object, ...], *, runs_code: bool) -> Any:
    del fingerprint  # only part of the cache key
    return _disable_padding(load_auto_tokenizer(folder, runs_code=runs_code))


def _disable_padding(loaded: Any) -> Any:
    """Disable truncation, padding and dropout, so that ids depend on the text alone."""
    backend = loaded.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    return loaded


def _load_decompressed(source: Path) -> Any:
    """Load a compressed tokenizer.json with the files next to it."""
    with tempfile.TemporaryDirectory(dir=temporary_folder()) as name:
        folder = Path(name)
        (folder / "tokenizer.json").write_bytes(gzip.decompress(source.read_bytes()))
        for path in source.parent.glob("*.json"):
            shutil.copyfile(path, folder / path.name)
        return _load_once(folder)


def _names_class(folder: Path) -> bool:
    """Return whether files name the class of transformers that reads the tokenizer.

    config.json names it by the type of the model as well: T5 folders often name nothing else.
    """
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    for name in ("tokenizer_config.json", "config.json"):
        path = folder / name
        settings = json.loads(path.read_bytes()) if path.is_file() else {}
        if settings.get("tokenizer_class") or TOKENIZER_MAPPING_NAMES.get(
            settings.get("model_type")
        ):
            return True
    return False


def _fingerprint(folder: Path) -> tuple[object, ...]:
    """Return names, sizes and times of the files; it changes if a file of the tokenizer does."""
    stats = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".safetensors":  # weights do not affect a tokenizer
            stat = path.stat()
            stats.append((path.name, stat.st_size, stat.st_mtime_ns))
    return tuple(stats)
