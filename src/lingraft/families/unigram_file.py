"""A Unigram as a SentencePiece file whose ids are those of tokenizer.json.

SentencePiece numbers pieces by their place, so the file is laid out in the order of tokenizer.json. Models of the XLM-R
kind put their special tokens elsewhere in the SentencePiece file than in tokenizer.json; the file written here has no
such shift.
"""

from __future__ import annotations

from pathlib import Path

from lingraft.families.content import Data
from lingraft.families.sentencepiece_model import read_message

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def write_unigram_file(source: Path, data: Data, target: Path) -> None:
    """Write the pieces and scores of `data` with the normalisation and settings of the file `source`."""
    message = read_message(source)
    kinds = {piece.piece: piece.type for piece in message.pieces if piece.type != UNKNOWN}
    special = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in data["added_tokens"]}
    roles = {role: message.pieces[number].piece if 0 <= number < len(message.pieces) else None
             for role in ("bos", "eos", "pad") for number in [getattr(message.trainer_spec, f"{role}_id")]}
    del message.pieces[:]
    unknown = data["model"]["unk_id"]
    for token_id, (piece, score) in enumerate(data["model"]["vocab"]):
        kind = UNKNOWN if token_id == unknown else kinds.get(piece) or special.get(piece, NORMAL)
        message.pieces.add(piece=piece, score=score, type=kind)
    places = {piece.piece: token_id for token_id, piece in enumerate(message.pieces)}
    spec = message.trainer_spec
    spec.vocab_size, spec.unk_id, spec.unk_piece = len(message.pieces), unknown, message.pieces[unknown].piece
    for role, piece in roles.items():
        setattr(spec, f"{role}_id", places.get(piece, -1))
    message.DiscardUnknownFields()  # self-test samples were cut by the base; loading would fail on them
    target.write_bytes(message.SerializeToString())
