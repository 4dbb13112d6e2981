"""The content of a tokenizer.json: parsing, copying, and building `tokenizers` objects."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lingraft.errors import TokenizerError, one_line

Data = dict[str, Any]
"""The content of a tokenizer.json."""

# Real files nest about 10 levels deep. Python, `tokenizers` and transformers each stop at another
# depth above this limit, most of them with a traceback.
DEPTH = 100

BATCH_SETTINGS = ("truncation", "padding")
"""Settings for batches. They are disabled while lingraft encodes, and saved with the target."""

_BEFORE_THE_MODEL = ("normalizer", "pre_tokenizer", "post_processor", "truncation", "padding")


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON; raises `ValueError` where it is not JSON, or nested more than `DEPTH` deep.

    >>> parse_json("[" * 101 + "]" * 101)
    Traceback (most recent call last):
    ValueError: nested more than 100 levels deep
    >>> parse_json("null") is None
    True
    """
    too_deep = f"nested more than {DEPTH} levels deep"
    try:
        content = json.loads(raw)
    except RecursionError:
        raise ValueError(too_deep) from None
    waiting = [(content, 1)] if isinstance(content, dict | list) else []
    while waiting:
        part, depth = waiting.pop()
        if depth > DEPTH:
            raise ValueError(too_deep)
        entries = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in entries:
            # Vocabulary and merges are long, and `tokenizers` checks them itself.
            if isinstance(value, dict | list) and key not in {"vocab", "merges"}:
                waiting.append((value, depth + 1))
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is no file or no object.

    Raises `TokenizerError` where the file is not JSON.
    """
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        msg = f"{path}: not readable JSON ({error}); fetch or save it again"
        raise TokenizerError(msg) from error
    return content if isinstance(content, dict) else {}


def disable_batch_settings(data: Data) -> Data:
    """Remove truncation, padding and dropout from a tokenizer.json; return the removed settings."""
    # With them, the ids of a text would be cut off, filled up or random.
    removed: Data = {}
    for name in BATCH_SETTINGS:
        if data.get(name):
            removed[name] = data[name]
            data[name] = None
    if data["model"].get("dropout"):
        removed["dropout"] = data["model"]["dropout"]
        data["model"]["dropout"] = None
    return removed


def copy_data(data: Data) -> Data:
    """Return a copy whose vocabulary and merges may grow; their entries are shared."""
    # `copy.deepcopy` would copy every merge, and leave as many lists for the garbage collector.
    rest = dict(data)
    model = rest.pop("model")
    tables = {name: copy.copy(value) for name, value in model.items()}
    return {**copy.deepcopy(rest), "model": tables}


def build_backend(data: Data, where: object = "the tokenizer") -> Tokenizer:
    """Build the `tokenizers` object; raises `TokenizerError` where the library refuses the data."""
    with library_errors(where):
        return Tokenizer.from_str(json.dumps(data, ensure_ascii=False))


def merges_of(data: Data) -> list[tuple[str, str]]:
    """Return the merges in the order of their ranks; none for a model without merges."""
    merges = []
    for merge in data["model"].get("merges") or ():
        # Files of older versions of `tokenizers` store a merge as a string instead of a pair.
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        merges.append((left, right))
    return merges


def split_step(expression: str, behavior: str = "Isolated") -> Data:
    """Return a step of a pre-tokenizer that splits text by a regular expression."""
    pattern = {"Regex": expression}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


@contextmanager
def library_errors(where: object) -> Iterator[None]:
    """Raise errors of `tokenizers` as `TokenizerError`, with the reason in one line."""
    try:
        yield
    except BaseException as error:
        # The library raises bare `Exception`, and panics of Rust, which are no `Exception` at all.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        msg = f"{where}: tokenizers cannot use it ({one_line(error)}); fetch or save it again"
        raise TokenizerError(msg) from error


def build_model_only(data: Data) -> Tokenizer:
    """Build the model without normalizer, pre-tokenizer and added tokens; it takes units."""
    empty = dict.fromkeys(_BEFORE_THE_MODEL)
    return build_backend({**data, **empty, "added_tokens": []})


def build_preprocessing(data: Data) -> tuple[Any, Any]:
    """Return the normalizer and the pre-tokenizer (each may be `None`)."""
    # An empty model: to build a real one takes half a second.
    model = {"type": "BPE", "vocab": {}, "merges": []}
    backend = build_backend({**data, "model": model, "added_tokens": [], "post_processor": None})
    return backend.normalizer, backend.pre_tokenizer


def compact_ids(data: Data) -> tuple[Data, dict[int, int]]:
    """Return the data with ids from 0 on without gaps, in the same order, and each id's new id.

    >>> data = {"model": {"vocab": {"a": 0, "c": 2}}, "added_tokens": [{"id": 2, "content": "c"}]}
    >>> compact_ids(data)[0]["model"]["vocab"], compact_ids(data)[1]
    ({'a': 0, 'c': 1}, {0: 0, 2: 1})
    """
    data = copy_data(data)
    vocab = data["model"]["vocab"]
    used = set(vocab.values())
    for token in data["added_tokens"]:
        used.add(token["id"])
    new_ids = {token_id: i for i, token_id in enumerate(sorted(used))}
    for piece, token_id in vocab.items():
        vocab[piece] = new_ids[token_id]
    for token in data["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    post_processor = data.get("post_processor") or {}
    for part in (post_processor, *post_processor.get("processors", ())):
        for special in (part.get("special_tokens") or {}).values():
            special["ids"] = [new_ids[token_id] for token_id in special["ids"]]
        for role in {"sep", "cls"} & part.keys():  # of RobertaProcessing and BertProcessing
            content, token_id = part[role]
            part[role] = [content, new_ids[token_id]]
    return data, new_ids
