"""Convert a tokenizer to GGUF: tokens with types, and merges or scores.

llama.cpp implements each pre-tokenizer under a name and cannot read a regular expression from the
file. A tokenizer that it would not reproduce exactly is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lingraft.errors import ModelError
from lingraft.pretokenizer.llama_cpp_names import llama_cpp_name
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.json_format import Data, merges_of
from lingraft.tokenizer.sentencepiece_bpe import SPACE, SentencePieceBPE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""The values of gguf.TokenType, so that this module does not need the optional package."""

PHI_3_TOKENS = frozenset({"<unk>", "<s>", "</s>", "<|endoftext|>"})
"""The tokens that llama.cpp looks up by their text if the name of the model contains phi-3."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class GgufTokens:
    """The tokenizer as GGUF stores it, under the keys `tokenizer.ggml.*`.

    `model` is "gpt2" (byte-level BPE, with merges) or "llama" (SentencePiece BPE, with scores).
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    space_prefix: bool = False
    notes: Sequence[str] = ()


def gguf_tokens(tokenizer: ModelTokenizer, rows: int) -> GgufTokens:
    """Return the tokenizer with a token for each embedding row of the model.

    Ids without a token become unused tokens, because llama.cpp requires a token for every row.
    Raises `ModelError` if llama.cpp would tokenise differently.
    """
    try:
        return _converted(tokenizer, rows)
    except ModelError as error:
        msg = f"{tokenizer.folder}: {error}"
        raise ModelError(msg) from error


def _converted(tokenizer: ModelTokenizer, rows: int) -> GgufTokens:
    family, data = tokenizer.family, tokenizer.family.data
    pieces = {token_id: piece for piece, token_id in family.pieces.items()} | dict(family.special)
    if max(pieces) >= rows:
        msg = (
            f"the tokenizer has ids up to {max(pieces)}, but the model has {rows} embedding rows; "
            "use the tokenizer of the model"
        )
        raise ModelError(msg)
    tokens = [pieces.get(i, f"[UNUSED{i}]") for i in range(rows)]
    types = _types(data, pieces, rows)
    if isinstance(family, ByteLevel):
        merges = [" ".join(pair) for pair in merges_of(data)]
        notes = _normalizer_notes(data)
        return GgufTokens("gpt2", llama_cpp_name(data), tokens, types, merges, notes=notes)
    if isinstance(family, SentencePieceBPE):
        scores, space_prefix = _scores(data, tokens), _space_prefix(data)
        return GgufTokens(
            "llama", "default", tokens, types, scores=scores, space_prefix=space_prefix
        )
    msg = f"llama.cpp has no {family.name} tokenizer for causal models; use transformers or vLLM"
    raise ModelError(msg)


def reads_as_phi_3(tokenizer: ModelTokenizer) -> bool:
    """Return whether llama.cpp tokenises this model as it should only if it takes it for Phi-3.

    Special tokens then swallow the spaces after them. llama.cpp looks up four tokens of Phi-3, and
    does not load a file without them.
    """
    family = tokenizer.family
    swallows_spaces = any(token["rstrip"] for token in family.data.get("added_tokens") or ())
    tokens = {*family.pieces, *dict(family.special).values()}
    return swallows_spaces and isinstance(family, SentencePieceBPE) and tokens >= PHI_3_TOKENS


def added_token_notes(tokenizer: ModelTokenizer) -> list[str]:
    """Return a note if llama.cpp finds added tokens in a text otherwise than the tokenizer.

    GGUF cannot store that a token swallows the spaces around it, or is found only as a whole word
    or in normalised text. Text without these tokens gets equal ids, so this is no error.
    """
    normalizer, is_phi_3 = tokenizer.backend.normalizer, reads_as_phi_3(tokenizer)
    names = []
    for token in tokenizer.family.data.get("added_tokens") or ():
        content = token["content"]
        searched = content
        if token["normalized"] and normalizer is not None:
            searched = normalizer.normalize_str(content)
        swallows = token["lstrip"] or (token["rstrip"] and not is_phi_3)
        if swallows or token["single_word"] or searched != content:
            names.append(content)
    if not names:
        return []
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    note = (
        f"llama.cpp ignores how the tokenizer finds {names[0]!r}{more} in a text (lstrip, rstrip, "
        "single_word or normalized); the ids are equal only if the input does not contain it"
    )
    return [note]


def adds_bos(tokenizer: ModelTokenizer) -> bool:
    """Return whether BOS is put before a text; no setting states it, the post-processor does it."""
    ids = tokenizer.backend.encode("a", add_special_tokens=True).ids
    return bool(ids) and ids[0] == tokenizer.bos_id


