"""A tokenizer in GGUF form: tokens with types, and merges or scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.errors import ModelError
from lingraft.pretokenizer.llama_cpp_names import llama_cpp_name
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.sentencepiece_bpe import SPACE, SentencePieceBPE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""gguf.TokenType, written out so that no optional package is needed to reason about a tokenizer."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class GgufTokens:
    """The keys of `tokenizer.ggml`: merges for "gpt2" (byte-level), scores for "llama"."""

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    space_prefix: bool = False
    notes: Sequence[str] = ()


def gguf_tokens(tokenizer: ModelTokenizer, rows: int) -> GgufTokens:
    """Return the tokenizer with a token for each row of the model.

    Raises `ModelError` where llama.cpp would tokenise differently.
    Rows beyond the vocabulary, and holes in it, become unused tokens, since llama.cpp wants a token
    for every row.
    """
    family, data = tokenizer.family, tokenizer.family.data
    pieces = {token_id: piece for piece, token_id in family.pieces.items()} | dict(family.special)
    if max(pieces) >= rows:
        msg = (
            f"the tokenizer has ids up to {max(pieces)} and the model {rows} rows; the model must "
            f"have "
            "a row for each id"
        )
        raise ModelError(msg)
    tokens = [pieces.get(i, f"[UNUSED{i}]") for i in range(rows)]
    types = _types(data, pieces, rows)
    if isinstance(family, ByteLevel):
        merges = [" ".join(pair) for pair in _pairs(data)]
        return GgufTokens(
            "gpt2", llama_cpp_name(data), tokens, types, merges, notes=_normalizer_notes(data)
        )
    if isinstance(family, SentencePieceBPE):
        return GgufTokens(
            "llama",
            "default",
            tokens,
            types,
            scores=_scores(data, tokens),
            space_prefix=_space_prefix(data),
        )
    msg = (
        f"llama.cpp has no {family.name} tokenizer for models of this kind; use transformers or "
        f"vLLM"
    )
    raise ModelError(msg)


def _types(data: Data, pieces: Mapping[int, str], rows: int) -> list[int]:
    types = [NORMAL if i in pieces else UNUSED for i in range(rows)]
    if data["model"].get("byte_fallback"):
        types = [
            BYTE if _BYTE.fullmatch(pieces.get(i, "")) else kind for i, kind in enumerate(types)
        ]
    for token in data.get("added_tokens") or ():
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    unknown = data["model"].get("unk_token")
    if unknown in data["model"]["vocab"]:
        types[data["model"]["vocab"][unknown]] = UNKNOWN
    return types


def _pairs(data: Data) -> list[tuple[str, str]]:
    return [
        tuple(pair.split(" ", 1) if isinstance(pair, str) else pair)
        for pair in data["model"]["merges"]
    ]


def _normalizer_notes(data: Data) -> list[str]:
    normalizer = data.get("normalizer")
    kinds = [part["type"] for part in _parts(normalizer)]
    if not kinds:
        return []
    if kinds == ["NFC"]:
        note = (
            "llama.cpp does not bring text into Unicode NFC as this tokenizer does: ids are equal "
            "for text in "
            "NFC: normalise what you feed it"
        )
        return [note]
    found = ", ".join(kinds)
    msg = (
        f"llama.cpp does not normalise text for byte-level tokenizers, and this one does ({found})"
    )
    raise ModelError(msg)


def _scores(data: Data, tokens: Sequence[str]) -> list[float]:
    """Return a score for each token, so that the highest score first is the lowest merge first.

    SentencePiece, and llama.cpp, join any two neighbours that spell a token. Merges must say the
    same: all splits of a token, one after the other; else `ModelError`.
    """
    rank: dict[str, int] = {}
    known, last = set(), ""
    for left, right in _pairs(data):
        piece = left + right
        if piece != last and piece in rank:
            msg = (
                f"llama.cpp ranks merges per token; the merges that form {piece!r} are not "
                "consecutive, so it would tokenise differently"
            )
            raise ModelError(msg)
        rank.setdefault(piece, len(rank))
        known.add((left, right))
        last = piece
    vocabulary = data["model"]["vocab"]
    for piece in vocabulary:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            if pair not in known and all(_reachable(part, rank, vocabulary) for part in pair):
                msg = (
                    f"{pair[0]!r} and {pair[1]!r} spell the token {piece!r} and are no merge of "
                    f"it; "
                    "llama.cpp would join them"
                )
                raise ModelError(msg)
    return [
        -float(rank[token])
        if token in rank
        else 0.0
        if _BYTE.fullmatch(token)
        else -float(len(rank))
        for token in tokens
    ]


def _reachable(part: str, rank: Mapping[str, int], vocabulary: Mapping[str, int]) -> bool:
    return part in rank or (len(part) == 1 and part in vocabulary)


def _space_prefix(data: Data) -> bool:
    """Say whether a space is put before every text.

    Raises `ModelError` for what llama.cpp does not do.
    """
    normalizers, pre_tokenizers = _parts(data.get("normalizer")), _parts(data.get("pre_tokenizer"))
    prefix = False
    for part in normalizers:
        if part["type"] == "Prepend" and part["prepend"] == SPACE:
            prefix = True
        elif not (
            part["type"] == "Replace"
            and part["pattern"] == {"String": " "}
            and part["content"] == SPACE
        ):
            msg = f"llama.cpp does not normalise text as this tokenizer does ({part['type']})"
            raise ModelError(msg)
    for part in pre_tokenizers:
        if part["type"] != "Metaspace" or part.get("split"):
            msg = f"llama.cpp has no pre-tokenizer {part['type']} for SentencePiece vocabularies"
            raise ModelError(msg)
        prefix = prefix or part.get("prepend_scheme") in {"always", "first"}
    return prefix


def _parts(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    inner = part.get("normalizers", part.get("pretokenizers"))
    return [part] if inner is None else [deep for one in inner for deep in _parts(one)]
