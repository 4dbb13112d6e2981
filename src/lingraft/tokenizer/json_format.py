"""The content of a tokenizer.json, and the `tokenizers` objects that are built of it.

Closing the holes that pruning leaves: ids close up, in their order.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import Tokenizer

from lingraft.errors import TokenizerError

Data = dict[str, Any]
"""The content of a tokenizer.json."""


DEPTH = 100
"""How deeply real files nest: about 10 levels. Python, `tokenizers` and transformers each stop at
another depth above this one, most of them with a traceback."""


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON; raises `ValueError` where it is not JSON, or nested more than `DEPTH` deep.

    The vocabulary and the merges of a tokenizer.json are not looked into: `tokenizers` does that.

    >>> parse_json("[" * 101 + "]" * 101)
    Traceback (most recent call last):
    ValueError: nested more than 100 levels deep
    """
    too_deep = f"nested more than {DEPTH} levels deep"
    try:
        content = json.loads(raw)
    except RecursionError:
        raise ValueError(too_deep) from None
    waiting = [(content, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEPTH:
            raise ValueError(too_deep)
        if isinstance(part, dict):
            inner = [value for key, value in part.items() if key not in {"vocab", "merges"}]
        else:
            inner = part
        waiting += [(value, depth + 1) for value in inner if isinstance(value, dict | list)]
    return content


BATCH_SETTINGS = ("truncation", "padding")
"""How a batch is shaped: off while we learn, count and check, and in the result as in the source."""


def disable_batch_settings(data: Data) -> Data:
    """Take truncation, padding and dropout out of a tokenizer.json; return those that it had.

    With them the ids of a text would be cut off, filled up or random.
    """
    found: Data = {name: data[name] for name in BATCH_SETTINGS if data.get(name)}
    for name in found:
        data[name] = None
    if data["model"].get("dropout"):
        found["dropout"] = data["model"]["dropout"]
        data["model"]["dropout"] = None
    return found


def copy_data(data: Data) -> Data:
    """Return a copy whose tables may grow; the entries of the tables, which nothing changes, are shared.

    `copy.deepcopy` walks every merge, and leaves as many lists for the garbage collector to walk again.
    """
    tables = {name: copy.copy(value) for name, value in data["model"].items()}
    return {
        **copy.deepcopy({name: value for name, value in data.items() if name != "model"}),
        "model": tables,
    }


def build_backend(data: Data, where: object = "the tokenizer") -> Tokenizer:
    """Build the tokenizer of a tokenizer.json's content; raises `TokenizerError` where `tokenizers` refuses it."""
    with library_errors(where):
        return Tokenizer.from_str(json.dumps(data, ensure_ascii=False))


@contextmanager
def library_errors(where: object) -> Iterator[None]:
    """Turn what `tokenizers` raises into a `TokenizerError`: bare exceptions, and panics, which are no `Exception`."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        msg = f"{where}: tokenizers cannot use it ({' '.join(str(error).split())[:200]}); fetch or save it again"
        raise TokenizerError(msg) from error


def build_model_only(data: Data) -> Tokenizer:
    """Build the model alone: no normalizer, no pre-tokenizer, no added tokens. It takes units."""
    alone = dict.fromkeys(
        ("normalizer", "pre_tokenizer", "post_processor", "truncation", "padding")
    )
    return build_backend({**data, **alone, "added_tokens": []})


def build_preprocessing(data: Data) -> tuple[Any, Any]:
    """Return what stands before the model: the normalizer and the pre-tokenizer (either may be None)."""
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    backend = build_backend({**data, "model": empty, "added_tokens": [], "post_processor": None})
    return backend.normalizer, backend.pre_tokenizer


def compact_ids(data: Data) -> tuple[Data, dict[int, int]]:
    """Return the data with ids from 0 on without holes, and where each id went.

    >>> data = {"model": {"vocab": {"a": 0, "c": 2}}, "added_tokens": [{"id": 2, "content": "c"}]}
    >>> compact_ids(data)[0]["model"]["vocab"], compact_ids(data)[1]
    ({'a': 0, 'c': 1}, {0: 0, 2: 1})
    """
    taken = {*data["model"]["vocab"].values(), *(token["id"] for token in data["added_tokens"])}
    moved = {token_id: i for i, token_id in enumerate(sorted(taken))}
    data = copy_data(data)
    data["model"]["vocab"] = {
        piece: moved[token_id] for piece, token_id in data["model"]["vocab"].items()
    }
    for token in data["added_tokens"]:
        token["id"] = moved[token["id"]]
    for special in ((data.get("post_processor") or {}).get("special_tokens") or {}).values():
        special["ids"] = [moved[token_id] for token_id in special["ids"]]
    return data, moved
