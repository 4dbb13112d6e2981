"""Writing an extended tokenizer so that transformers 4 and 5, `tokenizers` and SentencePiece agree.

All of them read the same ids from the written folder.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from lingraft.model_code import OF_TOKENIZER
from lingraft.splice import Splice
from lingraft.store import copy_matching, write_json
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES
from lingraft.tokenizer.json_format import BATCH_SETTINGS, Data
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_file import (
    sentencepiece_file,
    write_bpe_file,
    write_unigram_file,
)
from lingraft.tokenizer.unigram import Unigram

# This class loads tokenizer.json unchanged, in transformers 4 and 5. Model-specific classes
# (GPT2Tokenizer, LlamaTokenizer, Qwen2Tokenizer) build their own pre-tokenizer in transformers 5
# and would undo a changed one.
CLASS_NAME = "PreTrainedTokenizerFast"

# For these model types AutoTokenizer of transformers 5 ignores the configured class and uses its
# own one, with its own regular expression. Only a configuration that names code of its own is
# exempt. That code is not run unless a caller trusts it, and then it is `_CODE`, which loads
# tokenizer.json unchanged as well.
_REBUILT_TYPES = {
    "qwen2",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen4_exp",
    "hyperclovax_vision_v2",
}

_CODE = '''\
"""Loads tokenizer.json unchanged, for loaders that run custom code (trust_remote_code)."""

from transformers import PreTrainedTokenizerFast


class TokenizerAsItStands(PreTrainedTokenizerFast):
    """The tokenizer of tokenizer.json."""
'''

_COPIED = (*CHAT_TEMPLATE_FILES, "special_tokens_map.json")
_CLASS_SETTINGS = {"model_config", "auto_map", "backend"}
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def save_tokenizer(
    source: ModelTokenizer, data: Data, splice: Splice, folder: Path, *, merges: bool = True
) -> None:
    """Write tokenizer.json, its configuration, and tokenizer.model where the source has one.

    `data` is the target's tokenizer.json. Without `merges`, the model finds new tokens only by
    looking up whole words. SentencePiece cannot do that, so no tokenizer.model is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: value for key, value in data.items() if not key.startswith("lingraft")}
    plain |= batch_settings(source, splice)
    (folder / "tokenizer.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
    config = saved_config(source, plain)
    if _needs_own_code(source, plain):
        code_class = f"{Path(OF_TOKENIZER).stem}.TokenizerAsItStands"
        config["auto_map"] = {"AutoTokenizer": [None, code_class]}
        (folder / OF_TOKENIZER).write_text(_CODE, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    copy_matching(source.folder, folder, _COPIED)
    message = sentencepiece_file(source)
    if message and isinstance(source.family, Unigram):
        write_unigram_file(message, plain, folder / "tokenizer.model")
    elif message and merges:
        write_bpe_file(source, message, splice, folder / "tokenizer.model")


def _needs_own_code(source: ModelTokenizer, data: Data) -> bool:
    model_type = source.config.get("model_config", {}).get("model_type")
    if model_type is None:
        # A config.json of any model type may be added to the folder later.
        parts = ("pre_tokenizer", "normalizer")
        return any(data.get(part) != source.family.data.get(part) for part in parts)
    return model_type in _REBUILT_TYPES


def decoder_of(data: Data) -> dict[str, Any]:
    """Return the added tokens of a tokenizer.json as the `added_tokens_decoder` of a config."""
    decoder = {}
    for token in data["added_tokens"]:
        entry = dict(token)
        decoder[str(entry.pop("id"))] = entry
    return decoder


def batch_settings(source: ModelTokenizer, splice: Splice | None = None) -> Data:
    """Return the truncation and padding of the source; dropout, which randomises ids, is left out.

    With a `splice`, the id of the padding token is mapped to the target.
    """
    settings: Data = {}
    for name in BATCH_SETTINGS:
        settings[name] = copy.deepcopy(source.batch_settings.get(name))
    padding = settings["padding"]
    if padding and splice:
        source_id = padding.get("pad_id")
        for target_id, corresponding_id in splice.corresponding.items():
            if corresponding_id == source_id:
                padding["pad_id"] = target_id
    return settings


def saved_config(source: ModelTokenizer, data: Data) -> dict[str, Any]:
    """Return the tokenizer_config.json for a tokenizer.json that is loaded unchanged.

    It keeps the settings of the source, except those that belong to its class.
    """
    config = dict(source.config)
    for key in _CLASS_SETTINGS:
        config.pop(key, None)
    for role in _ROLES:
        if config.get(role, "") is None:
            del config[role]
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = decoder_of(data)
    clean_up = bool(config.get("clean_up_tokenization_spaces"))
    return {**config, "tokenizer_class": CLASS_NAME, "clean_up_tokenization_spaces": clean_up}
