"""Published layouts that differ from what save_pretrained writes today.

Each is a small random model whose tensors are renamed to those of a published checkpoint, with
config.json as published: Qwen2-VL's is flat, Gemma 3's has no vocab_size, and several releases of
transformers saved LLaVA under different names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.architecture_sweep import build

Config = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint differs: names, configuration, further tensors and files."""

    kind: str
    renames: tuple[tuple[str, str], ...] = ()
    configure: Callable[[Config], None] = lambda _config: None
    more: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda _tensors: {}
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


def publish(layout: Layout, folder: Path) -> Path:
    """Write a small model in a published layout, in two shards."""
    source = build(layout.kind, folder, dtype="bfloat16", **layout.settings)
    tensors = take_tensors(source, layout.renames)
    write_shards({**tensors, **layout.more(tensors)}, source, 2)
    config = json.loads((source / "config.json").read_text())
    layout.configure(config)
    (source / "config.json").write_text(json.dumps(config))
    for name in layout.files:
        (source / name).write_bytes((source / "model-00001-of-00002.safetensors").read_bytes())
    return source


def take_tensors(folder: Path, renames: Iterable[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Return the tensors of a folder under their published names, and remove their files."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        for saved, tensor in load_file(file).items():
            name = saved
            for pattern, replacement in renames:
                name = re.sub(pattern, replacement, name)
            tensors[name] = tensor
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    return tensors


def write_shards(tensors: Mapping[str, torch.Tensor], folder: Path, count: int) -> None:
    """Write the tensors in so many files and an index, or in model.safetensors."""
    names = sorted(tensors)
    shards = {
        f"model-{shard + 1:05}-of-{count:05}.safetensors": names[shard::count]
        for shard in range(count)
    }
    if count == 1:
        shards = {"model.safetensors": names}
    for file_name, held in shards.items():
        held_tensors = {name: tensors[name].contiguous() for name in held}
        save_file(held_tensors, folder / file_name, {"format": "pt"})
    if count > 1:
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {name: file_name for file_name, held in shards.items() for name in held},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _flat(config: Config) -> None:
    """Put the text configuration on the top, as Qwen2-VL and Qwen2.5-VL are published."""
    text = config.pop("text_config")
    config.update(
        {
            key: value
            for key, value in text.items()
            if key not in {"model_type", "architectures", "dtype"}
        }
    )
    config["torch_dtype"] = config.pop("dtype", "bfloat16")


def _tied_in_the_text_part(config: Config) -> None:
    config.pop("tie_word_embeddings", None)
    config["text_config"]["tie_word_embeddings"] = True


def _without_vocabulary(config: Config) -> None:
    """Leave out what is the default of the type, as Gemma 3 is published."""
    config.pop("vocab_size", None)
    config["text_config"].pop("vocab_size")
    for name in ("use_cache", "attention_dropout", "initializer_range", "query_pre_attn_scalar"):
        config["text_config"].pop(name, None)


def _mtp(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a multi-token prediction layer with its own norm and shared embeddings."""
    return {
        "mtp.fc.weight": torch.zeros(32, 64, dtype=torch.bfloat16),
        "mtp.norm.weight": torch.ones(32, dtype=torch.bfloat16),
    }


def _mtp_with_embeddings(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the multi-token prediction layer of DeepSeek-V3 and GLM-4.5, with own embeddings."""
    return {
        "model.layers.2.embed_tokens.weight": tensors["model.embed_tokens.weight"].clone(),
        "model.layers.2.shared_head.head.weight": tensors["lm_head.weight"].clone(),
        "model.layers.2.shared_head.norm.weight": torch.ones(32, dtype=torch.bfloat16),
        "model.layers.2.eh_proj.weight": torch.zeros(32, 64, dtype=torch.bfloat16),
    }


def _masks(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        f"h.{layer}.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bfloat16) for layer in range(2)
    }


_INNER_VISION = ((r"^vision_tower\.(?!vision_model)", "vision_tower.vision_model."),)
_SAVED_BY_4_52 = (
    (r"^language_model\.lm_head", "lm_head"),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^vision_tower\.(vision_model\.)?", "model.vision_tower.vision_model."),
    (r"^multi_modal_projector", "model.multi_modal_projector"),
)

LAYOUTS: Mapping[str, Layout] = {
    "Qwen2-VL": Layout("qwen2_vl", configure=_flat),
    "Qwen2.5-VL": Layout("qwen2_5_vl", configure=_flat),
    "Gemma 3": Layout(
        "gemma3",
        _INNER_VISION,
        _without_vocabulary,
        settings={
            "text_config": {
                "model_type": "gemma3_text",
                "vocab_size": 262208,
                "hidden_size": 8,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "head_dim": 8,
                "num_attention_heads": 1,
                "num_key_value_heads": 1,
            }
        },
    ),
    "LLaVA 1.5": Layout("llava", _INNER_VISION),
    "LLaVA saved by transformers 4.52": Layout("llava", _SAVED_BY_4_52),
    "PaliGemma": Layout("paligemma", _INNER_VISION),
    "Mistral Small 3.1": Layout("mistral3", files=("consolidated.safetensors",)),
    "InternVL 3, tied in its text part": Layout(
        "internvl", configure=_tied_in_the_text_part, settings={"tie_word_embeddings": True}
    ),
    "Qwen3.5 with a layer of multi-token prediction": Layout("qwen3_5", more=_mtp),
    "DeepSeek-V3 with a layer of multi-token prediction": Layout(
        "deepseek_v3", more=_mtp_with_embeddings
    ),
    "GLM-4.5 with a layer of multi-token prediction": Layout("glm4_moe", more=_mtp_with_embeddings),
    "DeepSeek-V4": Layout(
        "deepseek_v4",
        (
            (r"^model\.embed_tokens", "embed"),
            (r"^model\.hc_head\.hc_", "hc_head_"),
            (r"^model\.", ""),
        ),
    ),
    "GPT-2": Layout("gpt2", ((r"^transformer\.", ""),), more=_masks),
    "BLOOM": Layout("bloom", ((r"^transformer\.", ""),)),
    "Mistral with its own file": Layout("mistral", files=("consolidated.safetensors",)),
}
"""Published layouts by the family that has them."""
