"""SentencePiece model files: reading them, and writing those of extended tokenizers.

SentencePiece numbers pieces by their position in the file, so a written file has the order of ids
of tokenizer.json. Models of the XLM-R kind have special tokens at other positions in the file than
in tokenizer.json; the files written here do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.errors import TokenizerError
from lingraft.splice import Splice
from lingraft.tokenizer.file_names import SENTENCEPIECE_FILES
from lingraft.tokenizer.json_format import Data, merges_of
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_bpe import SentencePieceBPE
from lingraft.tokenizer.unigram import Unigram

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""The types of pieces in a SentencePiece file."""

UNIGRAM, BPE = 1, 2
"""The types of models."""


def read_message(source: Path) -> Any:
    """Parse a SentencePiece model file; raises `TokenizerError` where it is none."""
    # Imported here: this module is loaded with every tokenizer, most of which have no such file.
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
        if not isinstance(piece.piece, str):  # protobuf returns bytes that are not UTF-8 as bytes
            shown = repr(piece.piece[:40])
            msg = f"{source}: piece {number} is {shown}, which is not UTF-8; fetch the file again"
            raise TokenizerError(msg)
    return message


def piece_names(message: Any) -> list[str]:
    """Return the pieces of a SentencePiece model, by id."""
    return [piece.piece for piece in message.pieces]


def pieces_of_type(message: Any, *types: int) -> list[str]:
    """Return the pieces of a SentencePiece model that have one of these types, in order of id."""
    return [piece.piece for piece in message.pieces if piece.type in types]


def user_defined(message: Any) -> list[str]:
    """Return the user-defined pieces of a SentencePiece model, the longest first."""
    pieces = pieces_of_type(message, USER_DEFINED)
    return sorted(pieces, key=lambda piece: (-len(piece), piece))


def sentencepiece_file(source: ModelTokenizer) -> Path | None:
    """Return the SentencePiece file of a tokenizer, where there is one that can be extended."""
    if not isinstance(source.family, SentencePieceBPE | Unigram):
        return None
    for pattern in SENTENCEPIECE_FILES:
        for path in sorted(source.folder.glob(pattern)):
            return path
    return None


def write_unigram_file(source: Path, data: Data, target: Path) -> None:
    """Write the pieces and scores of `data` with the other settings of the file `source`."""
    message = read_message(source)
    kinds = {}
    for piece in message.pieces:
        if piece.type != UNKNOWN:
            kinds[piece.piece] = piece.type
    added_kinds = {}
    for token in data["added_tokens"]:
        added_kinds[token["content"]] = CONTROL if token["special"] else USER_DEFINED
    spec = message.trainer_spec
    roles = {}
    for role in ("bos", "eos", "pad"):
        number = getattr(spec, f"{role}_id")
        if 0 <= number < len(message.pieces):
            roles[role] = message.pieces[number].piece
    del message.pieces[:]
    unknown = data["model"]["unk_id"]
    places = {}
    for token_id, (piece, score) in enumerate(data["model"]["vocab"]):
        kind = kinds.get(piece) or added_kinds.get(piece, NORMAL)
        kind = UNKNOWN if token_id == unknown else kind
        message.pieces.add(piece=piece, score=score, type=kind)
        places[piece] = token_id
    spec.vocab_size = len(message.pieces)
    spec.unk_id = unknown
    spec.unk_piece = message.pieces[unknown].piece
    for role in ("bos", "eos", "pad"):
        setattr(spec, f"{role}_id", places.get(roles.get(role), -1))
    # Unknown fields may hold self-test samples. The base segmented them, so loading would fail.
    message.DiscardUnknownFields()
    target.write_bytes(message.SerializeToString())


def write_bpe_file(source: ModelTokenizer, path: Path, splice: Splice, target: Path) -> None:
    """Write the pieces of the file `path` and the new ones, in the order of the target's ids."""
    message = read_message(path)
    new_piece = type(message.pieces[0])
    before = list(message.pieces)
    family = source.family
    # Tokens that were added outside of the file need positions in it. Control tokens become control
    # pieces, which no text spells; other added tokens become user-defined pieces.
    for token_id in range(len(before), source.size):
        content = family.special.get(token_id, f"<unused{token_id}>")
        is_text = token_id in family.special and token_id not in family.control
        kind = USER_DEFINED if is_text else CONTROL
        before.append(new_piece(piece=content, score=0.0, type=kind))
    if splice.dropped:
        dropped = set(splice.dropped)
        kept = [piece for index, piece in enumerate(before) if index not in dropped]
        _separate_scores(kept, merges_of(family.data))
    lowest = min((piece.score for piece in before if piece.type == NORMAL), default=0.0)
    # Near -1e9, the score of the runs of spaces in Llama-2, numbers of 32 bits are 64 apart, and
    # near -2e9 128. New scores stay above twice the lowest one: steps of 128 keep them apart.
    step = max(1.0, float(np.spacing(np.float32(2 * abs(lowest)))))
    after = {}
    for target_id, source_id in splice.corresponding.items():
        after[target_id] = before[source_id]
    # New pieces rank below all others, in their own order.
    for rank, token in enumerate(splice.new, 1):
        piece = family.piece_of(token.surface)
        after[token.id] = new_piece(piece=piece, score=lowest - rank * step, type=NORMAL)
    del message.pieces[:]
    message.pieces.extend(map(after.__getitem__, range(splice.target_size)))
    message.trainer_spec.vocab_size = len(message.pieces)
    target.write_bytes(message.SerializeToString())


def _separate_scores(pieces: Sequence[Any], merges: Sequence[tuple[str, str]]) -> None:
    """Give each normal piece a score of its own, in the order of the merges in tokenizer.json.

    Of equal scores, SentencePiece merges the leftmost pair, while merges in tokenizer.json have an
    order. Both give the same for the runs of spaces of Llama-2, but not if some of them are gone.
    """
    normal = [piece for piece in pieces if piece.type == NORMAL]
    rank_of: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        rank_of.setdefault(left + right, rank)
    below = np.float32(np.inf)
    for piece in sorted(normal, key=lambda piece: (-piece.score, rank_of.get(piece.piece, -1))):
        below = min(np.float32(piece.score), np.nextafter(below, np.float32(-np.inf)))
        piece.score = float(below)
