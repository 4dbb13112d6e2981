"""Compare config.json and generation_config.json of a returned folder with those handed over.

The received model gets the files of the hand-over, so that a difference is repaired where it does
not change what the model computes. Another setting of the architecture refuses the checkpoint: the
weights were then trained with a model that computes something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lingraft.checkpoint.config_files import ID_LISTS, is_token_id, named_ids
from lingraft.checkpoint.model_class import read_model_config, reads_setting
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.splice import Splice
from lingraft.trainers.returned_faults import Finding

CONFIG, GENERATION = "config.json", "generation_config.json"

LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
"""Names of the context length, which engines shorten to the length of their sequences."""

HARMLESS = (
    *LENGTHS,
    "use_cache",
    "initializer_range",
    "architectures",
    "dtype",
    "torch_dtype",
    "tie_word_embeddings",
    "vocab_size",
    "vocab_size_per_layer_input",
    "output_router_logits",
    "router_aux_loss_coef",
    # `layer_types` says the same (LFM2, ModernBERT); transformers 4 leaves them out or adds them.
    "full_attn_idxs",
    "global_attn_every_n_layers",
)
"""Settings that do not change what a trained model computes, or are compared elsewhere."""

_SHOWN = 3


def compare_configs(
    returned: Path, extended: Path, splice: Splice, checkpoint: Checkpoint, input_name: str
) -> Iterator[Finding]:
    """Yield the findings in the configuration files.

    `checkpoint` is that of the returned folder, `input_name` the name of its embedding.
    """
    if not (returned / CONFIG).is_file():
        yield Finding("missing files", CONFIG, f"no {CONFIG}", "repaired")
    else:
        yield from _compare_size(returned, checkpoint, input_name)
        yield from _compare_settings(returned, extended)
        yield from _compare_ids(returned, extended, CONFIG)
    if (extended / GENERATION).is_file() and (returned / GENERATION).is_file():
        yield from _compare_ids(returned, extended, GENERATION)
    yield from _compare_suppressed(returned, extended, splice)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file, an empty one without the file."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _compare_size(returned: Path, checkpoint: Checkpoint, input_name: str) -> Iterator[Finding]:
    """Yield that config.json states another number of rows than the files hold."""
    place = checkpoint.tensors.get(input_name)
    config = read_model_config(returned).get_text_config(decoder=True)
    stated = getattr(config, "vocab_size", None)
    if place is not None and stated is not None and int(stated) != place.shape[0]:
        what = f"vocab_size {int(stated):,}, {place.shape[0]:,} rows in {input_name}"
        yield Finding("size in config.json", CONFIG, what, "repaired")


def _compare_settings(returned: Path, extended: Path) -> Iterator[Finding]:
    """Yield the settings of the architecture that differ, as transformers reads both files."""
    config, returned_config = read_model_config(extended), read_model_config(returned)
    before, after = _settings(config.to_dict()), _settings(returned_config.to_dict())
    differing: dict[bool, list[str]] = {True: [], False: []}
    for name in sorted(before.keys() | after.keys()):
        old = before.get(name, _left_out(name, config))
        new = after.get(name, _left_out(name, returned_config))
        if old != new:
            last = name.rpartition(".")[2]
            is_harmless = last in HARMLESS or last.endswith(("dropout", "pdrop"))
            is_harmless = is_harmless or _is_unread(name, config)
            differing[is_harmless].append(f"{name} {old} became {new}")
    if differing[False]:
        yield Finding("another model", CONFIG, _listed(differing[False]), "refused")
    shown = [line for line in differing[True] if line.split()[0] in LENGTHS]
    if shown:
        yield Finding("settings in config.json", CONFIG, _listed(shown), "repaired")


def _left_out(name: str, config: Any) -> Any:
    """Return the value of a setting that a configuration leaves out, `None` if there is none.

    transformers 4 writes some that transformers 5 does not: settings that are the same for a whole
    class (Emu3), the size of heads where it follows from others (BLT), and, for a model with a
    language model as its part, settings of this part again (Fuyu).
    """
    part, last = _part_of(name, config)
    value = getattr(part, last, None)
    if value is None and last == "head_dim":
        width, heads = (getattr(part, key, None) for key in ("hidden_size", "num_attention_heads"))
        return width // heads if width and heads else None
    if value is None and part is config:
        text = config.get_text_config(decoder=True)
        value = getattr(text, last, (getattr(text, "rope_parameters", None) or {}).get(last))
    return value


def _part_of(name: str, config: Any) -> tuple[Any, str]:
    """Return the part of a configuration that has a setting, by its dotted name, and its name."""
    *parts, last = name.split(".")
    for part in parts:
        config = getattr(config, part, None)
    return config, last


def _is_unread(name: str, config: Any) -> bool:
    """Whether no code reads a setting, by its dotted name.

    Engines add their own (`unsloth_version`), and other releases of transformers those of earlier
    code.
    """
    from transformers import PretrainedConfig

    part, last = _part_of(name, config)
    if not isinstance(part, PretrainedConfig) or hasattr(PretrainedConfig(), last):
        return False
    return not reads_setting(type(part), last)


def _settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name, without those of saving and of special tokens."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = str(name)  # id2label has numbers as keys
        if key.startswith("_") or key in {"transformers_version", "auto_map"}:
            continue
        if is_token_id(key) or key in ID_LISTS:
            continue
        if isinstance(value, Mapping):
            flat |= _settings(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value
    return flat


def _compare_ids(returned: Path, extended: Path, name: str) -> Iterator[Finding]:
    """Yield the special ids that a file names otherwise."""
    before, after = (named_ids(read_json(folder / name)) for folder in (extended, returned))
    for key in sorted(before.keys() | after.keys()):
        if key in ID_LISTS or before.get(key) == after.get(key):
            continue
        what = f"{key} {before.get(key, 'none')} became {after.get(key, 'none')}"
        is_end = name == GENERATION and key == "eos_token_id"
        fault = "changed EOS in generation_config" if is_end else "changed special ids"
        yield Finding(fault, name, what, "repaired")


def _compare_suppressed(returned: Path, extended: Path, splice: Splice) -> Iterator[Finding]:
    """Yield that padding rows, which have no token, can be generated."""
    wanted, found = (
        {
            number
            for name in (CONFIG, GENERATION)
            for number in read_json(folder / name).get("suppress_tokens") or ()
        }
        for folder in (extended, returned)
    )
    lost = [number for number in wanted - found if number >= splice.target_size]
    if lost:
        what = (
            f"{len(lost):,} ids from {min(lost):,} on have no token and are not in suppress_tokens"
        )
        yield Finding("size larger than the tokenizer", GENERATION, what, "repaired")


def _listed(lines: list[str]) -> str:
    return "; ".join(lines[:_SHOWN]) + (
        f"; and {len(lines) - _SHOWN} more" if lines[_SHOWN:] else ""
    )
