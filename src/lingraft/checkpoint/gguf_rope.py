"""Rotary positions (RoPE) in a GGUF file: the scalings that llama.cpp computes, and their settings.

Scalings of Llama 3 and LongRoPE are stored as tensors of divisors, the others as settings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lingraft.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROPE_TYPES = frozenset({"default", "linear", "yarn"})
"""The RoPE scalings that llama.cpp applies in every architecture."""


def check_rope(config: PretrainedConfig, known: Collection[str], *, partial: bool) -> None:
    """Raise `ModelError` if llama.cpp does not apply the RoPE of a model as transformers does.

    `known` are the scalings that llama.cpp computes for the architecture. `partial` is whether it
    can apply RoPE to a part of the dimensions of a head.
    """
    for layer, rope in _rope_of_layers(config).items():
        # Layers with a window have RoPE without scaling in llama.cpp.
        wrong = _find_unknown(
            rope, {"default"} if layer == "sliding_attention" else known, partial=partial
        )
        if wrong:
            msg = f"config.json: llama.cpp does not compute {wrong} of {config.model_type} models"
            raise ModelError(msg)


def _find_unknown(rope: Mapping[str, Any], known: Collection[str], *, partial: bool) -> str:
    """Return what of RoPE settings llama.cpp does not compute, "" without anything."""
    wrong = ""
    if rope["rope_type"] not in known:
        wrong = f"the RoPE scaling {rope['rope_type']!r}"
    if rope["rope_type"] == "yarn":
        # llama.cpp v0.5.0 ignores the two bounds in the file, and always rounds them.
        for name, fixed in (("beta_fast", 32), ("beta_slow", 1), ("truncate", True)):
            value = rope.get(name)
            if value is not None and value != fixed:
                wrong = f"yarn with {name} {value} (only {fixed})"
    share = rope.get("partial_rotary_factor") or 1.0
    if share != 1.0 and not partial:
        wrong = f"RoPE on a part of a head (partial_rotary_factor {share})"
    return wrong


def head_width(config: PretrainedConfig) -> int:
    """Return the dimensions of an attention head."""
    stated = getattr(config, "head_dim", None)
    return int(stated or config.hidden_size // config.num_attention_heads)


def _rope_of_layers(config: PretrainedConfig) -> dict[str, dict[str, Any]]:
    """Return the RoPE settings by kind of layer; models with one kind have "full_attention"."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer = {kind: values for kind, values in rope.items() if isinstance(values, dict)}
    # Models with settings by kind of layer ignore settings next to these.
    if by_layer or not rope:
        return by_layer
    return {"full_attention": rope}


def full_rope(config: PretrainedConfig) -> dict[str, Any]:
    """Return the RoPE settings of layers without a window, empty for models without RoPE."""
    return _rope_of_layers(config).get("full_attention", {})


def describe_rope(writer: Any, config: PretrainedConfig, rope: Mapping[str, Any]) -> None:
    """Write the RoPE settings of layers without a window with gguf's writer."""
    from gguf import RopeScalingType

    share = rope.get("partial_rotary_factor") or 1.0
    writer.add_rope_dimension_count(int(share * head_width(config)))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    local = _rope_of_layers(config).get("sliding_attention")
    if local:
        writer.add_rope_freq_base_swa(float(local["rope_theta"]))
    kind = rope["rope_type"]
    if kind in {"linear", "yarn"}:
        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(float(rope.get("beta_fast") or 32))
        writer.add_rope_scaling_yarn_beta_slow(float(rope.get("beta_slow") or 1))
        relative_scale = _yarn_attention_scale(rope)
        if relative_scale != 1.0:
            writer.add_rope_scaling_attn_factors(relative_scale)
    if kind == "longrope":
        short_length = rope["original_max_position_embeddings"]
        growth = config.max_position_embeddings / short_length
        scale = rope.get("attention_factor")
        if scale is None:
            scale = math.sqrt(1 + math.log(growth) / math.log(short_length)) if growth > 1 else 1.0
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(short_length)
        writer.add_rope_scaling_attn_factors(scale)


def _yarn_attention_scale(rope: Mapping[str, Any]) -> float:
    """Return the scale of attention, as a multiple of the one that llama.cpp computes itself.

    >>> _yarn_attention_scale({"factor": 8.0, "attention_factor": 0.1 * math.log(8) + 1})
    1.0
    >>> round(_yarn_attention_scale({"factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.5}), 3)
    0.901
    """

    def growth(share: float = 1.0) -> float:
        return 0.1 * share * math.log(rope["factor"]) + 1 if rope["factor"] > 1 else 1.0

    scale = rope.get("attention_factor")
    numerator, denominator = rope.get("mscale"), rope.get("mscale_all_dim")
    if scale is None and numerator and denominator:
        scale = growth(numerator) / growth(denominator)
    # Rounded, as configurations state the factor with fewer digits.
    return 1.0 if scale is None else round(float(scale) / growth(), 7)


def rope_tensors(config: PretrainedConfig) -> Iterator[tuple[str, list[float]]]:
    """Yield the divisors of the RoPE frequencies, for the scalings that GGUF stores as tensors."""
    rope = full_rope(config)
    if rope.get("rope_type") == "longrope":
        yield "rope_factors_long.weight", rope["long_factor"]
        yield "rope_factors_short.weight", rope["short_factor"]
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _llama3_factors(rope, head_width(config))


def _llama3_factors(rope: Mapping[str, Any], width: int) -> list[float]:
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / width)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        # As in transformers: short wavelengths stay, long ones are stretched by `factor`, and those
        # between the two bounds are interpolated.
        turns = rope["original_max_position_embeddings"] / wavelength
        share = min(1.0, max(0.0, (turns - low) / (high - low)))
        factors.append(1 / ((1 - share) / rope["factor"] + share))
    return factors
