"""The architectures of the GGUF export: their settings and what llama.cpp requires of them.

`ARCHITECTURES` is a table. llama.cpp has some settings of each architecture built in, such as the
activation function. A model with another value is refused, because llama.cpp would load it and
compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.gguf_layouts import (
    Layout,
    gpt2_layout,
    llama_layout,
    neox_layout,
    one_added_to_norms,
    shared_expert_layout,
    unchanged,
)
from lingraft.checkpoint.gguf_rope import (
    ROPE_TYPES,
    check_rope,
    head_width,
)
from lingraft.checkpoint.model_class import UNREADABLE
from lingraft.errors import ModelError, one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Architecture:
    """How llama.cpp knows an architecture of transformers.

    Attributes:
        name: the name in GGUF.
        settings: the settings besides sizes and RoPE: the name of gguf's writer -> transformers'.
        built_in: the settings that llama.cpp has built in: transformers' name -> the value, a
            tuple of values that are the same there, or a function of the configuration.
        layout: takes the name of a tensor, the tensor and the configuration, and returns the tensor
            as llama.cpp expects it.
        rope_types: the RoPE scalings that llama.cpp computes as transformers does.
        has_window: llama.cpp computes sliding-window attention, by the layers of `layer_types`.
        own_head: llama.cpp requires a matrix of the head even if it is tied.
        partial_rope: llama.cpp can apply RoPE to a part of the dimensions of a head.
        required: the settings that llama.cpp replaces with a value of its own if they are `None`.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    built_in: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = unchanged
    rope_types: frozenset[str] = ROPE_TYPES
    has_window: bool = False
    own_head: bool = False
    partial_rope: bool = False
    required: tuple[str, ...] = ()


class UnknownArchitectureError(ModelError):
    """The GGUF export does not have the architecture; llama.cpp's own converter may have it."""


def complete_config(stated: Mapping[str, Any]) -> PretrainedConfig:
    """Return the content of config.json with the defaults of transformers filled in.

    Raises `UnknownArchitectureError` for an architecture that the GGUF export does not have.
    """
    from transformers import AutoConfig

    settings = dict(stated)
    kind = str(settings.pop("model_type", None))
    if "vision_config" in stated or "audio_config" in stated:
        msg = (
            f"config.json: {kind!r} is multimodal, and GGUF stores its language model and the "
            "image encoder in two files (the converter writes the second with --mmproj)"
        )
        raise UnknownArchitectureError(msg)
    if kind not in ARCHITECTURES:
        msg = (
            f"config.json: model_type {kind!r} cannot be exported as GGUF (known: "
            f"{', '.join(sorted(ARCHITECTURES))})"
        )
        raise UnknownArchitectureError(msg)
    try:
        return AutoConfig.for_model(kind, **settings)
    except UNREADABLE as error:
        msg = f"config.json: transformers refuses it ({one_line(error)})"
        raise ModelError(msg) from error


def architecture_of(config: PretrainedConfig) -> Architecture:
    """Return the architecture of a model; raises `ModelError` if llama.cpp would differ."""
    architecture = ARCHITECTURES[config.model_type]
    for name, wanted in architecture.built_in.items():
        value = getattr(config, name, None)
        expected = wanted(config) if callable(wanted) else wanted
        allowed = expected if isinstance(expected, tuple) else (expected,)
        if value is not None and value not in allowed:
            msg = (
                f"config.json: {name} is {value!r}, and llama.cpp computes {config.model_type} "
                f"models with {allowed[0]!r}"
            )
            raise ModelError(msg)
    for name in architecture.required:
        if getattr(config, name, None) is None:
            msg = (
                f"config.json: {name} is not set, and llama.cpp computes {config.model_type} "
                "models with a value of its own then"
            )
            raise ModelError(msg)
    check_rope(config, architecture.rope_types, partial=architecture.partial_rope)
    return architecture


def _square(config: PretrainedConfig) -> int:
    return int(config.hidden_size // config.num_attention_heads)


def _heads(config: PretrainedConfig) -> int:
    return int(config.num_attention_heads)


def _gemma_scale(large: int) -> Callable[[PretrainedConfig], int]:
    """Return the attention scale; llama.cpp tells the largest model by its number of layers."""

    def scale(config: PretrainedConfig) -> int:
        return _square(config) if config.num_hidden_layers == large else head_width(config)

    return scale


def _every_fourth_without_rope(config: PretrainedConfig) -> list[int]:
    return [int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers)]


