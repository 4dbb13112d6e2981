"""Shared by the tests of training: packed text, a resized tiny model, interrupted runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_texts
from lingraft.tokenizer import open_tokenizer
from lingraft.training import Execution, TrainingPlan
from lingraft.training.phase_steps import TrainingText
from lingraft.training.train import train
from tests.conftest import ENGLISH, HINDI

ADDED = (300, 305, 306, 311)
"""Ids that stand for added tokens."""


class Killed(Exception):  # noqa: N818 - it stands for kill -9
    """Raised inside of a run to cut it short without any chance to save."""


def packed(model: Path, folder: Path, sentences: tuple[str, ...], **settings: Any) -> Blocks:
    """Return sentences, each many times, packed for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [f"{sentence} {i}" for i in range(15) for sentence in sentences]
    pack_texts(
        [texts],
        open_tokenizer(model),
        PackingSettings.model_validate({"block_size": 32, **settings}),
        folder,
    )
    return Blocks.open(folder)


def two_streams(model: Path, folder: Path, share: float = 0.2) -> TrainingText:
    """Return Hindi to learn and English to replay."""
    return TrainingText.of(
        packed(model, folder / "hi", HINDI), packed(model, folder / "en", ENGLISH), share
    )


def plan_of(**settings: Any) -> TrainingPlan:
    """Return a plan of a few small steps, measured after each."""
    return TrainingPlan.model_validate({"heldout_points": 1000, **settings})


def run(
    model: Path, text: TrainingText, plan: TrainingPlan, folder: Path, **more: Any
) -> dict[str, Any]:
    """Train into `folder`/output, with a checkpoint every third step."""
    more = {"added": ADDED, "execution": Execution(checkpoint_steps=3), **more}
    return train(model, text, plan, output=folder / "output", scratch_dir=folder / "work", **more)


def heldout(model: Any) -> dict[str, float]:
    """Return the loss on a few ids."""
    import torch

    ids = torch.arange(40).view(2, 20) * 7 % 300
    logits = model(input_ids=ids, use_cache=False).logits
    return {
        "hi": float(
            torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        )
    }


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a finished run, without times and without what is predicted of it."""
    lines = (folder / "output" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in map(json.loads, lines)
        if "predicted" not in record
    ]


def weights_of(folder: Path) -> dict[str, Any]:
    """Return the tensors of a model folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


ARCHITECTURES = (
    "bloom",
    "gemma",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "mistral",
    "phi",
    "qwen2",
    "qwen3",
    "xglm",
)
"""Kinds of models beside Llama: the paper's bases and others that people extend."""


def other_model(kind: str, layers: int = 1) -> Any:
    """Return a tiny model of another architecture, with random weights and 64 ids."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    names = {
        "bloom": ("hidden_size", "n_layer", "n_head"),
        "gpt2": ("n_embd", "n_layer", "n_head"),
        "xglm": ("d_model", "num_layers", "attention_heads"),
    }
    width, depth, heads = names.get(
        kind, ("hidden_size", "num_hidden_layers", "num_attention_heads")
    )
    sizes = {
        "vocab_size": 64,
        width: 16,
        depth: layers,
        heads: 2,
        "intermediate_size": 32,
        "ffn_dim": 32,
    }
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    more = {} if kind in names else {"num_key_value_heads": 2, "head_dim": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **ids, **more))
