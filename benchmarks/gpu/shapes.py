"""Llama shapes with random weights.

Sizes of real models, so that speed and memory are those of real models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SOURCE_ROWS, ADDED = 32_000, 10_000


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama.

    `batch_rows` are the rows of a training step, `recompute` keeps activations of no layer.
    """

    width: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    batch_rows: int
    recompute: bool = False

    def model(self, rows: int, positions: int, device: str, dtype: torch.dtype) -> Any:
        """Return a model with a vocabulary of so many rows, untied, with random weights."""
        config = LlamaConfig(
            vocab_size=rows,
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            max_position_embeddings=positions,
        )
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                return LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)


SHAPES = {
    "tiny": LlamaShape(64, 172, 2, 4, 2, batch_rows=2),
    "1B": LlamaShape(2048, 5632, 22, 32, 4, batch_rows=8),  # TinyLlama
    "7B": LlamaShape(4096, 11008, 32, 32, 32, batch_rows=4, recompute=True),  # Llama-2
}
"""7B recomputes: its weights, gradients and moments alone are 110 GB in float32."""
