"""Converting a SentencePiece file (tokenizer.model) into a tokenizer.json with the same ids.

SentencePiece cuts a text in four steps, each of which has a counterpart in tokenizer.json:

1. It normalizes: a character map, then extra spaces (`remove_extra_whitespaces`), then a space in
   front of the text (`add_dummy_prefix`). Here: `Precompiled`, `Replace` with regular expressions,
   and `Prepend`, in that order.
2. It writes spaces as "▁".
3. User-defined pieces (Yi's "▁▁", Gemma's "<start_of_turn>") are matched in the normalized text,
   the longest first, and never merge with their neighbours. A BPE gets a `Split` pre-tokenizer that
   isolates them, and looks each up whole. They cannot be added tokens: those are matched before
   normalization, which does not see the "▁" of a space yet.
4. The model cuts what is left. A BPE of SentencePiece merges *characters*, with or without a piece
   of their own; `tokenizers` merges pieces only. An ASCII character without a piece takes over the
   piece of its byte ("<0x0A>" becomes a line break under the same id), which is exact because no
   other character contains that byte. Pieces with other such characters are left to
   `conversion_check`, which compares both libraries.

What has no counterpart is refused by the name of the setting.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, NoReturn

import regex
from tokenizers import normalizers

from lingraft.errors import TokenizerError
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers, splits
from lingraft.tokenizer.convert import (
    added_token,
    bpe_model,
    special_token_template,
    tokenizer_data,
)
from lingraft.tokenizer.json_format import Data

SPACE = "▁"
CONVERTED_FROM = "converted_from"
"""The key in tokenizer_config.json for the SentencePiece file of a converted tokenizer.json."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""The types of pieces in a SentencePiece file."""

UNIGRAM, BPE = 1, 2
"""The types of models."""

_KINDS = {UNIGRAM: "Unigram", BPE: "BPE"}
_PRIVATE_USE = 0xF8000
"""Where the characters begin that stand in for user-defined pieces while a text is normalized."""


