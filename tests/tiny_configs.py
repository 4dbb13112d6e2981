"""Small configurations of every architecture that transformers knows, from its own defaults.

`tiny_config` makes every size of a default configuration small, in nested configurations too.
`SETTINGS` has the sizes of a model type that must agree with each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

ROWS = 320
WIDTH = 32
LAYERS = 2

SIZES: Mapping[str, Any] = {
    **dict.fromkeys(
        (
            "hidden_size",
            "d_model",
            "n_embd",
            "dim",
            "embed_dim",
            "embedding_size",
            "word_embed_proj_dim",
            "lru_width",
            "residual_in_embd",
            "model_dim",
            "text_hidden_size",
            "out_hidden_size",
            "vision_hidden_size",
        ),
        WIDTH,
    ),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "ffn_hidden_size",
            "d_ff",
            "dim_ff",
            "n_inner",
            "dff",
            "mlp_dim",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "decoder_ffn_dim",
            "encoder_ffn_dim",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
            "intermediate_size_mlp",
            "expert_hidden_size",
            "moe_latent_size",
        ),
        48,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "depth",
            "decoder_layers",
            "encoder_layers",
        ),
        LAYERS,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "attention_heads",
            "decoder_attention_heads",
            "encoder_attention_heads",
            "mamba_num_heads",
        ),
        4,
    ),
    **dict.fromkeys(
        ("num_key_value_heads", "num_kv_heads", "num_global_key_value_heads", "kv_heads"), 2
    ),
    **dict.fromkeys(
        (
            "head_dim",
            "global_head_dim",
            "d_kv",
            "qk_rope_head_dim",
            "qk_nope_head_dim",
            "v_head_dim",
            "attention_head_dim",
            "mamba_head_dim",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "swa_head_dim",
            "swa_v_head_dim",
            "index_head_dim",
        ),
        8,
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 128),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(
        (
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "moe_num_experts",
            "num_moe_experts",
        ),
        4,
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2
    ),
    **dict.fromkeys(
        (
            "n_group",
            "topk_group",
            "n_shared_experts",
            "first_k_dense_replace",
            "n_groups",
            "num_groups",
            "mamba_n_groups",
            "moe_num_shared_experts",
            "num_shared_experts",
        ),
        1,
    ),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "d_state"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("image_size",), 28),
    **dict.fromkeys(("patch_size",), 14),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "window_size"), 64),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 8),
    **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
    "bos_token_id": 318,
    "eos_token_id": 319,
    **dict.fromkeys(("full_attention_interval", "full_attn_interval"), 2),
    **dict.fromkeys(("audio_token_id", "audio_token_index"), 300),
    **dict.fromkeys(("image_token_id", "image_token_index", "image_patch_id"), 301),
    **dict.fromkeys(("video_token_id", "video_token_index"), 302),
    "vision_start_token_id": 303,
    "vision_end_token_id": 304,
    "vocab_size": ROWS,
    "vocab_size_per_layer_input": ROWS,
    "expand": 2,
    "chunk_size": 16,
    "mamba_expand": 2,
    "num_nextn_predict_layers": 0,
}


def tiny_config(kind: str, **settings: Any) -> Any:
    """Return a small configuration of a model type."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        default = CONFIG_MAPPING[kind]()
        made = {**_small(default, kind), **SETTINGS.get(kind, {}), **settings}
        made.pop("model_type", None)
        return AutoConfig.for_model(kind, **made)


def _small(config: Any, kind: str) -> dict[str, Any]:
    """Return what differs from the defaults: each known size, in nested configurations too."""
    made: dict[str, Any] = {}
    for name, value in config.to_dict().items():
        nested = config.__dict__.get(name)
        if hasattr(nested, "to_dict"):
            key = f"{kind}.{name}"
            made[name] = {
                **_small(nested, key),
                **SETTINGS.get(nested.model_type, {}),
                **SETTINGS.get(key, {}),
                "model_type": nested.model_type,
            }
        elif name == "kv_lora_rank":
            made.update({name: 16, "num_key_value_heads": 4})
        elif name in SIZES and name not in made and not isinstance(value, (list, dict, bool)):
            made[name] = SIZES[name]
    return made


_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_num_heads": 8}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
_MROPE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
}
_GEMMA4 = {**_MIXED, "num_kv_shared_layers": 0, "global_head_dim": 8}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "cohere_compass_text": {
        **_MIXED,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx.attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": {**_GEMMA4, "hidden_size_per_layer_input": 0},
    "gemma3n_text": {
        **_MIXED,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
        "intermediate_size": [48, 48],
    },
    "gemma4": {
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "patch_size": 4,
            "position_embedding_size": 64,
        }
    },
    "gemma3": {"mm_tokens_per_image": 4},
    "gemma3.vision_config": {"image_size": 56},
    "llama4.vision_config": {
        "intermediate_size": 128,
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
    },
    "mistral3.vision_config": {"image_size": 56},
    "paligemma": {"projection_dim": 32},
    "paligemma.vision_config": {"projection_dim": 32},
    "ovis2.vision_config": {"vocab_size": 40},
    "bailing_hybrid": _HYBRID,
    "qwen2_vl_text": _MROPE,
    "qwen2_5_vl_text": _MROPE,
    "qwen3_vl_text": _MROPE,
    "qwen3_vl_moe_text": _MROPE,
    "glm4v_text": _MROPE,
    "glm4v_moe_text": {**_MROPE, "partial_rotary_factor": 1.0},
    "glm_ocr_text": _MROPE,
    "paddleocr_vl_text": _MROPE,
    "qwen2_5_omni_text": _MROPE,
    "glm46v_text": _MROPE,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "qwen3_5_text": _HYBRID,
    "qwen3_5_moe_text": _HYBRID,
    "qwen3_next": _HYBRID,
    "qwen4_exp_text": {
        **_HYBRID,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "ple_layer_ids": [1],
        "ngram_vocab_size_base": 200,
        "heads_per_ngram": 2,
        "split_ngram_parts": 4,
        "make_ngram_vocab_size_divisible_by": 8,
        "hc_lowrank": 8,
        "ple_embed_dim": 32,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 32},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "hybrid", "hybrid"],
        "attention_head_dim": 16,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "attention_head_dim": 16,
    },
}
