"""A Unigram as a SentencePiece file whose ids are those of tokenizer.json.

SentencePiece numbers pieces by their place, so the file is laid out in the order of tokenizer.json. Models of the XLM-R
kind put their special tokens elsewhere in the SentencePiece file than in tokenizer.json; the file written here has no
such shift.

Writing an extended tokenizer so that transformers 4 and 5, `tokenizers` and SentencePiece all read the same ids.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

from lingraft.model_code import OF_TOKENIZER
from lingraft.splice import Splice
from lingraft.tokenizer.json_format import BATCH_SETTINGS, Data
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_bpe import SentencePieceBPE
from lingraft.tokenizer.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    read_message,
)
from lingraft.tokenizer.unigram import Unigram


def write_unigram_file(source: Path, data: Data, target: Path) -> None:
    """Write the pieces and scores of `data` with the normalisation and settings of the file `source`."""
    message = read_message(source)
    kinds = {piece.piece: piece.type for piece in message.pieces if piece.type != UNKNOWN}
    special = {
        token["content"]: CONTROL if token["special"] else USER_DEFINED
        for token in data["added_tokens"]
    }
    roles = {
        role: message.pieces[number].piece if 0 <= number < len(message.pieces) else None
        for role in ("bos", "eos", "pad")
        for number in [getattr(message.trainer_spec, f"{role}_id")]
    }
    del message.pieces[:]
    unknown = data["model"]["unk_id"]
    for token_id, (piece, score) in enumerate(data["model"]["vocab"]):
        kind = UNKNOWN if token_id == unknown else kinds.get(piece) or special.get(piece, NORMAL)
        message.pieces.add(piece=piece, score=score, type=kind)
    places = {piece.piece: token_id for token_id, piece in enumerate(message.pieces)}
    spec = message.trainer_spec
    spec.vocab_size, spec.unk_id, spec.unk_piece = (
        len(message.pieces),
        unknown,
        message.pieces[unknown].piece,
    )
    for role, piece in roles.items():
        setattr(spec, f"{role}_id", places.get(piece, -1))
    message.DiscardUnknownFields()  # self-test samples were cut by the base; loading would fail on them
    target.write_bytes(message.SerializeToString())


CLASS_NAME = "PreTrainedTokenizerFast"
"""The class that loads tokenizer.json as it stands, in transformers 4 and 5. Model-specific classes (GPT2Tokenizer,
LlamaTokenizer, Qwen2Tokenizer) build their own pre-tokenizer in transformers 5 and would undo a repair."""

_REBUILT = {
    "qwen2",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen4_exp",
    "hyperclovax_vision_v2",
}
"""Model types for which AutoTokenizer of transformers 5 takes its own class, whatever the configuration names, and with
it the regex of that class. Only a configuration that names code of its own is spared; that code is not run unless a
caller trusts it, and then it is the file below, which does the same."""

_CODE = '''"""Loads tokenizer.json as it stands, where a loader is told to run a model's own code."""

from transformers import PreTrainedTokenizerFast


class TokenizerAsItStands(PreTrainedTokenizerFast):
    """The tokenizer of tokenizer.json."""