def adds_eos(tokenizer: ModelTokenizer) -> bool:
    """Return whether EOS is put after a text."""
    ids = tokenizer.backend.encode("a", add_special_tokens=True).ids
    return bool(ids) and ids[-1] == tokenizer.eos_id


def _types(data: Data, pieces: Mapping[int, str], rows: int) -> list[int]:
    # Later rules override earlier ones: the unknown token can also be an added token.
    types = [NORMAL if i in pieces else UNUSED for i in range(rows)]
    if data["model"].get("byte_fallback"):
        for token_id, piece in pieces.items():
            if _BYTE.fullmatch(piece):
                types[token_id] = BYTE
    for token in data.get("added_tokens") or ():
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    unknown = data["model"].get("unk_token")
    if unknown in data["model"]["vocab"]:
        types[data["model"]["vocab"][unknown]] = UNKNOWN
    return types


def _normalizer_notes(data: Data) -> list[str]:
    normalizer = data.get("normalizer")
    kinds = [part["type"] for part in _parts(normalizer)]
    if not kinds:
        return []
    # Text in NFC gets equal ids, so this is a note for the user and not an error.
    if kinds == ["NFC"]:
        note = (
            "llama.cpp does not convert text to Unicode NFC as this tokenizer does; the ids are "
            "equal only if the input is in NFC already"
        )
        return [note]
    msg = (
        f"llama.cpp has no normalizer for byte-level tokenizers, and this one has "
        f"{', '.join(kinds)}; use transformers or vLLM"
    )
    raise ModelError(msg)


def _scores(data: Data, tokens: Sequence[str]) -> list[float]:
    """Return a score for each token: the negative rank of its merges.

    llama.cpp, like SentencePiece, merges the two neighbours that form the token with the highest
    score, without a list of pairs. This equals the merges if the merges of a token are consecutive
    and include every pair of tokens that forms it. Otherwise raises `ModelError`.
    """
    rank: dict[str, int] = {}
    known, last = set(), ""
    for left, right in merges_of(data):
        piece = left + right
        if piece != last and piece in rank:
            msg = (
                f"cannot be exported: llama.cpp has one rank for all merges that form {piece!r}, "
                "and here others are between them, so that it would tokenise differently from "
                "transformers; use transformers or vLLM"
            )
            raise ModelError(msg)
        rank.setdefault(piece, len(rank))
        known.add((left, right))
        last = piece
    vocabulary = data["model"]["vocab"]
    for piece in vocabulary:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            # llama.cpp merges characters that are no tokens too, which a tokenizer of transformers
            # has split into bytes by then.
            if pair not in known and all(len(part) == 1 or part in rank for part in pair):
                msg = (
                    f"llama.cpp would merge {pair[0]!r} and {pair[1]!r} to the token {piece!r}, "
                    "which the tokenizer does not; use transformers or vLLM"
                )
                raise ModelError(msg)
    # No merge forms the other tokens, so llama.cpp never compares their scores.
    scores = []
    for token in tokens:
        if token in rank:
            scores.append(-float(rank[token]))
        else:
            scores.append(0.0 if _BYTE.fullmatch(token) else -float(len(rank)))
    return scores


def _space_prefix(data: Data) -> bool:
    """Return whether a space is added before every text.

    Raises `ModelError` for a step that llama.cpp does not have.
    """
    normalizers, pre_tokenizers = _parts(data.get("normalizer")), _parts(data.get("pre_tokenizer"))
    prefix = False
    for part in normalizers:
        if part["type"] == "Prepend" and part["prepend"] == SPACE:
            prefix = True
        elif part != {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}:
            msg = f"llama.cpp has no normalizer {part['type']}; use transformers or vLLM"
            raise ModelError(msg)
    for part in pre_tokenizers:
        # Gemma's tokenizer splits at spaces, of which its normalizer leaves none.
        if part["type"] == "Split" and part["pattern"] == {"String": " "} and normalizers:
            continue
        if part["type"] != "Metaspace" or part.get("split"):
            msg = (
                f"llama.cpp has no pre-tokenizer {part['type']} for SentencePiece vocabularies; "
                "use transformers or vLLM"
            )
            raise ModelError(msg)
        prefix = prefix or part.get("prepend_scheme") in {"always", "first"}
    return prefix


def _parts(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the parts of a normalizer or pre-tokenizer, with nested sequences flattened."""
    if part is None:
        return []
    inner = part.get("normalizers", part.get("pretokenizers"))
    if inner is None:
        return [part]
    return list(chain.from_iterable(map(_parts, inner)))