_RMS = {"layer_norm_rms_eps": "rms_norm_eps"}
_NORM = {"layer_norm_eps": "layer_norm_eps"}
_SILU = {"hidden_act": "silu"}
_PLAIN = {**_SILU, "attention_bias": False, "mlp_bias": False}
_EXPERTS = {
    **_RMS,
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
_ALL_SPARSE = {**_PLAIN, "decoder_sparse_step": 1, "mlp_only_layers": []}
_LLAMA_ROPE = ROPE_TYPES | {"llama3"}
_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu")
"""llama.cpp has one GELU, the approximation by tanh: it differs from the exact one by 0.0005."""
_GEMMA = {
    "attention_bias": False,
    "hidden_activation": _GELU,
    "use_bidirectional_attention": False,
}
_TIED = {"tie_word_embeddings": True}
_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_GRANITE = {
    "attention_scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}

_LLAMA = Architecture("llama", _RMS, _SILU, llama_layout, _LLAMA_ROPE)
_OLMO2 = Architecture("olmo2", _RMS, {**_PLAIN, "head_dim": _square}, own_head=True)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": Architecture(
        "llama",
        {**_RMS, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        _SILU,
        llama_layout,
        _LLAMA_ROPE,
    ),
    "qwen2": Architecture("qwen2", _RMS, {**_SILU, "head_dim": _square}),
    "qwen2_moe": Architecture(
        "qwen2moe",
        _EXPERTS,
        {**_ALL_SPARSE, "norm_topk_prob": False, "head_dim": _square},
        shared_expert_layout,
        own_head=True,
    ),
    "qwen3": Architecture("qwen3", _RMS, _PLAIN),
    "qwen3_moe": Architecture("qwen3moe", _EXPERTS, {**_ALL_SPARSE, "norm_topk_prob": True}),
    "gemma": Architecture(
        "gemma", _RMS, {**_GEMMA, **_TIED, "hidden_act": _GELU}, one_added_to_norms
    ),
    "gemma2": Architecture(
        "gemma2",
        {**_RMS, **_CAPS},
        {**_GEMMA, **_TIED, "query_pre_attn_scalar": _gemma_scale(46)},
        one_added_to_norms,
        has_window=True,
        required=tuple(_CAPS.values()),
    ),
    "gemma3_text": Architecture(
        "gemma3",
        {**_RMS, "final_logit_softcapping": "final_logit_softcapping"},
        {**_GEMMA, "query_pre_attn_scalar": _gemma_scale(62), "attn_logit_softcapping": None},
        one_added_to_norms,
        has_window=True,
    ),
    "smollm3": Architecture(
        "smollm3", _RMS, {**_PLAIN, "no_rope_layers": _every_fourth_without_rope}, llama_layout
    ),
    "phi3": Architecture(
        "phi3",
        _RMS,
        {**_SILU, "head_dim": _square},
        rope_types=ROPE_TYPES | {"longrope"},
        partial_rope=True,
    ),
    "olmo2": _OLMO2,
    "olmo3": Architecture("olmo2", _RMS, _OLMO2.built_in, has_window=True, own_head=True),
    "olmoe": Architecture(
        "olmoe",
        _EXPERTS,
        {
            **_PLAIN,
            "norm_topk_prob": False,
            "clip_qkv": None,
            "head_dim": _square,
            "num_key_value_heads": _heads,
        },
        own_head=True,
    ),
    "granite": Architecture(
        "granite", {**_RMS, **_GRANITE}, {**_PLAIN, "head_dim": _square}, llama_layout
    ),
    "cohere": Architecture(
        "command-r",
        {**_NORM, "logit_scale": "logit_scale"},
        {**_PLAIN, **_TIED, "use_qk_norm": False},
        rope_types=frozenset({"default"}),
    ),
    "cohere2": Architecture(
        "cohere2",
        {**_NORM, "logit_scale": "logit_scale"},
        {**_PLAIN, **_TIED, "head_dim": _square},
        rope_types=frozenset({"default"}),
        has_window=True,
    ),
    "starcoder2": Architecture(
        "starcoder2",
        {"layer_norm_eps": "norm_epsilon"},
        {"hidden_act": _GELU, "use_bias": True},
    ),
    "stablelm": Architecture(
        "stablelm",
        _NORM,
        {**_SILU, "qk_layernorm": False, "use_parallel_residual": False},
        own_head=True,
        partial_rope=True,
    ),
    "gpt2": Architecture(
        "gpt2",
        {"layer_norm_eps": "layer_norm_epsilon"},
        {
            "activation_function": _GELU,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        gpt2_layout,
    ),
    "gpt_neox": Architecture(
        "gptneox",
        {**_NORM, "parallel_residual": "use_parallel_residual"},
        {"hidden_act": _GELU, "attention_bias": True},
        neox_layout,
        own_head=True,
        partial_rope=True,
    ),
}
"""model_type of transformers -> architecture."""
