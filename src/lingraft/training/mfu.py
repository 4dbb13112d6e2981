"""Model FLOPs utilisation (MFU): the FLOP/s that the model needs, as a share of the GPU's peak.

For each weight, a token costs 2 FLOPs in the forward pass, 2 for the gradient of the input, and 2
for the gradient of the weight if it trains: 6 where all weights train (Kaplan et al. 2020, arXiv
2001.08361; MFU: Chowdhery et al. 2022, arXiv 2204.02311). An input embedding is looked up and not
multiplied. The products of queries, keys and values are not counted, so the true share is a little
higher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.experts import active_share, is_expert
from lingraft.strategies.model_parts import text_parameters

if TYPE_CHECKING:
    import torch

    from lingraft.training.execution import Execution

SPEEDS = {
    "A10": (125e12, 24e9),
    "A100": (312e12, 80e9),
    "A100-40GB": (312e12, 40e9),
    "A40": (149.7e12, 48e9),
    "B200": (2250e12, 180e9),
    "H100": (989e12, 80e9),
    "H100-NVL": (835e12, 94e9),
    "H100-PCIE": (756e12, 80e9),
    "H200": (989e12, 141e9),
    "L4": (121e12, 24e9),
    "L40S": (362e12, 48e9),
    "MI250X": (191.5e12, 64e9),  # of one of its two dies, each of which is a device
    "MI300X": (1307e12, 192e9),
    "RTX3090": (71e12, 24e9),
    "RTX4090": (165e12, 24e9),
    "T4": (8.1e12, 16e9),
    "V100": (15.7e12, 32e9),
}
"""Dense bfloat16 FLOP/s and bytes of memory of a device, from data sheets."""
IN_FLOAT32 = frozenset({"T4", "V100"})
"""Devices without bfloat16, whose speed is that of float32: training is in float32 there."""


def flops_per_token(multiplied: float, trained: float) -> float:
    """Return the training FLOPs of a token.

    `multiplied` is the number of weights that the token is multiplied with, `trained` the number of
    these that train.

    >>> flops_per_token(7e9, 7e9) / 7e9, flops_per_token(7e9, 0) / 7e9
    (6.0, 4.0)
    """
    # 2 forward and 2 for the gradient of the input; 2 more for the gradient of a trained weight.
    return 4.0 * multiplied + 2.0 * trained


def multiplied_weights(model: Any) -> Iterator[tuple[torch.nn.Parameter, float]]:
    """Yield the parameters that a text token is multiplied with, and how many numbers of each.

    An embedding is looked up and not multiplied, unless it is the head as well. Of the experts of a
    layer, the token goes through some; of encoders for images or sound, and of layers that attend
    to them (Mllama), through none.
    """
    from torch.nn import Embedding

    # There are embeddings of positions, and of ids for each layer (Gemma 3n).
    embeddings = [module for module in model.modules() if isinstance(module, Embedding)]
    embeddings.append(model.get_input_embeddings())  # with added rows, which may be apart
    looked_up = {id(weight) for module in embeddings for weight in module.parameters()}
    # By identity: the parameters of a tied head are those of the embedding.
    head = model.get_output_embeddings()
    looked_up -= {id(weight) for weight in head.parameters()} if head is not None else set()
    layers = getattr(model.config.get_text_config(), "cross_attention_layers", None) or ()
    skipped = tuple(f".layers.{layer}." for layer in layers)
    active = active_share(model)
    for name, parameter in text_parameters(model).items():
        if id(parameter) not in looked_up and not any(part in name for part in skipped):
            packed = getattr(parameter, "quant_state", None)  # of 4 bits: two numbers in a byte
            count = packed.shape.numel() if packed else parameter.numel()
            yield parameter, count * (active if is_expert(name) else 1)


def kind_of(name: str) -> str | None:
    """Return the key of `SPEEDS` for a device name of the driver, or None if it is not known.

    >>> kind_of("NVIDIA A100-SXM4-80GB"), kind_of("NVIDIA GeForce RTX 4090")
    ('A100', 'RTX4090')
    >>> kind_of("NVIDIA H200"), kind_of("Vega 20"), kind_of("NVIDIA H100 PCIe")
    ('H200', None, 'H100-PCIE')
    """
    words = set(re.split(r"[\s\-]+", name.upper().replace("RTX ", "RTX")))
    found = next((kind for kind in SPEEDS if kind in words), None)
    # Cards of one name differ in speed by their form.
    return next((kind for kind in SPEEDS if kind in {f"{found}-{word}" for word in words}), found)


def peak_of(name: str) -> float | None:
    """Return the peak FLOP/s for a device name of the driver, or None if it is not known.

    >>> peak_of("NVIDIA A100-SXM4-80GB"), peak_of("Vega 20")
    (312000000000000.0, None)
    """
    kind = kind_of(name)
    return SPEEDS[kind][0] if kind else None


@dataclass(frozen=True)
class Utilisation:
    """The FLOPs of a token, and the total peak FLOP/s of all devices (None if not known)."""

    flops_a_token: float
    peak: float | None = None

    @classmethod
    def of(cls, model: Any, execution: Execution, devices: int) -> Utilisation:
        """Count the FLOPs of a model that a strategy has prepared.

        There is a peak only for bfloat16 on a known GPU.
        """
        from torch import cuda

        weights = list(multiplied_weights(model))
        trained = sum(count for parameter, count in weights if parameter.requires_grad)
        flops = flops_per_token(sum(count for _, count in weights), trained)
        known = execution.device.startswith("cuda") and execution.computes_in_bfloat16()
        peak = peak_of(cuda.get_device_name(execution.device)) if known else None
        return cls(flops, peak * devices if peak else None)

    def share(self, tokens: int, seconds: float) -> float | None:
        """Return the MFU of a number of tokens in a number of seconds.

        >>> Utilisation(6e9, 300e12).share(25_000, 1.0)
        0.5
        """
        if not self.peak or seconds <= 0:
            return None
        return round(self.flops_a_token * tokens / seconds / self.peak, 4)