def read_message(source: Path) -> Any:
    """Parse a SentencePiece model file; raises `TokenizerError` where it is none."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as messages

    message = messages.ModelProto()
    try:
        message.ParseFromString(source.read_bytes())
    except DecodeError as error:
        msg = f"{source}: neither a SentencePiece model nor tiktoken ranks ({error})"
        raise TokenizerError(msg) from error
    if not message.pieces:
        msg = f"{source}: a SentencePiece model without pieces"
        raise TokenizerError(msg)
    for number, piece in enumerate(message.pieces):
        if not isinstance(piece.piece, str):  # protobuf leaves as bytes what is no UTF-8
            shown = repr(piece.piece[:40])
            msg = f"{source}: piece {number} is {shown}, which is not UTF-8; fetch the file again"
            raise TokenizerError(msg)
    return message


def from_sentencepiece(source: Path) -> Data:
    """Return the tokenizer.json of a SentencePiece BPE or Unigram model.

    Raises `TokenizerError` where the file cannot be read, or has a setting without a counterpart in
    `tokenizers`.
    """
    message = read_message(source)
    kind = _KINDS.get(message.trainer_spec.model_type)
    if kind is None:
        number = message.trainer_spec.model_type
        _refuse(source, f"a SentencePiece model of type {number}; known: Unigram (1), BPE (2)")
    _check_settings(message, source)
    data = _bpe_document(message) if kind == "BPE" else _unigram_document(message)
    for token_id, piece in enumerate(message.pieces):
        if piece.type in {UNKNOWN, CONTROL}:
            data["added_tokens"].append(added_token(token_id, piece.piece))
    spec, size = message.trainer_spec, len(message.pieces)
    ids = {"bos": spec.bos_id, "eos": spec.eos_id, "pad": spec.pad_id, "unk": spec.unk_id}
    roles = {
        role: message.pieces[token_id].piece
        for role, token_id in ids.items()
        if 0 <= token_id < size
    }
    before, after = ((roles[role], ids[role]) if role in roles else None for role in ("bos", "eos"))
    # the habit of Llama, and of T5, where tokenizer_config.json says nothing else
    data["post_processor"] = (
        special_token_template(before=before)
        if kind == "BPE"
        else special_token_template(after=after)
    )
    data["lingraft_roles"] = {f"{role}_token": content for role, content in roles.items()}
    data["lingraft_roles"][CONVERTED_FROM] = source.name
    return data


def _check_settings(message: Any, source: Path) -> None:
    """Refuse settings that `tokenizers` has no counterpart for."""
    if message.trainer_spec.treat_whitespace_as_suffix:
        _refuse(
            source,
            'treat_whitespace_as_suffix is on: words end in "▁" instead of beginning with it, which '
            "is not supported; use a model trained with treat_whitespace_as_suffix=false",
        )
    if not message.normalizer_spec.escape_whitespaces:
        _refuse(
            source,
            "escape_whitespaces is off: spaces stay spaces in the pieces, which is not supported; "
            "use a model trained with escape_whitespaces=true",
        )
    unused = [piece.piece for piece in message.pieces if piece.type == UNUSED]
    if unused:
        _refuse(
            source,
            f"{len(unused)} pieces are marked as unused ({unused[0]!r}), which tokenizer.json "
            "cannot say; give the model's tokenizer.json instead",
        )


def user_defined(message: Any) -> list[str]:
    """Return the user-defined pieces of a SentencePiece model, longest first."""
    found = [piece.piece for piece in message.pieces if piece.type == USER_DEFINED]
    return sorted(found, key=lambda piece: (-len(piece), piece))


def _normalizer(message: Any) -> dict[str, Any]:
    r"""Return the counterpart of SentencePiece's normalizer.

    `\A` and `\z` are the ends of the text in these expressions; `^` and `$` would be those of its
    lines.
    """
    spec = message.normalizer_spec
    kept = _kept_from_charsmap(message)
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        steps += [_literal(piece, stand_in) for piece, stand_in in kept.items()]
        # the library takes "\r\n" for one character; a line separator is mapped as a line break
        # is, and stands alone
        steps += [_literal("\r\n", "\r\u2028")] if spec.name.startswith("nmt_") else []
        steps.append(_precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [_pattern(r"\A +", ""), _pattern(" {2,}", " ")]
    steps += [_literal(stand_in, piece) for piece, stand_in in kept.items()]
    if spec.remove_extra_whitespaces:
        steps.append(_pattern(rf"[ {SPACE}]+\z", ""))
    if spec.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append(_literal(" ", SPACE))
    return {"type": "Sequence", "normalizers": steps}


def with_prefix_once(data: Data) -> Data | None:
    """Return a converted BPE with the dummy prefix of LlamaTokenizer; `None` where it has no prefix.

    SentencePiece puts a space in front of every text. The tokenizer of transformers puts it only at
    the start of a text, not after a special token inside of one, and not where the text begins with
    a space already. A model whose files name that class is prompted so.
    """
    steps = (data.get("normalizer") or {}).get("normalizers", [])
    kept = [step for step in steps if step["type"] != "Prepend"]
    if data["model"]["type"] != "BPE" or len(kept) == len(steps):
        return None
    first = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    parts = [first, *pre_tokenizers(data)]
    return {
        **data,
        "normalizer": {"type": "Sequence", "normalizers": kept},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
    }


def has_prefix_once(data: Data) -> bool:
    """Say whether a tokenizer puts no second space before a text that begins with one."""
    return any(part.get("prepend_scheme") == "first" for part in pre_tokenizers(data))


def _kept_from_charsmap(message: Any) -> dict[str, str]:
    """Return a private-use character for each user-defined piece that the character map changes.

    SentencePiece does not normalize them: "▁▁" in a text stays, where nmt_nfkc makes a space of
    every other "▁".
    """
    charsmap = message.normalizer_spec.precompiled_charsmap
    if not charsmap:
        return {}
    normalizer = normalizers.Precompiled(charsmap)
    changed = [piece for piece in user_defined(message) if normalizer.normalize_str(piece) != piece]
    return {piece: chr(_PRIVATE_USE + number) for number, piece in enumerate(changed)}


def _precompiled(charsmap: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}


def _literal(text: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def _pattern(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _decoder(message: Any) -> dict[str, Any]:
    """Return the decoder, which takes away the space that the normalizer put in front."""
    decoders = [_literal(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if message.normalizer_spec.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": decoders}


def _bpe_document(message: Any) -> Data:
    """Return the tokenizer.json of a BPE: every split of a piece is a merge, ranked by score."""
    names = _piece_names(message)
    normal = {piece.piece: piece.score for piece in message.pieces if piece.type == NORMAL}
    known = set(normal) | (set(names) - {piece.piece for piece in message.pieces})
    ranked = sorted(normal, key=lambda piece: -normal[piece])
    merges = [list(pair) for piece in ranked for pair in splits(piece, known)]
    frozen = user_defined(message)
    model = bpe_model(
        {name: token_id for token_id, name in enumerate(names)},
        merges,
        unk_token=message.pieces[message.trainer_spec.unk_id].piece,
        fuse_unk=True,
        byte_fallback=message.trainer_spec.byte_fallback,
        ignore_merges=bool(frozen),
    )
    return tokenizer_data(
        model,
        normalizer=_normalizer(message),
        pre_tokenizer=isolate_pieces(frozen) if frozen else None,
        decoder=_decoder(message),
    )


def isolate_pieces(pieces: list[str]) -> dict[str, Any]:
    """Return the pre-tokenizer that isolates these strings; the first that fits is taken."""
    pattern = "|".join(
        regex.escape(piece, special_only=True, literal_spaces=True) for piece in pieces
    )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _piece_names(message: Any) -> list[str]:
    """Return the pieces by id, a byte under its ASCII character where other pieces need that."""
    names = [piece.piece for piece in message.pieces]
    if not message.trainer_spec.byte_fallback:
        return names
    lacking = {
        character for piece in message.pieces if piece.type == NORMAL for character in piece.piece
    }
    lacking -= set(names)
    of_byte = {
        f"<0x{ord(character):02X}>": character for character in lacking if character.isascii()
    }
    return [of_byte.get(name, name) for name in names]


def _unigram_document(message: Any) -> Data:
    """Return the tokenizer.json of a Unigram."""
    spec = message.trainer_spec
    vocab: list[list[Any]] = []
    for piece in message.pieces:
        score = piece.score
        if piece.type == USER_DEFINED:
            # what SentencePiece 0.2 gives them, whatever the file says, so that they always win
            score = 0.1 * len(piece.piece.encode()) - 0.1
        vocab.append([piece.piece, score])
    model = {
        "type": "Unigram",
        "unk_id": spec.unk_id,
        "byte_fallback": spec.byte_fallback,
        "vocab": vocab,
    }
    decoder = _decoder(message) if spec.byte_fallback else _metaspace(message, split=True)
    return tokenizer_data(
        model,
        normalizer=_normalizer(message),
        pre_tokenizer=_unigram_pre_tokenizer(message),
        decoder=decoder,
    )


def _metaspace(message: Any, *, split: bool) -> dict[str, Any]:
    scheme = "always" if message.normalizer_spec.add_dummy_prefix else "never"
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


def _unigram_pre_tokenizer(message: Any) -> dict[str, Any] | None:
    """Cut before each "▁" where no piece goes on over one, and inside of what spells a byte piece.

    A Unigram of `tokenizers` takes any piece that a text spells, "<0x0A>" included; SentencePiece
    does not take byte pieces for text.
    """
    parts: list[dict[str, Any]] = []
    if message.trainer_spec.byte_fallback:
        parts.append(
            {
                "type": "Split",
                "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>)"},
                "behavior": "MergedWithPrevious",
                "invert": False,
            }
        )
    words = all(
        SPACE not in piece.piece[1:]
        for piece in message.pieces
        if piece.type in {NORMAL, USER_DEFINED}
    )
    if words:
        parts.append(
            {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
        )
    if len(parts) > 1:
        return {"type": "Sequence", "pretokenizers": parts}
    return parts[0] if parts else None


def _refuse(source: Path, what: str) -> NoReturn:
    msg = f"{source}: {what}"
    raise TokenizerError(msg)
