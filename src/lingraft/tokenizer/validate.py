"""What a tokenizer.json must hold before anything is built on it: pieces with ids that do not contradict each other.

A file may come from anywhere. Two pieces under one id, or an id in the billions, would surface much later, as a splice
that does not add up or as memory that runs out; here they are named.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.json_format import Data, build_backend

SPREAD = 16
"""The highest id is at most so many times the number of tokens (real files: 1.0)."""


def check_ids(data: Data, source: Path) -> None:
    """Raise `TokenizerError` where pieces and ids of a tokenizer.json contradict each other.

    >>> check_ids({"model": {"vocab": {"a": 0, "b": 0}}}, Path("tokenizer.json"))
    Traceback (most recent call last):
    lingraft.errors.TokenizerError: tokenizer.json: 'a' and 'b' both have the id 0; every piece needs an id of its own
    """
    owners: dict[int, str] = {}
    for piece, token_id in _numbered(data["model"]["vocab"], source):
        if token_id in owners:
            _refuse(
                source,
                f"{owners[token_id]!r} and {piece!r} both have the id {token_id}; every piece needs an id "
                "of its own",
            )
        owners[token_id] = piece
    added = data.get("added_tokens") or []
    if not isinstance(added, list):
        _refuse(source, f"added_tokens is a {type(added).__name__}; expected a list")
    for token in added:
        if (
            not isinstance(token, dict)
            or not isinstance(token.get("content"), str)
            or not _is_id(token.get("id"))
        ):
            _refuse(source, f"added_tokens holds {str(token)[:60]}; expected an id and a content")
        owner = owners.setdefault(token["id"], token["content"])
        if owner != token["content"]:
            _refuse(
                source,
                f"the added token {token['content']!r} has the id {token['id']}, which is {owner!r}",
            )
    _check_charsmap(data.get("normalizer"), source)
    _check_affixes(data["model"], source)
    highest = max(owners, default=0)
    if highest > SPREAD * len(owners) + 1000:
        _refuse(
            source,
            f"{owners[highest]!r} has the id {highest}, among {len(owners)} tokens; ids count from 0 on",
        )


def _check_affixes(model: dict[str, Any], source: Path) -> None:
    """Refuse a BPE that marks ends or insides of words: one spelling has two pieces there.

    A token is one surface here, and its merges are all ways to spell that surface. With "</w>" (GPT-1, CLIP) or "##"
    the pieces of a word and of its inside are told apart, so that merges of learned tokens would be wrong.
    """
    spellings = {
        "end_of_word_suffix": "{piece}{affix}",
        "continuing_subword_prefix": "{affix}{piece}",
    }
    for setting, spelling in spellings.items():
        affix = model.get(setting)
        if affix:
            other = spelling.format(piece="a", affix=affix)
            _refuse(
                source,
                f"its BPE has the {setting} {affix!r}: 'a' and {other!r} are two pieces for one spelling, "
                "which is not supported; choose a base with a byte-level or SentencePiece tokenizer",
            )


def _check_charsmap(normalizer: Any, source: Path) -> None:
    """Refuse a precompiled character map that is not whole: a trie's bytes, then UTF-8; the library would panic."""
    if not isinstance(normalizer, dict):
        return
    parts = normalizer.get("normalizers")
    for part in parts if isinstance(parts, list) else ():
        _check_charsmap(part, source)
    if normalizer.get("type") != "Precompiled":
        return
    try:
        raw = base64.b64decode(normalizer["precompiled_charsmap"] or "", validate=True)
        size = int.from_bytes(raw[:4], "little")
        raw[4 + size :].decode()
        whole = size % 4 == 0 and len(raw) >= 4 + size
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        _refuse(
            source,
            "the precompiled character map of its normalizer is damaged; fetch or save it again",
        )


@contextmanager
def blame_unreadable_file(data: Data, source: Path) -> Iterator[None]:
    """Turn what goes wrong with a file that `tokenizers` cannot read either into a `TokenizerError`.

    What it can read and we cannot is our own mistake, and shows its traceback.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        build_backend(data, source)
        raise


def _numbered(vocab: Any, source: Path) -> list[tuple[str, int]]:
    """Return pieces and ids; a Unigram vocabulary is a list of pieces with scores."""
    if isinstance(vocab, list):
        pieces = [
            entry[0] if isinstance(entry, list) and len(entry) == 2 else None for entry in vocab
        ]
        bad = next((i for i, piece in enumerate(pieces) if not isinstance(piece, str)), None)
        if bad is not None:
            _refuse(
                source,
                f"entry {bad} of model.vocab is {str(vocab[bad])[:60]}; expected a piece and its score",
            )
        return [(str(piece), i) for i, piece in enumerate(pieces)]
    if not isinstance(vocab, dict):
        _refuse(source, f"model.vocab is a {type(vocab).__name__}; expected pieces with their ids")
    for piece, token_id in vocab.items():
        if not _is_id(token_id):
            _refuse(
                source,
                f"the piece {piece!r} has the id {token_id!r}; expected a whole number from 0 on",
            )
    return list(vocab.items())


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse(source: Path, what: str) -> NoReturn:
    msg = f"{source}: {what}"
    raise TokenizerError(msg)
