"""Write the settings of a model with gguf's writer, under the names that llama.cpp reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.gguf_architectures import Architecture
from lingraft.checkpoint.gguf_rope import describe_rope, full_rope, head_width

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def describe(
    writer: Any, config: PretrainedConfig, architecture: Architecture
) -> tuple[int, list[str]]:
    """Write the settings of a model with gguf's writer.

    Returns the longest context in which llama.cpp computes as transformers does for every text, and
    notes for the user of the file.
    """
    width = head_width(config)
    heads = config.num_attention_heads
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    # GPT-2 calls it n_inner, and leaves it out for four times the width.
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    writer.add_feed_forward_length(inner or 4 * config.hidden_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    for name, setting in architecture.settings.items():
        value = getattr(config, setting, None)
        if value is not None:
            getattr(writer, f"add_{name}")(value)
    length, notes = _describe_window(writer, config, architecture)
    writer.add_context_length(length)
    rope = full_rope(config)
    if rope:
        describe_rope(writer, config, rope)
    if rope.get("rope_type") == "longrope":
        # transformers decides by the length of the text, llama.cpp by the size of the context.
        length = min(length, rope["original_max_position_embeddings"])
        notes.append(
            f"llama.cpp uses the RoPE factors for long text if the context is above {length:,} "
            f"tokens, even for short text: use -c {length} where that is enough"
        )
    return length, notes


def _describe_window(
    writer: Any, config: PretrainedConfig, architecture: Architecture
) -> tuple[int, list[str]]:
    """Write the sliding window; returns the context length and notes."""
    length = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or []
    if architecture.has_window:
        writer.add_sliding_window(window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in kinds])
        return length, []
    used = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    if not window or not used or window >= length:
        return length, []
    # Within one window, attention with and without it are the same.
    note = (
        f"llama.cpp has no sliding-window attention for {config.model_type}: the context length of "
        f"the file is the window, {window:,} tokens, up to which the results are the same"
    )
    return window, [note]
