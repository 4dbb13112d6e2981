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

NOTED_MEMORY = 1e9
"""Bytes from which a plan states the memory of training."""


def describe_memory(
    optimizers: Sequence[OptimizerName],
    parameters: int,
    reference_bytes: int = 0,
    processes: int = 1,
    *,
    trained: Sequence[float] = (),
) -> str:
    """Return the memory of training in one line; "" if it is small. One optimizer for each phase.

    `reference_bytes` are those of a parameter of the model before training, if it stays in memory.
    `processes` hold a shard each. `trained` are the parameters that train in each phase, by default
    all.

    >>> describe_memory(["adamw"], 6_800_000_000)[:32]
    'training memory: at most 109 GB '
    >>> describe_memory(["adamw8bit_bfloat16"], 6_800_000_000)[:33]
    'training memory: at most 41.0 GB '
    >>> describe_memory(["adamw"], 6_800_000_000, trained=[300_000_000])[:33]
    'training memory: at most 30.8 GB '
    >>> describe_memory(["adamw"], 8_000_000)
    ''
    >>> describe_memory(["adamw"], 6_800_000_000, 2)[32:]  # doctest: +NORMALIZE_WHITESPACE
    'for weights, gradients and moments (optimizer adamw), and 13.6 GB for the model before training
    (replay_kl); activations come on top'
    """
    sizes = []
    for name, training in zip(optimizers, trained or [parameters] * len(optimizers), strict=True):
        of_trained, of_frozen = STATE_BYTES[name]
        sizes.append((of_trained * training + of_frozen * (parameters - training), name))
    size, largest = max(sizes)
    reference = reference_bytes * parameters
    if size + reference < NOTED_MEMORY:
        return ""
    shards = f", shared by {processes} processes" if processes > 1 else ""
    kept = f", and {formatting.size(reference)} for the model before training (replay_kl)"
    return (
        f"training memory: at most {formatting.size(size)} for weights, gradients and moments "
        f"(optimizer {largest}){shards}{kept if reference else ''}; activations come on top"
    )
