"""The architectures of the GGUF export: their settings and the layout of their tensors.

Three layouts differ from transformers. For Llama, llama.cpp applies RoPE to pairs of neighbouring
dimensions and transformers to the two halves, so queries and keys are reordered. GPT-2 stores its
linear layers transposed. GPT-NeoX stores queries, keys and values head by head.
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
    """Return the architecture with which a model is written.

    Raises `ModelError` for a model that llama.cpp computes differently, or not at all.
    """
    kind = str(config.get("model_type"))
    if "vision_config" in config or "audio_config" in config:
        msg = (
            f"config.json: {kind!r} is multimodal, and GGUF stores its language model and the "
            "image encoder in two files; use llama.cpp's own converter (convert_hf_to_gguf.py, and "
            "again with --mmproj), and check its pre-tokenizer"
        )
        raise ModelError(msg)
    if kind not in ARCHITECTURES:
        msg = (
            f"config.json: model_type {kind!r} cannot be exported as GGUF (known: "
            f"{', '.join(sorted(ARCHITECTURES))}); use llama.cpp's own converter, and check its "
            "pre-tokenizer"
        )
        raise ModelError(msg)
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        msg = (
            f"config.json: sliding-window attention ({config['sliding_window']}) cannot be "
            "exported as GGUF; use llama.cpp's own converter"
        )
        raise ModelError(msg)
    _rope(config)  # raises for an unknown scaling
    return ARCHITECTURES[kind]


def rope_factors(config: Config) -> list[float] | None:
    """Return the divisor of each RoPE frequency for the scaling of Llama 3, `None` for others."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    width, length = _head_width(config), rope["original_max_position_embeddings"]
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * _rope_base(config) ** (i / width)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        # As in transformers: short wavelengths stay, long ones are stretched by `factor`, and those
        # between the two bounds are interpolated.
        share = min(1.0, max(0.0, (length / wavelength - low) / (high - low)))
        factors.append(1 / ((1 - share) / rope["factor"] + share))
    return factors


def _rope(config: Config) -> Mapping[str, Any]:
    # transformers 5 writes `rope_parameters`, earlier releases `rope_scaling`.
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rope.setdefault("rope_type", rope.get("type", "default"))
    if rope["rope_type"] not in {"default", "linear", "llama3"}:
        msg = (
            f"config.json: the RoPE scaling {rope['rope_type']!r} cannot be exported as GGUF; use "
            "llama.cpp's own converter"
        )
        raise ModelError(msg)
    return rope


def _rope_base(config: Config) -> float:
    stated = _rope(config).get("rope_theta") or config.get("rope_theta")
    return float(stated or config.get("rotary_emb_base") or 10000.0)


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
        return _interleave_halves(tensor, heads)
    if ".k_proj." in name:
        return _interleave_halves(tensor, config.get("num_key_value_heads") or heads)
    return tensor


def _interleave_halves(tensor: Tensor, heads: int) -> Tensor:
    """Order the outputs of each head as 0, n/2, 1, n/2 + 1, ..."""
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
    # GPT-2's Conv1D stores inputs x outputs, GGUF expects outputs x inputs.
    linear_layers = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return tensor.T if name.endswith(linear_layers) else tensor


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
    # transformers stores q, k, v of head 0, then of head 1; GGUF all q, all k, all v.
    by_head = tensor.reshape(heads, 3, tensor.shape[0] // heads // 3, -1)
    return by_head.transpose(0, 1).reshape(tensor.shape)


def _unchanged(_name: str, tensor: Tensor, _config: Config) -> Tensor:
    return tensor


_LLAMA = Architecture("llama", _describe_llama, _llama_tensor, (".rotary_emb.inv_freq",))

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", _describe_llama, _unchanged, (".rotary_emb.inv_freq",)),
    "gpt2": Architecture("gpt2", _describe_gpt2, _gpt2_tensor, (".attn.bias", ".attn.masked_bias")),
    "gpt_neox": Architecture(
        "gptneox",
        _describe_neox,
        _neox_tensor,
        (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),
    ),
}
"""model_type of transformers -> architecture."""
