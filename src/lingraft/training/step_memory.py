"""The memory of a device in a training step, and whether it can keep the activations of all layers.

It is the sum of the training state, split evenly over the devices; the activations and logits of a
micro-batch; and the weights in bfloat16 that it is computed with, which several devices gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lingraft import formatting
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.training.execution import WHOLE_GRADIENTS, Execution
from lingraft.training.mfu import multiplied_weights
from lingraft.training.optimizer_memory import OptimizerName

# Two blocks of 16M float32 numbers: the loss is computed for one block of positions at a time.
LOGITS_BYTES = 2 * 4 * 2**24
# Per gathered parameter of a sharded model: the weight and its gradient in bfloat16, and the
# gradient in float32 while it is reduced.
GATHERED_BYTES = 8
# Per token, and weight of the layers divided by the width. What autograd keeps for a layer was
# counted on a CPU: 4.5 (Llama-2, Llama-3) and 5.3 (Qwen3) in autocast, 3.8 and 4.7 where weights
# are in bfloat16. Layers without a gated MLP keep less (2.8 for GPT-NeoX).
ACTIVATION_BYTES = 4.6
# In float32, 1.54 times as much was counted.
ACTIVATIONS_IN_FLOAT32 = 1.55
# A weight that autocast has converted, in a process of its own.
CONVERTED_BYTES = 2
USABLE = 0.9
"""The share of a device's memory that a step may take; the rest is left to the library."""
RECOMPUTE_TIME = 4 / 3
"""The time of a step that computes the forward pass of its layers twice, compared with one."""

Computes = Literal["autocast", "bfloat16", "float32"]
"""What a step computes in; in autocast, the inputs of layers are float32."""


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model that its memory follows from.

    Attributes:
        parameters: all parameters.
        body: those that are not in an embedding.
        active: those of the body that a token of text is multiplied with.
        multiplied: all that a token of text is multiplied with, the head included.
        width: the size of a hidden state.
        layers: the number of transformer layers.
    """

    parameters: int
    body: int
    active: int
    multiplied: int
    width: int
    layers: int

    @classmethod
    def of(cls, model: Any) -> ModelSizes:
        """Return the sizes of a model without inserted modules, which may be on the meta device."""
        rows, width = model.get_input_embeddings().weight.shape
        parameters = sum(one.numel() for one in model.parameters())
        embeddings = sum(one.numel() for one in embedding_parameters(model).values())
        multiplied = round(sum(count for _, count in multiplied_weights(model)))
        layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
        body, active = parameters - embeddings, multiplied - rows * width
        return cls(parameters, body, active, multiplied, width, layers)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a device in a step: with the activations of all layers `kept`, or `recomputed`."""

    kept: float
    recomputed: float

    def recompute_line(self, available: float, unable: str = "") -> str:
        """Return why activations are recomputed on a device with so much memory; "" if they fit.

        `unable` is the class of a model that cannot recompute them.

        >>> StepMemory(40e9, 20e9).recompute_line(80e9)
        ''
        >>> StepMemory(94e9, 30e9).recompute_line(80e9)  # doctest: +NORMALIZE_WHITESPACE
        'activations are recomputed (a third slower): by estimate, a step takes 94 GB with those
        of all layers, and 30 GB without; 80 GB are free; --no-recompute keeps them'
        """
        if fits(self.kept, available):
            return ""
        kept, recomputed, free = map(formatting.size, (self.kept, self.recomputed, available))
        if unable:
            return (
                f"memory may not suffice: by estimate, a step takes {kept}, and {free} are free; "
                f"{unable} cannot recompute activations"
            )
        doubt = "" if fits(self.recomputed, available) else ", which may not be enough"
        return (
            f"activations are recomputed (a third slower): by estimate, a step takes {kept} with "
            f"those of all layers, and {recomputed} without; {free} are free{doubt}; "
            f"--no-recompute keeps them"
        )


def fits(size: float, available: float) -> bool:
    """Return whether a step of this size fits a device with so much memory, both in bytes."""
    return size < USABLE * available


def step_memory(
    sizes: ModelSizes,
    states: float,
    tokens: int,
    *,
    trained: float,
    devices: int = 1,
    in_4_bits: float = 0,
    computes: Computes = "autocast",
    device_memory: float | None = None,
) -> StepMemory:
    """Return the memory of a step on each of so many devices.

    `states` are the bytes of weights, gradients and moments on all devices, and `trained` counts
    the parameters that train. Weights `in_4_bits` are multiplied as they are, without a copy in
    bfloat16. `tokens` are those of a micro-batch. Without `device_memory`, the
    bytes of a device, nothing is known of what several devices gather.
    """
    memory = states / devices + LOGITS_BYTES
    if computes == "autocast":
        memory += CONVERTED_BYTES * max(0, sizes.multiplied - in_4_bits)
    if device_memory and devices > 1:
        # The embeddings, and two layers: the next is gathered while the current one is computed.
        gathered = sizes.parameters - sizes.body + 2 * sizes.body // max(1, sizes.layers)
        memory += GATHERED_BYTES * gathered
        # A step of several micro-batches reduces gradients once where whole ones fit.
        gradients = 4.0 * trained
        memory += gradients if gradients <= WHOLE_GRADIENTS * device_memory else 0
    kept = tokens * ACTIVATION_BYTES * sizes.active / max(1, sizes.width)
    if computes == "float32":
        kept *= ACTIVATIONS_IN_FLOAT32
    # The input of a layer is float32 in autocast, too.
    inputs = tokens * (2 if computes == "bfloat16" else 4) * sizes.width * sizes.layers
    # A layer then keeps its input, and one layer at a time is computed again.
    recomputed = min(kept, inputs + kept / max(1, sizes.layers))
    return StepMemory(memory + kept, memory + recomputed)


def computes_in(optimizer: OptimizerName, execution: Execution, devices: int) -> Computes:
    """Return what the steps of a phase compute in."""
    if optimizer == "adamw8bit_bfloat16":
        return "bfloat16"
    if not execution.computes_in_bfloat16():
        return "float32"
    # Shards are gathered in bfloat16.
    return "bfloat16" if devices > 1 else "autocast"


def micro_tokens(sequences: int, sequence_tokens: int, devices: int = 1) -> int:
    """Return the tokens of a pass on one of the devices, which share the sequences of a step.

    >>> micro_tokens(64, 1024), micro_tokens(64, 1024, devices=8), micro_tokens(2, 65536)
    (16384, 8192, 65536)
    """
    at_once = max(1, Execution.tokens_at_once // max(1, sequence_tokens))
    return min(at_once, -(-sequences // devices)) * sequence_tokens


def available_memory(device: str) -> float | None:
    """Return the bytes of a GPU that this process has or can get; None for other devices."""
    if not device.startswith("cuda"):
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)
