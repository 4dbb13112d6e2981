"""Converting a SentencePiece file (tokenizer.model) into a tokenizer.json with the same ids.

SentencePiece segments a text in four steps, each of which has a counterpart in tokenizer.json:

1. It normalizes: a character map, then extra spaces (`remove_extra_whitespaces`), then a space in
   front of the text (`add_dummy_prefix`). Here: `Precompiled`, `Replace` with regular expressions,
   and `Prepend`, in that order.
2. It replaces spaces by "▁".
3. It matches user-defined pieces (Yi's "▁▁", Gemma's "<start_of_turn>") in the normalized text, the
   longest first; they never merge with their neighbours. A BPE gets a `Split` pre-tokenizer that
   isolates them, and looks each up whole.
4. The model segments the rest. A BPE of SentencePiece merges *characters*, with or without a piece
   of their own; `tokenizers` merges only pieces. An ASCII character without a piece therefore gets
   the piece of its byte ("<0x0A>" becomes a line break with the same id). Pieces with other such
   characters are left to `conversion_check`, which compares both libraries.

Settings without a counterpart are refused by name.
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
    bpe_model,
    special_token,
    special_token_template,
    tokenizer_data,
)
from lingraft.tokenizer.json_format import Data, split_step
from lingraft.tokenizer.sentencepiece_bpe import SPACE, split_names
from lingraft.tokenizer.sentencepiece_file import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    piece_names,
    pieces_of_type,
    read_message,
    user_defined,
)

CONVERTED_FROM = "converted_from"
"""The key in tokenizer_config.json for the SentencePiece file of a converted tokenizer.json."""

# Characters from here on replace user-defined pieces while a text is normalized.
_PRIVATE_USE = 0xF8000


def from_sentencepiece(source: Path) -> Data:
    """Return the tokenizer.json of a SentencePiece BPE or Unigram model.

    Raises `TokenizerError` where the file cannot be read, or has a setting without a counterpart in
    `tokenizers`.
    """
    message = read_message(source)
    spec, size = message.trainer_spec, len(message.pieces)
    if spec.model_type not in {UNIGRAM, BPE}:
        number = spec.model_type
        _refuse(source, f"a SentencePiece model of type {number}; known: Unigram (1), BPE (2)")
    is_bpe = spec.model_type == BPE
    _check_settings(message, source)
    data = _bpe_data(message) if is_bpe else _unigram_data(message)
    for token_id, piece in enumerate(message.pieces):
        if piece.type in {UNKNOWN, CONTROL}:
            data["added_tokens"].append(special_token(token_id, piece.piece))
    ids = {"bos": spec.bos_id, "eos": spec.eos_id, "pad": spec.pad_id, "unk": spec.unk_id}
    tokens = {}
    for role, token_id in ids.items():
        if 0 <= token_id < size:
            tokens[role] = (message.pieces[token_id].piece, token_id)
    # The defaults of Llama (BOS before a text) and of T5 (EOS after it), for folders whose
    # tokenizer_config.json has no setting.
    before, after = (tokens.get("bos"), None) if is_bpe else (None, tokens.get("eos"))
    data["post_processor"] = special_token_template(before=before, after=after)
    roles = {f"{role}_token": content for role, (content, _id) in tokens.items()}
    data["lingraft_roles"] = {**roles, CONVERTED_FROM: source.name}
    return data


def _check_settings(message: Any, source: Path) -> None:
    """Refuse settings without a counterpart in `tokenizers`."""
    if message.trainer_spec.treat_whitespace_as_suffix:
        _refuse(
            source,
            'treat_whitespace_as_suffix is on: words end in "▁" instead of beginning with it, '
            "which is not supported; use a model trained with treat_whitespace_as_suffix=false",
        )
    if not message.normalizer_spec.escape_whitespaces:
        _refuse(
            source,
            "escape_whitespaces is off: spaces stay spaces in the pieces, which is not supported; "
            "use a model trained with escape_whitespaces=true",
        )
    unused = pieces_of_type(message, UNUSED)
    if unused:
        _refuse(
            source,
            f"{len(unused)} pieces are marked as unused ({unused[0]!r}), which tokenizer.json "
            "cannot express; give the model's tokenizer.json instead",
        )


def _normalizer(message: Any) -> dict[str, Any]:
    """Return the counterpart of SentencePiece's normalizer."""
    # In these expressions \A and \z are the ends of the text; ^ and $ would be those of its lines.
    spec = message.normalizer_spec
    protected = _pieces_to_protect(message)
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        steps += map(_literal, protected, protected.values())
        if spec.name.startswith("nmt_"):
            # The library treats "\r\n" as one character. A line separator is mapped like a line
            # break and is a character of its own.
            steps.append(_literal("\r\n", "\r\u2028"))
        steps.append(_precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [_pattern(r"\A +", ""), _pattern(" {2,}", " ")]
    steps += map(_literal, protected.values(), protected)
    if spec.remove_extra_whitespaces:
        steps.append(_pattern(rf"[ {SPACE}]+\z", ""))
    if spec.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append(_literal(" ", SPACE))
    return {"type": "Sequence", "normalizers": steps}


def with_prefix_once(data: Data) -> Data | None:
    """Return a converted BPE with the dummy prefix of LlamaTokenizer, `None` if it has no prefix.

    SentencePiece puts a space in front of every text. LlamaTokenizer puts it only at the start of a
    text, not after a special token, and not before a leading space. A chat prompt would otherwise
    get a space after each special token.
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
    """Whether the dummy prefix is the one of LlamaTokenizer (see `with_prefix_once`)."""
    return any(part.get("prepend_scheme") == "first" for part in pre_tokenizers(data))


def _pieces_to_protect(message: Any) -> dict[str, str]:
    """Return a private-use character for each user-defined piece that the character map changes."""
    # SentencePiece does not normalize them: "▁▁" in a text stays, although nmt_nfkc makes a space
    # of every other "▁".
    charsmap = message.normalizer_spec.precompiled_charsmap
    if not charsmap:
        return {}
    normalizer = normalizers.Precompiled(charsmap)
    stand_ins: dict[str, str] = {}
    for piece in user_defined(message):
        if normalizer.normalize_str(piece) != piece:
            stand_ins[piece] = chr(_PRIVATE_USE + len(stand_ins))
    return stand_ins


def _precompiled(charsmap: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}


def _literal(text: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def _pattern(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _decoder(message: Any) -> dict[str, Any]:
    """Return the decoder, which removes the space that the normalizer put in front."""
    decoders = [_literal(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if message.normalizer_spec.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": decoders}


def _bpe_data(message: Any) -> Data:
    """Return the tokenizer.json of a BPE: every split of a piece is a merge, ranked by score."""
    names = _piece_names(message)
    scores = {}
    for piece in message.pieces:
        if piece.type == NORMAL:
            scores[piece.piece] = piece.score
    # Normal pieces and the characters that replace byte pieces; only these merge.
    known = set(scores) | (set(names) - set(piece_names(message)))
    merges: list[list[str]] = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        merges += map(list, splits(name, known))
    isolated = user_defined(message)
    model = bpe_model(
        {name: token_id for token_id, name in enumerate(names)},
        merges,
        unk_token=message.pieces[message.trainer_spec.unk_id].piece,
        fuse_unk=True,
        byte_fallback=message.trainer_spec.byte_fallback,
        ignore_merges=bool(isolated),
    )
    pre_tokenizer = None
    if isolated:
        # User-defined pieces cannot be added tokens. Those are matched before normalization, when
        # spaces are not yet "▁".
        steps = [isolate_pieces(isolated), *split_names(model, _hidden_pieces(message))]
        pre_tokenizer = {"type": "Sequence", "pretokenizers": steps}
    return tokenizer_data(
        model,
        normalizer=_normalizer(message),
        pre_tokenizer=pre_tokenizer,
        decoder=_decoder(message),
    )


def _hidden_pieces(message: Any) -> list[str]:
    """Return the pieces that SentencePiece never reads from text."""
    names = _piece_names(message)
    hidden = {UNKNOWN, CONTROL, UNUSED, BYTE}
    return [
        piece.piece
        for piece, name in zip(message.pieces, names, strict=True)
        if piece.type in hidden and name == piece.piece
    ]


def isolate_pieces(pieces: list[str]) -> dict[str, Any]:
    """Return the pre-tokenizer that isolates these strings; earlier ones take precedence."""
    escaped = [regex.escape(piece, special_only=True, literal_spaces=True) for piece in pieces]
    return split_step("|".join(escaped))


def _piece_names(message: Any) -> list[str]:
    """Return the pieces by id; ASCII characters that other pieces need replace byte pieces."""
    names = piece_names(message)
    if not message.trainer_spec.byte_fallback:
        return names
    characters = set("".join(pieces_of_type(message, NORMAL)))
    name_of_byte = {}
    # Only ASCII: each of these bytes is a character of its own and never part of another one.
    for character in filter(str.isascii, characters - set(names)):
        name_of_byte[f"<0x{ord(character):02X}>"] = character
    return [name_of_byte.get(name, name) for name in names]


def _unigram_data(message: Any) -> Data:
    """Return the tokenizer.json of a Unigram."""
    spec = message.trainer_spec
    vocab: list[list[Any]] = []
    for piece in message.pieces:
        score = piece.score
        if piece.type == USER_DEFINED:
            # The score that SentencePiece 0.2 uses instead of the file's, so that they always win.
            score = 0.1 * len(piece.piece.encode()) - 0.1
        vocab.append([piece.piece, score])
    model = {
        "type": "Unigram",
        "unk_id": spec.unk_id,
        "byte_fallback": spec.byte_fallback,
        "vocab": vocab,
    }
    scheme = "always" if message.normalizer_spec.add_dummy_prefix else "never"
    return tokenizer_data(
        model,
        normalizer=_normalizer(message),
        pre_tokenizer=_unigram_pre_tokenizer(message),
        decoder=_decoder(message) if spec.byte_fallback else _metaspace(scheme),
    )


def _metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}


def _unigram_pre_tokenizer(message: Any) -> dict[str, Any] | None:
    """Return a pre-tokenizer that splits before each "▁", unless a piece continues over one."""
    parts: list[dict[str, Any]] = []
    if message.trainer_spec.byte_fallback:
        # A Unigram of `tokenizers` takes any piece that a text spells, "<0x0A>" included.
        # SentencePiece does not read byte pieces from text, so their spellings are split.
        parts.append(split_step("<(?=0x[0-9A-F]{2}>)", "MergedWithPrevious"))
    in_text = pieces_of_type(message, NORMAL, USER_DEFINED)
    if not any(SPACE in piece[1:] for piece in in_text):
        parts.append(_metaspace("never"))
    if len(parts) > 1:
        return {"type": "Sequence", "pretokenizers": parts}
    return parts[0] if parts else None


def _refuse(source: Path, what: str) -> NoReturn:
    msg = f"{source}: {what}"
    raise TokenizerError(msg)
