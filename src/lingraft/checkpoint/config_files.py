"""Write the files next to the weights: configurations, processors, licences.

A resized model gets a config.json with the new number of rows and the new special ids. Its
generation_config.json, or config.json without one, suppresses the padding ids. Processors of
multimodal models and licences are copied unchanged. Tokenizer files are not copied from the source:
the extended tokenizer writes its own, and the source's vocab.json or merges.txt would be out of
date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.checkpoint.row_layout import Layout
from lingraft.errors import ModelError
from lingraft.splice import Splice
from lingraft.store import write_json
from lingraft.tokenizer.file_names import TOKENIZER_FILES

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
BAD_WORDS = "bad_words_ids"
"""The setting with lists of ids that are never generated one after another."""

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""The keys under which multimodal configurations store that of their language model."""

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "audio_preprocessor_config.json",
    "feature_extractor_config.json",
    "image_processor_config.json",
)
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*")
COMPANIONS = (*PROCESSOR_FILES, *LICENCES)
COMPANION_FILES = (*COMPANIONS, *TOKENIZER_FILES, "tokenizer*", "generation_config.json")
"""Files that training does not change: they are copied from the model that training began with."""


def named_ids(config: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the token ids that a configuration names, by key.

    Keys of nested parts are prefixed (`text_config.eos_token_id`). Placeholders that are not ids
    (-1, `None`) are left out.

    >>> named_ids({"eos_token_id": [2, 7], "pad_token_id": -1, "hidden_size": 64})
    {'eos_token_id': [2, 7]}
    """
    named: dict[str, list[int]] = {}
    for key, value in config.items():
        if key in TEXT_PARTS and isinstance(value, dict):
            for name, ids in named_ids(value).items():
                named[f"{key}.{name}"] = ids
        elif is_token_id(key):
            values = value if isinstance(value, list) else [value]
            # `type` and not isinstance, for which True is an int.
            ids = [number for number in values if type(number) is int and number >= 0]
            if ids:
                named[key] = ids
    return named


def is_token_id(key: str) -> bool:
    """Whether a setting names one or more tokens by id."""
    return key in SPECIAL_IDS or key.endswith(("_token_id", "_token_index"))


RESIZED_TO = "lingraft_ids"
"""The setting of a model that `lingraft.resize` has resized: its number of ids."""


def write_configs(source: Path, output: Path, splice: Splice, layout: Layout) -> None:
    """Write config.json of the resized model, and generation_config.json if the source has one.

    Without that file, the ids to suppress are written into config.json, like all settings of
    generation there: transformers reads none of them next to a new file, and transformers 4 would
    no longer take the special ids that config.json leaves out from the class of the model.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for part, implied in zip(text_parts(config), _default_ids(config), strict=True):
        renumber_ids(part, splice, source / "config.json")
        part.update(_moved_ids(implied, splice, layout))
        _add_legacy_rope_keys(part)
    # The ids that `lingraft.resize` has noted are those of the source.
    config.pop(RESIZED_TO, None)
    # The number of rows and not of ids: transformers builds the matrices from it.
    set_vocabulary(config, layout.rows)
    path = source / "generation_config.json"
    if path.exists():
        generation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        renumber_ids(generation, splice, path)
        _suppress([generation], splice, layout)
        write_json(output / "generation_config.json", generation, indent=2)
    else:
        _suppress(text_parts(config), splice, layout)
    write_json(output / "config.json", config, indent=2)


def _suppress(parts: Sequence[dict[str, Any]], splice: Splice, layout: Layout) -> None:
    """Write the ids to suppress into the first part, whose settings precede those of the others."""
    before = [part.pop("suppress_tokens", None) for part in parts]
    suppressed = suppressed_ids(next(filter(None, before), []), splice, layout)
    if suppressed:
        parts[0]["suppress_tokens"] = suppressed


def _default_ids(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the special ids that each of `text_parts` leaves to the class of its model type.

    They are not known of a class whose code comes with the model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    found: list[dict[str, Any]] = []
    read: dict[str, Any] = {}
    for part in text_parts(config):
        kind, nested = part.get("model_type"), text_parts(read)[1:]
        if kind in CONFIG_MAPPING_NAMES:
            read = AutoConfig.for_model(kind).to_dict()
        else:
            read = nested[0] if nested else {}
        left_out = (key for key in SPECIAL_IDS if key not in part and read.get(key) is not None)
        found.append({key: read[key] for key in left_out})
    return found


def _moved_ids(implied: Mapping[str, Any], splice: Splice, layout: Layout) -> dict[str, Any]:
    """Return the settings of `_default_ids` that must be stated, as their token has another id.

    One whose token is dropped, or that a new token would get, becomes None and is no error: nobody
    has chosen it.
    """
    target_ids = {source: target for target, source in splice.corresponding.items()}
    beyond = range(max(splice.source_size, layout.vocabulary), sys.maxsize)  # ids without a token
    moved: dict[str, Any] = {}
    for key, value in implied.items():
        ids = value if isinstance(value, list) else [value]
        found = [target_ids.get(i, i if i in beyond else None) for i in ids]
        if found != ids:
            left = [i for i in found if i is not None]
            moved[key] = (left if isinstance(value, list) else left[0]) if left else None
    return moved


def implied_generation(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of generation in config.json.

    transformers reads them there only without generation_config.json, so a new file must hold them.
    """
    from transformers import GenerationConfig

    names = {key for key in vars(GenerationConfig()) if key[0] != "_"} - {"transformers_version"}
    implied: dict[str, Any] = {}
    # The settings of the whole model come before those of a part.
    for part in reversed(text_parts(config)):
        implied |= {key: part[key] for key in part if key in names and part[key] is not None}
    return implied


def suppressed_ids(before: Sequence[int], splice: Splice, layout: Layout) -> list[int]:
    """Return the ids that must never be generated: those of the source, and the padding ids.

    The source's padding ids are dropped: new tokens take the first of them and must be generated,
    and the new padding ids replace the rest.
    """
    new_ids = {token.id for token in splice.new}
    kept = [number for number in before if number < layout.vocabulary and number not in new_ids]
    return [*kept, *range(layout.vocabulary, layout.rows)]


def text_parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configuration and those nested in it, down to that of the language model."""
    parts = [config]
    while True:
        outer = parts[-1]
        for name in TEXT_PARTS:
            if isinstance(outer.get(name), dict):
                parts.append(outer[name])
                break
        else:
            return parts


def context_of(config: dict[str, Any]) -> int | None:
    """Return the longest input that a config.json states, in tokens.

    >>> context_of({"max_seq_len": 2048}), context_of({"max_position_embeddings": -1})
    (2048, None)
    >>> context_of({"max_seq_len": "unknown"})
    """
    # The names of most models, of GPT-2, of MPT, and of older configurations.
    names = (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
    )
    for part in reversed(text_parts(config)):
        for name in names:
            value = part.get(name)
            # -1 or a missing value stands for no limit.
            if isinstance(value, int | float) and value > 0:
                return int(value)
    return None


def set_vocabulary(config: dict[str, Any], rows: int) -> None:
    """Set the number of rows in config.json: for the language model, and where it is repeated.

    A configuration that leaves vocab_size to the default of its type gets it written out. An outer
    vocab_size that differed before counts something else (PaliGemma: without the location tokens)
    and does not change.
    """
    *outer, text = text_parts(config)
    before = text.get("vocab_size")
    for part in outer:
        if "vocab_size" in part and (before is None or part["vocab_size"] == before):
            part["vocab_size"] = rows
    text["vocab_size"] = rows
    if "vocab_size_per_layer_input" in text:
        text["vocab_size_per_layer_input"] = rows


# Names of transformers 4 for the base of the rotary embedding, by model type; of other types, it is
# rope_theta. It knows that name of ModernBERT, too, but does not save it.
_BASE_NAMES = {
    "gpt_neox": ("rope_theta", "rotary_emb_base"),
    "gpt_neox_japanese": ("rope_theta", "rotary_emb_base"),
    "modernbert-decoder": ("global_rope_theta",),
}
# Its names for the base in layers with a window, of the model types that it reads such settings of.
# OLMo 3 has one base for all layers there.
_LOCAL_BASE_NAMES = {
    "gemma3_text": "rope_local_base_freq",
    "gemma3n_text": "rope_local_base_freq",
    "modernbert-decoder": "local_rope_theta",
    "olmo3": "rope_theta",
}


def _add_legacy_rope_keys(part: dict[str, Any]) -> None:
    """Also write the rotary embedding settings under the keys of transformers 4.

    transformers 4 ignores `rope_parameters` and would silently use its defaults.
    """
    rope, kind = part.get("rope_parameters"), part.get("model_type")
    # transformers 5 reads `rope_scaling` in place of `rope_parameters`. A source that has both is
    # read as it is, which another base next to them would change.
    if not isinstance(rope, dict) or part.get("rope_scaling"):
        return
    full, local = rope.get("full_attention"), rope.get("sliding_attention")
    if isinstance(full, dict) and isinstance(local, dict) and kind in _LOCAL_BASE_NAMES:
        part[_LOCAL_BASE_NAMES[kind]] = local.get("rope_theta", 1e4)
        rope = full
    if "rope_theta" not in rope:
        return
    # Not `setdefault`: with `rope_parameters`, a base next to it was not read.
    for name in _BASE_NAMES.get(str(kind), ("rope_theta",)):
        part[name] = rope["rope_theta"]
    if "partial_rotary_factor" in rope:
        part.setdefault("partial_rotary_factor", rope["partial_rotary_factor"])
        if kind in {"gpt_neox", "gpt_neox_japanese"}:
            part.setdefault("rotary_pct", rope["partial_rotary_factor"])
    # transformers 5 applies `rope_scaling` of ModernBERT to the layers with a window, too.
    if rope.get("rope_type", "default") != "default" and kind != "modernbert-decoder":
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        part["rope_scaling"] = scaling


def renumber_ids(part: dict[str, Any], splice: Splice, where: Path) -> None:
    """Replace every special id by its id in the target; an extension changes none.

    Raises `ModelError` if the target has no token for an id, or if a new token would get it.
    """
    new = {token.id: token.text for token in splice.new}
    for key, named in named_ids(part).items():
        for token_id in named:
            if token_id >= splice.source_size and token_id in new:
                msg = (
                    f"{where}: {key} is {token_id}, but the source tokenizer has no such id, and "
                    f"the new token {new[token_id]!r} would get it; correct or remove {key}"
                )
                raise ModelError(msg)
    # An extension keeps every id.
    if splice.is_extension:
        return
    target_ids = {source: target for target, source in splice.corresponding.items()}
    if part.get(BAD_WORDS):
        # A word with a dropped id cannot be generated any more, and a new token may have that id.
        words = [word for word in part[BAD_WORDS] if target_ids.keys() >= set(word)]
        part[BAD_WORDS] = [list(map(target_ids.__getitem__, word)) for word in words] or None
    for key in list(part):
        if part[key] is None or not (is_token_id(key) or key in ID_LISTS):
            continue
        value = part[key]
        ids = value if isinstance(value, list) else [value]
        dropped = [i for i in ids if i not in target_ids and 0 <= i < splice.source_size]
        # A dropped id in a list of suppressed ids needs no suppression any more.
        if dropped and key not in ID_LISTS:
            msg = f"{where}: {key} is {value}, which the splice drops; keep the special tokens"
            raise ModelError(msg)
        renumbered = [target_ids[i] for i in ids if i in target_ids]
        if isinstance(value, list):
            part[key] = renumbered
        elif renumbered:
            part[key] = renumbered[0]
