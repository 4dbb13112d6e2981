"""Writing an extended tokenizer so that transformers 4 and 5, `tokenizers` and SentencePiece all read the same ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from lingraft.families.base import Data, ModelTokenizer
from lingraft.families.convert import read_message
from lingraft.families.sentencepiece import SentencePieceBPE

CLASS_NAME = "PreTrainedTokenizerFast"
"""The class that loads tokenizer.json as it stands, in transformers 4 and 5. Model-specific classes (GPT2Tokenizer,
LlamaTokenizer, Qwen2Tokenizer) build their own pre-tokenizer in transformers 5 and would undo a repair."""

_COPIED = ("chat_template.jinja", "chat_template.json", "special_tokens_map.json")
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4


def save_tokenizer(source: ModelTokenizer, data: Data, surfaces: Sequence[bytes], folder: Path) -> None:
    """Write tokenizer.json, its configuration, and tokenizer.model where the source has one.

    `data` is the extended tokenizer.json, `surfaces` are the added tokens in the order of their ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: value for key, value in data.items() if not key.startswith("lingraft")}
    (folder / "tokenizer.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
    config = {key: value for key, value in source.config.items() if key not in {"model_config", "auto_map", "backend"}}
    config = {key: value for key, value in config.items() if value is not None or key not in _ROLES}
    config |= {"tokenizer_class": CLASS_NAME, "clean_up_tokenization_spaces": config.get("clean_up_tokenization_spaces", False)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for name in _COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    message = sentencepiece_file(source)
    if message:
        _extend_message(source, message, surfaces, folder / "tokenizer.model")


def sentencepiece_file(source: ModelTokenizer) -> Path | None:
    """Return the SentencePiece BPE file beside a tokenizer, where there is one that can be extended."""
    if not isinstance(source.family, SentencePieceBPE):
        return None
    found = [path for pattern in ("tokenizer.model", "tokenizer.model.v*") for path in sorted(source.folder.glob(pattern))]
    return found[0] if found else None


def _extend_message(source: ModelTokenizer, path: Path, surfaces: Sequence[bytes], target: Path) -> None:
    """Append pieces below the lowest score. Tokens that were added outside the file take their ids first."""
    message = read_message(path)
    for token_id in range(len(message.pieces), source.size):
        message.pieces.add(piece=source.family.special.get(token_id, f"<unused{token_id}>"), score=0.0, type=_CONTROL)
    lowest = min((piece.score for piece in message.pieces if piece.type == _NORMAL and piece.score > -1e6), default=0.0)
    for rank, surface in enumerate(surfaces, 1):
        message.pieces.add(piece=source.family.piece_of(surface), score=lowest - rank, type=_NORMAL)
    message.trainer_spec.vocab_size = len(message.pieces)
    target.write_bytes(message.SerializeToString())