'''

_COPIED = ("chat_template.jinja", "chat_template.json", "special_tokens_map.json")
_OF_THE_CLASS = {"model_config", "auto_map", "backend"}
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
_SENTENCEPIECE = (
    "tokenizer.model",
    "tokenizer.model.v*",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def save_tokenizer(
    source: ModelTokenizer, data: Data, splice: Splice, folder: Path, *, merges: bool = True
) -> None:
    """Write tokenizer.json, its configuration, and tokenizer.model where the source has one.

    `data` is the target's tokenizer.json. Without `merges` (tokens that are only looked up whole) SentencePiece has no
    way to produce the new tokens, and its file is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: value for key, value in data.items() if not key.startswith("lingraft")}
    plain |= batch_settings(source, splice)
    (folder / "tokenizer.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
    config = saved_config(source, plain)
    model_type = source.config.get("model_config", {}).get("model_type")
    changed = plain.get("pre_tokenizer") != source.family.data.get("pre_tokenizer")
    if model_type in _REBUILT or (
        changed and model_type is None
    ):  # a configuration may be put there later
        config["auto_map"] = {
            "AutoTokenizer": [None, f"{Path(OF_TOKENIZER).stem}.TokenizerAsItStands"]
        }
        (folder / OF_TOKENIZER).write_text(_CODE, encoding="utf-8")
    text = json.dumps(config, ensure_ascii=False, indent=1)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    for name in _COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    message = sentencepiece_file(source)
    if message and isinstance(source.family, Unigram):
        write_unigram_file(message, plain, folder / "tokenizer.model")
    elif message and merges:
        _write_message(source, message, splice, folder / "tokenizer.model")


def decoder_of(data: Data) -> dict[str, Any]:
    """Return the added tokens of a tokenizer.json as tokenizer_config.json names them."""
    decoder = {}
    for token in data["added_tokens"]:
        decoder[str(token["id"])] = {key: value for key, value in token.items() if key != "id"}
    return decoder


def batch_settings(source: ModelTokenizer, splice: Splice | None = None) -> Data:
    """Return truncation and padding as the source has them.

    Dropout, which makes ids random, stays out of the result.
    """
    settings: Data = {
        name: copy.deepcopy(source.batch_settings.get(name)) for name in BATCH_SETTINGS
    }
    padding = settings["padding"]
    for target_id, source_id in splice.corresponding.items() if padding and splice else ():
        if source_id == source.batch_settings["padding"].get("pad_id"):
            padding["pad_id"] = target_id
    return settings


def saved_config(source: ModelTokenizer, data: Data) -> dict[str, Any]:
    """Return the tokenizer_config.json for a tokenizer.json that is loaded unchanged.

    The settings of the source stay, but for those that belong to its class.
    """
    config = {key: value for key, value in source.config.items() if key not in _OF_THE_CLASS}
    for role in _ROLES:
        if config.get(role, "") is None:
            del config[role]
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = decoder_of(data)
    clean_up = bool(config.get("clean_up_tokenization_spaces"))
    return {**config, "tokenizer_class": CLASS_NAME, "clean_up_tokenization_spaces": clean_up}


def sentencepiece_file(source: ModelTokenizer) -> Path | None:
    """Return the SentencePiece file beside a tokenizer, where there is one that can be extended."""
    if not isinstance(source.family, SentencePieceBPE | Unigram):
        return None
    found = [path for pattern in _SENTENCEPIECE for path in sorted(source.folder.glob(pattern))]
    return found[0] if found else None


def _write_message(source: ModelTokenizer, path: Path, splice: Splice, target: Path) -> None:
    """Write the pieces in the order of the target's ids, new ones scored below the lowest score.

    SentencePiece numbers pieces by their place: special tokens that were added outside the file take theirs as control
    pieces, which no text spells, other added tokens as user-defined pieces.
    """
    message = read_message(path)
    before = list(message.pieces)
    for token_id in range(len(before), source.size):
        content = source.family.special.get(token_id, f"<unused{token_id}>")
        is_text = token_id in source.family.special.keys() - source.family.control.keys()
        before.append(
            type(before[0])(piece=content, score=0.0, type=USER_DEFINED if is_text else CONTROL)
        )
    lowest = min(
        (piece.score for piece in before if piece.type == NORMAL and piece.score > -1e6),
        default=0.0,
    )
    after = {target_id: before[source_id] for target_id, source_id in splice.corresponding.items()}
    for rank, token in enumerate(splice.new, 1):
        piece = source.family.piece_of(token.surface)
        after[token.id] = type(before[0])(piece=piece, score=lowest - rank, type=NORMAL)
    del message.pieces[:]
    message.pieces.extend(after[token_id] for token_id in range(splice.target_size))
    message.trainer_spec.vocab_size = len(message.pieces)
    target.write_bytes(message.SerializeToString())
