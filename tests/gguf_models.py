"""A small model of each architecture of the GGUF export, and real llama.cpp to compare with.

Layers, heads and windows are few and small, but each differs from what is left out: key and value
heads from heads, the width of a head from width / heads where an architecture allows it, and the
windows are shorter than the texts.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceTrainer

from lingraft.splice import identity_splice
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.small_bases import byte_level

LLAMA_CPP = Path(__file__).parent.parent / ".venv" / "llama.cpp"
ROWS = 420


def write_byte_level(folder: Path) -> None:
    """Write a byte-level tokenizer of the folder's own."""
    (folder / "tokenizer.json").write_text(
        json.dumps(byte_level([*ENGLISH, *HINDI], size=400)), encoding="utf-8"
    )


def write_sentencepiece(folder: Path) -> None:
    """Write a tokenizer.model, as SentencePiece learns it, and the tokenizer.json that it means."""
    learned = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*ENGLISH, *HINDI]),
        model_writer=learned,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(learned.getvalue())
    opened = open_tokenizer(folder)
    save_tokenizer(opened, opened.family.data, identity_splice(opened.size), folder)


def write_gemma(folder: Path) -> None:
    """Write a tokenizer.json like Gemma's: no space before the text, a split that does nothing."""
    write_sentencepiece(folder)
    (folder / "tokenizer.model").unlink()
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    data["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")


@dataclass(frozen=True)
class SmallModel:
    """A model by the class of its configuration, its settings and the writer of its tokenizer."""

    config: str
    settings: Mapping[str, Any]
    tokenizer: Callable[[Path], None] = write_byte_level


SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_WIDE = {**SMALL, "head_dim": 24}
_WINDOWS = {**SMALL, "num_hidden_layers": 4, "sliding_window": 8}
_GEMMA = {**_WINDOWS, "head_dim": 24, "query_pre_attn_scalar": 24}
_EXPERTS = {**SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "long_factor": [1.0, 1.3, 1.6, 1.9, 2.2, 2.5, 2.8, 3.1],
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "original_max_position_embeddings": 256,
}
_WITHOUT_GROUPS = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}

MODELS: Mapping[str, SmallModel] = {
    "llama": SmallModel("LlamaConfig", SMALL, write_sentencepiece),
    "llama, tied": SmallModel("LlamaConfig", {**SMALL, "tie_word_embeddings": True}),
    "llama, biases": SmallModel("LlamaConfig", {**_WIDE, "attention_bias": True, "mlp_bias": True}),
    "llama, llama3 scaling": SmallModel("LlamaConfig", {**SMALL, "rope_parameters": LLAMA3_ROPE}),
    "llama, linear scaling": SmallModel("LlamaConfig", {**SMALL, "rope_parameters": _LINEAR}),
    "llama, yarn with a scale": SmallModel(
        "LlamaConfig", {**SMALL, "rope_parameters": {**YARN, "attention_factor": 1.3}}
    ),
    "mistral": SmallModel("MistralConfig", {**_WIDE, "sliding_window": 40}, write_sentencepiece),
    "mixtral": SmallModel(
        "MixtralConfig",
        {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2},
        write_sentencepiece,
    ),
    "qwen2": SmallModel("Qwen2Config", SMALL),
    "qwen2, yarn": SmallModel("Qwen2Config", {**SMALL, "rope_parameters": YARN}),
    "qwen2_moe": SmallModel("Qwen2MoeConfig", {**_EXPERTS, "shared_expert_intermediate_size": 48}),
    "qwen3": SmallModel("Qwen3Config", _WIDE),
    "qwen3_moe": SmallModel("Qwen3MoeConfig", {**_EXPERTS, "head_dim": 24, "norm_topk_prob": True}),
    "gemma": SmallModel("GemmaConfig", _WIDE, write_gemma),
    "gemma2": SmallModel("Gemma2Config", _GEMMA, write_gemma),
    "gemma3_text": SmallModel(
        "Gemma3TextConfig",
        {
            **_GEMMA,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": _LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            },
        },
        write_gemma,
    ),
    "smollm3": SmallModel("SmolLM3Config", {**SMALL, "num_hidden_layers": 4}),
    "phi3": SmallModel("Phi3Config", {**SMALL, "sliding_window": 100}, write_sentencepiece),
    "phi3, longrope": SmallModel(
        "Phi3Config",
        {**SMALL, "rope_parameters": _LONGROPE, "original_max_position_embeddings": 256},
        write_sentencepiece,
    ),
    "olmo2": SmallModel("Olmo2Config", SMALL),
    "olmo2, tied": SmallModel("Olmo2Config", {**SMALL, "tie_word_embeddings": True}),
    "olmo3": SmallModel("Olmo3Config", _WINDOWS),
    "olmoe": SmallModel(
        "OlmoeConfig",
        {**_EXPERTS, "num_key_value_heads": 4, "intermediate_size": 32},
    ),
    "granite": SmallModel(
        "GraniteConfig",
        {
            **SMALL,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.2,
        },
    ),
    "cohere": SmallModel("CohereConfig", {**SMALL, "logit_scale": 0.5}),
    "cohere2": SmallModel("Cohere2Config", {**_WINDOWS, "logit_scale": 0.5}),
    "starcoder2": SmallModel("Starcoder2Config", SMALL),
    "stablelm": SmallModel("StableLmConfig", {**SMALL, "use_qkv_bias": True}),
    "gpt2": SmallModel(
        "GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024}
    ),
    "gpt_neox": SmallModel("GPTNeoXConfig", _WITHOUT_GROUPS),
    "gpt_neox, tied": SmallModel("GPTNeoXConfig", {**_WITHOUT_GROUPS, "tie_word_embeddings": True}),
}


def build(name: str, folder: Path) -> Path:
    """Save a random model whose every weight matters: also norms and biases are random."""
    import torch
    import transformers

    kind = MODELS[name]
    folder.mkdir()
    kind.tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    config = getattr(transformers, kind.config)(
        vocab_size=ROWS, bos_token_id=None, eos_token_id=None, pad_token_id=None, **kind.settings
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.data += 0.3 * torch.randn_like(weight)
            else:
                torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Job:
    """What llama.cpp is asked: the ids of texts, and the logits of the first `compared` of them.

    Logits are those after each of the first `positions` ids; `count` greedy tokens follow.
    """

    file: Path
    texts: Sequence[str]
    compared: int = 0
    positions: int = 24
    count: int = 3


def ask_llama_cpp(jobs: Sequence[Job], folder: Path) -> list[list[dict[str, Any]]]:
    """Return llama.cpp's answers: for each job and text, its `ids`, `logits` and `greedy` tokens.

    One process answers all. `folder` is for its files.
    """
    asked = [{**vars(job), "file": str(job.file)} for job in jobs]
    (folder / "jobs.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("llama_cpp.mjs")
    ran = subprocess.run(
        ["node", script, LLAMA_CPP, folder / "jobs.json", folder / "answers.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "answers.json").read_text())
