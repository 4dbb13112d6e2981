"""The costs of an adaptation: FLOPs, GPU-hours, memory, disk; and the gain in serving.

Training costs 6 FLOPs for each token and each parameter that it is multiplied with (all but the
looked-up input embedding). Weights, gradients and AdamW's two moments are float32, 16 bytes for
each trained parameter and 4 for a frozen one, split evenly over the devices; logits and activations
of a micro-batch come on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import RecipeError, did_you_mean
from lingraft.training.mfu import SPEEDS, flops_per_token
from lingraft.vocabulary import ServingCost

UTILISATION = 0.4
"""Share of a GPU's data-sheet speed in training of dense models; well-tuned ones reach half."""

TRAINED_BYTES, FROZEN_BYTES = 16, 4
CHECKPOINTS_KEPT = 2
MICRO_TOKENS = 4096
LOGITS_BYTES = 2 * 4 * 2**24
"""Two blocks of 16M float32 numbers: the loss is made a block of positions at a time."""

GATHERED_BYTES = 8
"""Per gathered parameter of a sharded model: the weight and its gradient, float32."""

ACTIVATION_BYTES = 34
"""Per token and unit of width, in the layer that is recomputed (Korthikanti et al. 2022)."""


@dataclass(frozen=True)
class Gpus:
    """So many GPUs of a kind, written H100:8."""

    kind: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """Read KIND or KIND:COUNT; raises `RecipeError` with the known kinds.

        >>> Gpus.parse("h100:8"), Gpus.parse("A40").count
        (Gpus(kind='H100', count=8), 1)
        """
        found = re.fullmatch(r"([A-Za-z0-9-]+)(?::([1-9][0-9]*))?", text.strip())
        kinds = {kind.lower(): kind for kind in SPEEDS}
        if found is None or found[1].lower() not in kinds:
            hint = did_you_mean(text.partition(":")[0], SPEEDS)
            msg = f"--gpus {text!r}: expected KIND:COUNT, like H100:8; {hint}"
            raise RecipeError(msg)
        return cls(kinds[found[1].lower()], int(found[2] or 1))

    @property
    def flops_per_second(self) -> float:
        """What all of them reach in training."""
        return SPEEDS[self.kind][0] * UTILISATION * self.count

    @property
    def memory(self) -> float:
        """Bytes on each."""
        return SPEEDS[self.kind][1]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model: all its parameters, and what of them are embeddings."""

    parameters: int
    rows: int
    width: int
    layers: int
    tied: bool

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """Read the sizes of a model folder."""
        from lingraft.bases.folder import read_config
        from lingraft.checkpoint import Checkpoint, embedding_names
        from lingraft.checkpoint.config_files import text_parts

        checkpoint = Checkpoint.open(folder)
        names, config = embedding_names(checkpoint), read_config(folder)
        named = ("num_hidden_layers", "n_layer", "num_layers")
        text = text_parts(config)[-1]
        layers = next((int(text[key]) for key in named if key in text), 0)
        return cls(checkpoint.parameters, names.rows, names.width, layers, names.tied)

    def extended(self, added: int) -> Shape:
        """Return the sizes with so many rows added."""
        grown = added * self.width * (1 if self.tied else 2)
        return Shape(self.parameters + grown, self.rows + added, self.width, self.layers, self.tied)

    @property
    def body(self) -> int:
        """Parameters that are no embedding."""
        return self.parameters - self.rows * self.width * (1 if self.tied else 2)

    @property
    def whole(self) -> int:
        """Parameters gathered on each device: embeddings, head, one layer and the next."""
        return self.parameters - self.body + 2 * self.body // max(1, self.layers)

    @property
    def multiplied(self) -> int:
        """Parameters that a token is multiplied with: the body and the head."""
        return self.body + self.rows * self.width

    @property
    def serving(self) -> ServingCost:
        """The FLOPs of a token."""
        return ServingCost(2.0 * self.body, 2.0 * self.width, self.rows)


@dataclass(frozen=True)
class Cost:
    """The costs of a training; memory and disk are in bytes."""

    tokens: int
    flops: float
    memory_per_device: float
    disk: float
    gpus: Gpus | None = None

    @property
    def hours(self) -> float | None:
        """Wall-clock hours."""
        return self.flops / self.gpus.flops_per_second / 3600 if self.gpus else None

    @property
    def gpu_hours(self) -> float | None:
        """Hours of all GPUs together."""
        return self.hours * self.gpus.count if self.gpus and self.hours is not None else None

    @property
    def fits(self) -> bool | None:
        """Whether it fits, with a tenth of the memory left to the library."""
        return self.memory_per_device < 0.9 * self.gpus.memory if self.gpus else None


def cost_of(
    shape: Shape,
    tokens: int,
    gpus: Gpus | None = None,
    *,
    trained: int | None = None,
    micro_tokens: int = MICRO_TOKENS,
) -> Cost:
    """Return the cost of training on `tokens` tokens; `trained` parameters, by default all.

    >>> llama = Shape(6_738_000_000, 32_000, 4096, 32, tied=False)
    >>> cost = cost_of(llama, 200_000_000, Gpus.parse("A40:4"))
    >>> f"{cost.flops:.2g} FLOPs, {cost.hours:.0f} h, {cost.memory_per_device / 1e9:.0f} GB"
    '7.9e+18 FLOPs, 9 h, 34 GB'
    >>> cost.fits
    True
    """
    trained = shape.parameters if trained is None else trained
    states = TRAINED_BYTES * trained + FROZEN_BYTES * (shape.parameters - trained)
    activations = (
        micro_tokens * shape.width * (ACTIVATION_BYTES + 2.0 * shape.layers)
    )  # 2: what enters each layer
    memory = states / (gpus.count if gpus else 1) + activations + LOGITS_BYTES
    if gpus and gpus.count > 1:
        memory += GATHERED_BYTES * shape.whole
    disk = (
        2.0 * shape.parameters * 2 + CHECKPOINTS_KEPT * 12.0 * trained
    )  # spliced and adapted model, progress
    return Cost(
        tokens, tokens * flops_per_token(shape.multiplied, shape.multiplied), memory, disk, gpus
    )


def serving_gain(shape: Shape, before: float, after: float, added: int) -> float:
    """Return how many times cheaper serving a byte gets; the larger head is counted.

    >>> round(serving_gain(Shape(6_738_000_000, 32_000, 4096, 32, tied=False), 1.0, 0.5, 10_000), 3)
    1.988
    """
    return before * shape.serving.per_token(0) / (after * shape.serving.per_token(added))
