"""config.json and generation_config.json of a spliced model: the number of rows, the special ids, the padding ids.

Files that belong to a model and are no weights: processors of multimodal models, chat templates, licences.

They come along unchanged. Tokenizer files are not among them: an extended tokenizer writes its own, and the source's
vocab.json or merges.txt would be stale.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lingraft.checkpoint.rewrite import Layout
from lingraft.errors import ModelError
from lingraft.splice import Splice

SPECIAL_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens")


def named_ids(config: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the token ids that a configuration names, by key (`text_config.` and such before it).

    Ids that are no ids (-1, `None`) are left out.

    >>> named_ids({"eos_token_id": [2, 7], "pad_token_id": -1, "hidden_size": 64})
    {'eos_token_id': [2, 7]}
    """
    found: dict[str, list[int]] = {}
    for key, value in config.items():
        if key in TEXT_PARTS and isinstance(value, dict):
            nested = named_ids(value)
            found |= {f"{key}.{name}": ids for name, ids in nested.items()}
        elif is_token_id(key):
            ids = value if isinstance(value, list) else [value]
            ids = [number for number in ids if type(number) is int and number >= 0]
            if ids:
                found[key] = ids
    return found


def is_token_id(key: str) -> bool:
    """Say whether a setting names one or more tokens by id."""
    return key in SPECIAL_IDS or key.endswith(("_token_id", "_token_index"))


def write_configs(source: Path, output: Path, splice: Splice, layout: Layout) -> None:
    """Write both files; a model without generation_config.json gets one where it has ids to suppress."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for part in text_parts(config):
        _renumber(part, splice, source / "config.json")
        _say_twice(part)
    set_vocabulary(config, layout.rows)
    _write(output / "config.json", config)
    generation = _generation(source, config)
    _renumber(generation, splice, source / "generation_config.json")
    beyond = list(range(layout.vocabulary, layout.rows))
    suppressed = [i for i in generation.get("suppress_tokens") or [] if i < layout.vocabulary]
    if suppressed or beyond:
        generation["suppress_tokens"] = [*suppressed, *beyond]
    if generation:
        _write(output / "generation_config.json", generation)


TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configurations keep that of their language model."""


def text_parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the whole configuration and, within it, those of the language model, the innermost last."""
    parts, found = [config], config
    while True:
        inner = next(
            (found[name] for name in TEXT_PARTS if isinstance(found.get(name), dict)), None
        )
        if inner is None:
            return parts
        parts.append(inner)
        found = inner


def set_vocabulary(config: dict[str, Any], rows: int) -> None:
    """Set the number of rows in config.json: always for the language model, and where it was repeated outside of it.

    A configuration that leaves vocab_size to the default of its type gets it written out. A number outside that was
    another one before is something else (PaliGemma's vocab_size without its location tokens) and stays.
    """
    *outer, text = text_parts(config)
    before = text.get("vocab_size")
    for part in outer:
        if "vocab_size" in part and (before is None or part["vocab_size"] == before):
            part["vocab_size"] = rows
    text["vocab_size"] = rows
    if "vocab_size_per_layer_input" in text:
        text["vocab_size_per_layer_input"] = rows


def _say_twice(part: dict[str, Any]) -> None:
    """Name the turning of positions as transformers 4 does, too, which would else take its defaults without a word."""
    turning = part.get("rope_parameters")
    if not isinstance(turning, dict) or "rope_theta" not in turning:
        return
    part.setdefault("rope_theta", turning["rope_theta"])
    if "partial_rotary_factor" in turning:
        part.setdefault("partial_rotary_factor", turning["partial_rotary_factor"])
        if part.get("model_type") == "gpt_neox":
            part.setdefault("rotary_pct", turning["partial_rotary_factor"])
    if turning.get("rope_type", "default") != "default":
        part.setdefault(
            "rope_scaling", {key: value for key, value in turning.items() if key != "rope_theta"}
        )


def _generation(source: Path, config: dict[str, Any]) -> dict[str, Any]:
    path = source / "generation_config.json"
    if path.exists():
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    return {key: config[key] for key in SPECIAL_IDS if isinstance(config.get(key), int)}


def _renumber(part: dict[str, Any], splice: Splice, where: Path) -> None:
    """Give every special id the number that it has in the target; an extension changes none."""
    if splice.is_extension:
        return
    numbers = {source: target for target, source in splice.corresponding.items()}
    for key in [key for key in part if is_token_id(key) or key in ID_LISTS]:
        value = part.get(key)
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        lost = [i for i in ids if i not in numbers and 0 <= i < splice.source_size]
        if lost and key not in ID_LISTS:
            msg = f"{where}: {key} is {value}, which the splice drops; keep the special tokens"
            raise ModelError(msg)
        moved = [numbers[i] for i in ids if i in numbers]
        part[key] = moved if isinstance(value, list) else (moved[0] if moved else value)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "audio_preprocessor_config.json",
    "feature_extractor_config.json",
    "image_processor_config.json",
)
TEMPLATES = ("chat_template.json", "additional_chat_templates/*.jinja")
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*")
COMPANIONS = (*PROCESSOR_FILES, *TEMPLATES, *LICENCES)


def copy_companions(source: Path, output: Path) -> None:
    """Copy the files that belong to a model into another folder of it, those in subfolders too."""
    copy_matching(source, output, COMPANIONS)


def copy_matching(source: Path, output: Path, patterns: Iterable[str]) -> None:
    """Copy the files that any of the patterns names into the same place below another folder."""
    found = {path for pattern in patterns for path in source.glob(pattern) if path.is_file()}
    for path in sorted(found):
        target = output / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
