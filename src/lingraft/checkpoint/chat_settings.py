"""What a model reads chats by: special tokens, chat template, EOS and the ends of a turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.checkpoint.config_files import implied_generation
from lingraft.store import copy_matching, write_json
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.added_tokens import FLAGS, content_of
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES

SPECIAL_MAP = "special_tokens_map.json"
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def rename_special(output: Path, renamed: Mapping[int, str]) -> None:
    """Give tokens of the output, by id, the names of the instruct model's special tokens."""
    if not renamed:
        return
    path = output / "tokenizer.json"
    data = _read_json(path)
    vocab = data["model"]["vocab"]
    entries = {token["id"]: token for token in data["added_tokens"]}
    names: dict[str, str] = {}
    for number, text in renamed.items():
        entry = entries.setdefault(number, {"id": number, **dict.fromkeys(FLAGS, False)})
        if "content" in entry:
            names[entry["content"]] = text
        entry |= {"content": text, "special": True}
    if isinstance(vocab, list):
        vocab = [[renamed.get(i, piece), *rest] for i, (piece, *rest) in enumerate(vocab)]
    else:
        vocab = {renamed.get(number, piece): number for piece, number in vocab.items()}
    data["model"]["vocab"] = vocab
    data["added_tokens"] = [entries[number] for number in sorted(entries)]
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    for path in (output / "tokenizer_config.json", output / SPECIAL_MAP):
        settings = _read_json(path)
        for number, entry in settings.get("added_tokens_decoder", {}).items():
            if int(number) in renamed:
                entry |= {"content": renamed[int(number)], "special": True}
        # Under its old name, transformers would add a token once more.
        for role, value in settings.items():
            if role.endswith("_token") or role in _LISTS:
                settings[role] = _with_names(value, names)
        _write_json(path, settings)


def _with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Return a setting that names tokens, with new names in place of old ones."""
    if isinstance(value, list):
        return [_with_names(entry, names) for entry in value]
    content = content_of(value)
    if content is not None and content in names:
        return names[content]
    if isinstance(value, dict) and content is None:
        return {role: _with_names(entry, names) for role, entry in value.items()}
    return value


def copy_chat_settings(instruct: Path, output: Path, targets: Mapping[int, int]) -> None:
    """Copy the chat template, the EOS token and the ids that end a turn from the instruct model.

    `targets` maps ids of the base to those of the output.
    """
    chat = open_tokenizer(instruct).config
    tokenizer_config = _read_json(output / "tokenizer_config.json")
    if "chat_template" in chat or any(any(instruct.glob(name)) for name in CHAT_TEMPLATE_FILES):
        # A file of the base would take precedence over the instruct model's setting.
        tokenizer_config.pop("chat_template", None)
        for name in CHAT_TEMPLATE_FILES:
            for path in output.glob(name):
                path.unlink()
        copy_matching(instruct, output, CHAT_TEMPLATE_FILES)
    for key in ("chat_template", "eos_token"):
        if key in chat:
            tokenizer_config[key] = chat[key]
    _write_json(output / "tokenizer_config.json", tokenizer_config)
    special_map = _read_json(output / SPECIAL_MAP)
    if "eos_token" in chat and "eos_token" in special_map:
        special_map["eos_token"] = chat["eos_token"]
        _write_json(output / SPECIAL_MAP, special_map)
    generation_config = _read_json(output / "generation_config.json")
    if not generation_config:
        generation_config = implied_generation(_read_json(output / "config.json"))
    ends = _read_json(instruct / "generation_config.json").get("eos_token_id")
    if ends is not None:
        # The splice may have moved ids (`prune` does), so the instruct model's ids are mapped.
        end_ids = ends if isinstance(ends, list) else [ends]
        generation_config["eos_token_id"] = [targets[i] for i in end_ids if i in targets]
        _write_json(output / "generation_config.json", generation_config)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a settings file; an empty one is left out."""
    if content:
        write_json(path, content, indent=2)
