"""The optimizers of a recipe, and the memory that each takes per parameter; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lingraft import formatting

OptimizerName = Literal["adamw", "adamw8bit", "adamw8bit_bfloat16"]

# Moments of 8 bits have a float32 scale for each block of 256.
MOMENTS_8BIT = 2 * (1 + 4 / 256)
STATE_BYTES: dict[OptimizerName, tuple[float, float]] = {
    "adamw": (16, 4),
    "adamw8bit": (8 + MOMENTS_8BIT, 4),
    "adamw8bit_bfloat16": (4 + MOMENTS_8BIT, 2),
}
"""Bytes of a trained parameter (weight, gradient, two moments) and of a frozen one (weight)."""

PACKED_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4 bits: 64 share a scale of 8 bits, and 256 scales share one of float32."""

NOTED_MEMORY = 1e9
"""Bytes from which a plan states the memory of training."""


def state_bytes(
    optimizer: OptimizerName, trained: float, frozen: float, in_4_bits: float = 0
) -> float:
    """Return the bytes of weights, gradients and moments.

    Of the frozen parameters, `in_4_bits` are packed.

    >>> state_bytes("adamw", trained=1e9, frozen=0), state_bytes("adamw", 0, 1e9, in_4_bits=1e9)
    (16000000000.0, 515869140.625)
    """
    of_trained, of_frozen = STATE_BYTES[optimizer]
    plain = of_trained * trained + of_frozen * (frozen - in_4_bits)
    return plain + PACKED_BYTES * in_4_bits


def describe_memory(
    states: Sequence[tuple[float, OptimizerName]], reference: float = 0, processes: int = 1
) -> str:
    """Return the memory of training in one line; "" if it is small.

    `states` are the bytes of each phase, with its optimizer. `reference` are those of the model
    before training, if it stays in memory. `processes` hold a shard each.

    >>> describe_memory([(109e9, "adamw"), (41e9, "adamw8bit_bfloat16")])[:32]
    'training memory: at most 109 GB '
    >>> describe_memory([(128e6, "adamw")])
    ''
    >>> describe_memory([(109e9, "adamw")], 13.6e9)[32:]  # doctest: +NORMALIZE_WHITESPACE
    'for weights, gradients and moments (optimizer adamw), and 13.6 GB for the model before training
    (replay_kl); activations come on top'
    """
    size, largest = max(states)
    if size + reference < NOTED_MEMORY:
        return ""
    shards = f", shared by {processes} processes" if processes > 1 else ""
    kept = f", and {formatting.size(reference)} for the model before training (replay_kl)"
    return (
        f"training memory: at most {formatting.size(size)} for weights, gradients and moments "
        f"(optimizer {largest}){shards}{kept if reference else ''}; activations come on top"
    )
