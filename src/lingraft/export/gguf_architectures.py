"""The architectures of the GGUF export: their settings and the layout of their tensors.

llama.cpp turns pairs of neighbouring dimensions of Llama's queries and keys by RoPE, transformers
the two halves: their rows are put in the other order. GPT-2 keeps its maps transposed, GPT-NeoX its
queries, keys and values head by head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """An architecture with its name in GGUF.

    `describe` writes its settings with gguf's writer; `tensor` takes a tensor and its name in
    transformers, and returns it in GGUF's layout.
    """

    name: str
    describe: Callable[[Any, Config], None]
    tensor: Callable[[str, Tensor, Config], Tensor]
    skipped: tuple[str, ...] = ()


def architecture_of(config: Config) -> Architecture:
    """Return how a model is written.

    Raises `ModelError` for one that llama.cpp computes otherwise, or not at all.
    """
    kind = str(config.get("model_type"))
    if "vision_config" in config or "audio_config" in config:
        msg = (
            f"config.json: {kind!r} is multimodal, and GGUF keeps its language model and the image "
            "encoder in two files; use llama.cpp's own converter (convert_hf_to_gguf.py, again "
            "with --mmproj), and check its pre-tokenizer"
        )
        raise ModelError(msg)
    if kind not in ARCHITECTURES:
        msg = (
            f"config.json: model_type {kind!r} is not written as GGUF; known: "
            f"{', '.join(sorted(ARCHITECTURES))}; use llama.cpp's own converter, and check its "
            "pre-tokenizer"
        )
        raise ModelError(msg)
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        window = config["sliding_window"]
        msg = f"config.json: sliding-window attention ({window}) is not written as GGUF"
        raise ModelError(msg)
    _rope(config)
    return ARCHITECTURES[kind]


def rope_factors(config: Config) -> list[float] | None:
    """Return the divisor of each RoPE frequency under Llama-3's scaling, else `None`."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    width, length = _head_width(config), rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * _rope_base(config) ** (i / width)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        share = min(1.0, max(0.0, (length / wavelength - low) / (high - low)))
        factors.append(1 / ((1 - share) / rope["factor"] + share))
    return factors


def _rope(config: Config) -> Mapping[str, Any]:
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rope.setdefault("rope_type", rope.get("type", "default"))
    if rope["rope_type"] not in {"default", "linear", "llama3"}:
        msg = f"config.json: positions scaled by {rope['rope_type']!r} are not written as GGUF"
        raise ModelError(msg)
    return rope


def _rope_base(config: Config) -> float:
    named = (
        _rope(config).get("rope_theta"),
        config.get("rope_theta"),
        config.get("rotary_emb_base"),
        10000.0,
    )
    return float(next(filter(None, named)))


def _head_width(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _describe_llama(writer: Any, config: Config) -> None:
    width = _head_width(config)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(_rope_base(config))
    if _rope(config)["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(_rope(config)["factor"])


def _llama_tensor(name: str, tensor: Tensor, config: Config) -> Tensor:
    heads = config["num_attention_heads"]
    if ".q_proj." in name:
        return _neighbours(tensor, heads)
    return (
        _neighbours(tensor, config.get("num_key_value_heads") or heads)
        if ".k_proj." in name
        else tensor
    )


def _neighbours(tensor: Tensor, heads: int) -> Tensor:
    """Put the first and second half of each head's rows in turn: 0, n/2, 1, n/2 + 1, ..."""
    width = tensor.shape[0] // heads
    return tensor.reshape(heads, 2, width // 2, -1).transpose(1, 2).reshape(tensor.shape)


def _describe_gpt2(writer: Any, config: Config) -> None:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def _gpt2_tensor(name: str, tensor: Tensor, _config: Config) -> Tensor:
    maps = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return tensor.T if name.endswith(maps) else tensor


def _describe_neox(writer: Any, config: Config) -> None:
    share = _rope(config).get("partial_rotary_factor") or config.get("rotary_pct", 0.25)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_rope_dimension_count(int(share * _head_width(config)))
    writer.add_rope_freq_base(_rope_base(config))
    writer.add_parallel_residual(config.get("use_parallel_residual", True))
    writer.add_layer_norm_eps(config["layer_norm_eps"])


def _neox_tensor(name: str, tensor: Tensor, config: Config) -> Tensor:
    if ".query_key_value." not in name:
        return tensor
    heads = config["num_attention_heads"]
    return (
        tensor.reshape(heads, 3, tensor.shape[0] // heads // 3, -1)
        .transpose(0, 1)
        .reshape(tensor.shape)
    )


def _as_it_is(_name: str, tensor: Tensor, _config: Config) -> Tensor:
    return tensor


_LLAMA = Architecture("llama", _describe_llama, _llama_tensor, (".rotary_emb.inv_freq",))

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", _describe_llama, _as_it_is, (".rotary_emb.inv_freq",)),
    "gpt2": Architecture("gpt2", _describe_gpt2, _gpt2_tensor, (".attn.bias", ".attn.masked_bias")),
    "gpt_neox": Architecture(
        "gptneox",
        _describe_neox,
        _neox_tensor,
        (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),
    ),
}
"""transformers' model_type -> how it is written."""
