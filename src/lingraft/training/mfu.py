"""Model FLOPs utilisation (MFU): the part of a GPU's speed that training turns into the model's own arithmetic.

A token costs 2 FLOPs for each weight that it is multiplied with in the forward pass, 2 for the gradient of what went
in, and 2 for the gradient of the weight where it trains: 6 where all do (Kaplan et al. 2020, arXiv 2001.08361; MFU:
Chowdhery et al. 2022, arXiv 2204.02311). An input embedding is looked up, not multiplied; what attention computes
beside its weights is left out, so that the true share is a little higher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingraft.training.execution import Execution

SPEEDS = {  # dense bfloat16 (float16 where there is none) FLOP/s and bytes of memory, from the vendors' data sheets
    "A10": (125e12, 24e9), "A100": (312e12, 80e9), "A100-40GB": (312e12, 40e9), "A40": (149.7e12, 48e9),
    "B200": (2250e12, 180e9), "H100": (989e12, 80e9), "H200": (989e12, 141e9), "L4": (121e12, 24e9),
    "L40S": (362e12, 48e9), "MI250X": (383e12, 128e9), "MI300X": (1307e12, 192e9), "RTX3090": (71e12, 24e9),
    "RTX4090": (165e12, 24e9), "T4": (65e12, 16e9), "V100": (125e12, 32e9)}


def flops_per_token(multiplied: float, trained: float) -> float:
    """Return the FLOPs of training on a token: weights it is multiplied with, and those of them that train.

    >>> flops_per_token(7e9, 7e9) / 7e9, flops_per_token(7e9, 0) / 7e9
    (6.0, 4.0)
    """
    return 4.0 * multiplied + 2.0 * trained


def kind_of(name: str) -> str | None:
    """Return the entry of `SPEEDS` for the name that a driver gives a device, or None for an unknown one.

    >>> kind_of("NVIDIA A100-SXM4-80GB"), kind_of("NVIDIA GeForce RTX 4090"), kind_of("NVIDIA H200"), kind_of("Vega 20")
    ('A100', 'RTX4090', 'H200', None)
    """
    words = set(re.split(r"[\s\-]+", name.upper().replace("RTX ", "RTX")))
    return next((kind for kind in SPEEDS if kind in words), None)


def peak_of(name: str) -> float | None:
    """Return the FLOP/s of a device by the name that its driver gives it, or None for an unknown one.

    >>> peak_of("NVIDIA A100-SXM4-80GB"), peak_of("Vega 20")
    (312000000000000.0, None)
    """
    kind = kind_of(name)
    return SPEEDS[kind][0] if kind else None


@dataclass(frozen=True)
class Utilisation:
    """FLOPs of a token, and what all devices together could do in a second (None: not known)."""

    flops_a_token: float
    peak: float | None = None

    @classmethod
    def of(cls, model: Any, execution: Execution, devices: int) -> Utilisation:
        """Measure a model whose strategy has frozen what does not train; only bfloat16 on a known GPU has a peak."""
        from torch import cuda

        head = model.get_output_embeddings()
        looked_up = model.get_input_embeddings().weight
        multiplied = [p for p in model.parameters() if p is not looked_up or (head is not None and head.weight is p)]
        numbers = {id(p): p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in multiplied}
        flops = flops_per_token(sum(numbers.values()), sum(p.numel() for p in multiplied if p.requires_grad))
        known = execution.device.startswith("cuda") and execution.computes_in_bfloat16()
        one = peak_of(cuda.get_device_name(execution.device)) if known else None
        return cls(flops, one * devices if one else None)

    def share(self, tokens: int, seconds: float) -> float | None:
        """Return the MFU of so many tokens in so much time.

        >>> Utilisation(6e9, 300e12).share(25_000, 1.0)
        0.5
        """
        return round(self.flops_a_token * tokens / seconds / self.peak, 4) if self.peak and seconds > 0 else None
