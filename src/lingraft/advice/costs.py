"""Estimate the cost of an adaptation: FLOPs, GPU-hours, memory and disk; and the gain in serving.

Training costs 6 FLOPs per token and parameter that the token is multiplied with
(`pipeline.model_shape`). The memory is that of `training.step_memory`, by which a training decides
whether it recomputes activations. The estimate ignores communication.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lingraft.errors import RecipeError, did_you_mean
from lingraft.pipeline.model_shape import Shape
from lingraft.training.batch_rule import default_sequences
from lingraft.training.execution import Execution
from lingraft.training.mfu import IN_FLOAT32, SPEEDS, flops_per_token
from lingraft.training.optimizer_memory import STATE_BYTES, OptimizerName, state_bytes
from lingraft.training.step_memory import Computes, fits, step_memory

UTILISATION = 0.4
"""Share of a GPU's data-sheet speed in training of dense models; well-tuned ones reach half."""

CHECKPOINTS_AT_ONCE = 3
"""Two are kept until the next one is written (`training.checkpointing`)."""
SEQUENCE_TOKENS = 2048
"""The fewest tokens of a micro-batch: a sequence of the default length."""


@dataclass(frozen=True)
class Gpus:
    """A number of GPUs of one kind, written H100:8."""

    kind: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """Read KIND or KIND:COUNT; raises `RecipeError` if KIND is not in `SPEEDS`.

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
        """The speed that all GPUs together reach in training."""
        return SPEEDS[self.kind][0] * UTILISATION * self.count

    @property
    def memory(self) -> float:
        """The memory of each GPU in bytes."""
        return SPEEDS[self.kind][1]


@dataclass(frozen=True)
class Cost:
    """The cost of training on `tokens` tokens; memory and disk are in bytes.

    `memory_recomputed` is the memory of a device that recomputes activations, as a training does by
    default where the others do not fit. It computes a third more.
    The hours, `fits` and `fits_recomputed` are `None` if the GPUs are not known.
    """

    tokens: int
    flops: float
    memory_per_device: float
    memory_recomputed: float
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
        """Whether the training fits into a GPU's memory."""
        return self._fits(self.memory_per_device)

    @property
    def fits_recomputed(self) -> bool | None:
        """Whether it fits with recomputed activations."""
        return self._fits(self.memory_recomputed)

    def _fits(self, memory: float) -> bool | None:
        return fits(memory, self.gpus.memory) if self.gpus else None


def cost_of(
    shape: Shape,
    tokens: int,
    gpus: Gpus | None = None,
    *,
    trained: int | None = None,
    micro_tokens: int | None = None,
    optimizer: OptimizerName = "adamw",
) -> Cost:
    """Return the cost of training on `tokens` tokens.

    `trained` is the number of parameters that train, by default all. `micro_tokens` are the tokens
    of a micro-batch on a device, by default those of a training with the default batch. `optimizer`
    is the setting of `training`.

    >>> llama = Shape(6_738_000_000, 32_000, 4096, 32, tied=False)
    >>> cost = cost_of(llama, 200_000_000, Gpus.parse("A40:4"))
    >>> f"{cost.flops:.2g} FLOPs, {cost.hours:.0f} h, {cost.memory_recomputed / 1e9:.0f} GB"
    '7.9e+18 FLOPs, 9 h, 40 GB'
    >>> cost.fits, cost.fits_recomputed, f"{cost.memory_per_device / 1e9:.0f} GB"
    (False, True, '152 GB')
    """
    trained = shape.parameters if trained is None else trained
    devices = gpus.count if gpus else 1
    if micro_tokens is None:
        micro_tokens = _default_micro_tokens(shape.parameters, tokens, devices)
    computes: Computes = "autocast" if devices == 1 else "bfloat16"
    if optimizer == "adamw8bit_bfloat16":
        computes = "bfloat16"
    elif gpus and gpus.kind in IN_FLOAT32:
        computes = "float32"
    memory = step_memory(
        shape.sizes,
        state_bytes(optimizer, trained, shape.parameters - trained),
        micro_tokens,
        trained=trained,
        devices=devices,
        computes=computes,
        device_memory=gpus.memory if gpus else None,
    )
    # Two models in bfloat16, the extended and the adapted one; and the checkpoints of training,
    # each with the weight and two moments of a trained parameter: its state without the gradient.
    of_trained, of_frozen = STATE_BYTES[optimizer]
    disk = 2.0 * shape.parameters * 2 + CHECKPOINTS_AT_ONCE * (of_trained - of_frozen) * trained
    flops = tokens * flops_per_token(shape.multiplied, shape.multiplied)
    return Cost(tokens, flops, memory.kept, memory.recomputed, disk, gpus)


def _default_micro_tokens(parameters: int, tokens: int, devices: int) -> int:
    """Return the tokens of a device at once: its part of the default batch, within a limit.

    >>> _default_micro_tokens(8_000_000_000, 10**9, 8), _default_micro_tokens(8_000_000, 10**9, 1)
    (16375, 2050)
    """
    batch = default_sequences(1, parameters, tokens)
    return max(SEQUENCE_TOKENS, min(Execution.tokens_at_once, -(-batch // devices)))


def serving_gain(shape: Shape, before: float, after: float, added: int) -> float:
    """Return how many times cheaper serving a byte becomes with `added` rows.

    `before` and `after` are tokens per byte. The cost of the added rows in the head is counted.

    >>> round(serving_gain(Shape(6_738_000_000, 32_000, 4096, 32, tied=False), 1.0, 0.5, 10_000), 3)
    1.988
    """
    return before * shape.serving.per_token(0) / (after * shape.serving.per_token(added))
