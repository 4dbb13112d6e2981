"""Checks of a tokenizer.json before use: every id belongs to one token, and the model is supported.

Two pieces with the same id, or an id in the billions, would otherwise cause an obscure error much
later: an inconsistent splice, or not enough memory.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.json_format import Data, build_backend

# The highest id divided by the number of tokens is 1.0 in real files. Arrays are as long as the
# highest id, so a much higher one would exhaust the memory.
MAX_SPREAD = 16
_ALWAYS_ALLOWED = 1000

_WITH_AFFIX = {
    "end_of_word_suffix": "{piece}{affix}",
    "continuing_subword_prefix": "{affix}{piece}",
}


def check_tokenizer_data(data: Data, source: Path) -> None:
    """Raise `TokenizerError` where a tokenizer.json contradicts itself or is not supported."""
    owners = _check_vocabulary(data["model"]["vocab"], source)
    _check_added_tokens(data.get("added_tokens") or [], owners, source)
    _check_charsmap(data.get("normalizer"), source)
    _check_affixes(data["model"], source)
    highest = max(owners, default=0)
    if highest > MAX_SPREAD * len(owners) + _ALWAYS_ALLOWED:
        _refuse(
            source,
            f"{owners[highest]!r} has the id {highest}, among {len(owners)} tokens; expected ids "
            "from 0 on, without large gaps",
        )


def _check_vocabulary(vocab: Any, source: Path) -> dict[int, str]:
    """Check that every piece has an id of its own; return the piece of each id."""
    owners: dict[int, str] = {}
    for piece, token_id in _numbered_pieces(vocab, source):
        if token_id in owners:
            _refuse(
                source,
                f"{owners[token_id]!r} and {piece!r} both have the id {token_id}; every piece "
                "needs an id of its own",
            )
        owners[token_id] = piece
    return owners


def _check_added_tokens(added: Any, owners: dict[int, str], source: Path) -> None:
    """Check the added tokens, and enter those that the vocabulary lacks in `owners`."""
    if not isinstance(added, list):
        _refuse(source, f"added_tokens is a {type(added).__name__}; expected a list")
    for token in added:
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not _is_id(token.get("id")):
            _refuse(source, f"added_tokens holds {str(token)[:60]}; expected an id and a content")
        owner = owners.setdefault(token["id"], content)
        if owner != content:
            _refuse(
                source,
                f"the added token {content!r} has the id {token['id']}, which belongs to "
                f"{owner!r}; every token needs an id of its own",
            )


def _check_affixes(model: dict[str, Any], source: Path) -> None:
    """Refuse a BPE whose pieces have a suffix at the end of words or a prefix inside words."""
    # With "</w>" (GPT-1, CLIP) or "##", one spelling has two pieces. The merges of a new token are
    # all splits of its spelling, and would mix both kinds.
    for setting, spelling in _WITH_AFFIX.items():
        affix = model.get(setting)
        if affix:
            other = spelling.format(piece="a", affix=affix)
            _refuse(
                source,
                f"its {model.get('type', 'BPE')} has the {setting} {affix!r}: 'a' and {other!r} "
                "are two pieces for one spelling, which is not supported; choose a base with a "
                "byte-level or SentencePiece tokenizer",
            )


def _check_charsmap(normalizer: Any, source: Path) -> None:
    """Refuse a damaged precompiled character map."""
    if not isinstance(normalizer, dict):
        return
    parts = normalizer.get("normalizers")
    for part in parts if isinstance(parts, list) else ():
        _check_charsmap(part, source)
    # `tokenizers` panics on a damaged map, without a usable message.
    if normalizer.get("type") == "Precompiled" and not _is_charsmap(normalizer):
        _refuse(
            source,
            "the precompiled character map of its normalizer is damaged; fetch or save it again",
        )


def _is_charsmap(normalizer: dict[str, Any]) -> bool:
    """Whether a map has its three parts: the size of a trie, the trie of 4-byte units, UTF-8."""
    try:
        raw = base64.b64decode(normalizer["precompiled_charsmap"] or "", validate=True)
        size = int.from_bytes(raw[:4], "little")
        raw[4 + size :].decode()
    except (KeyError, TypeError, ValueError):
        return False
    return size % 4 == 0 and len(raw) >= 4 + size


@contextmanager
def errors_of_damaged_files(data: Data, source: Path) -> Iterator[None]:
    """Turn an error in the block into a `TokenizerError` if `tokenizers` cannot use the data.

    Otherwise the original error is raised.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        build_backend(data, source)
        # `tokenizers` reads the file, so the mistake is in lingraft: show its traceback.
        raise


def _numbered_pieces(vocab: Any, source: Path) -> list[tuple[str, int]]:
    """Return pieces and ids; the vocabulary of a Unigram is a list of pieces with scores."""
    if isinstance(vocab, list):
        return _listed_pieces(vocab, source)
    if not isinstance(vocab, dict):
        _refuse(source, f"model.vocab is a {type(vocab).__name__}; expected pieces with their ids")
    for piece, token_id in vocab.items():
        if not _is_id(token_id):
            _refuse(
                source,
                f"the piece {piece!r} has the id {token_id!r}; expected a whole number from 0 on",
            )
    return list(vocab.items())


def _listed_pieces(vocab: list[Any], source: Path) -> list[tuple[str, int]]:
    pieces = []
    for i, entry in enumerate(vocab):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            _refuse(
                source,
                f"entry {i} of model.vocab is {str(entry)[:60]}; expected a piece and its score",
            )
        pieces.append((entry[0], i))
    return pieces


def _is_id(value: Any) -> bool:
    # A boolean is an integer in Python, but no id in JSON.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse(source: Path, what: str) -> NoReturn:
    msg = f"{source}: {what}"
    raise TokenizerError(msg)
