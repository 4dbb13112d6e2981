"""Frozen linear maps in 4 bits while low-rank matrices train beside them (QLoRA: Dettmers et al. 2023, 2305.14314).

The original weights wait in main memory: the trained matrices are merged into these, so that quantisation leaves no
trace in a frozen weight, only in what was learned beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError

ORIGINAL = "lingraft_original"
DEVICES = ("cuda", "cpu", "xpu")


def quantise(model: Any, names: Iterable[str]) -> None:
    """Put 4-bit maps (NormalFloat4) in the place of linear ones; raises `RecipeError` where that cannot be."""
    import torch

    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    where = "training.strategy.lora.base_precision: nf4"
    if model.device.type not in DEVICES:
        msg = f"{where}: bitsandbytes does not compute on {model.device.type}; use --device cuda, or base: float32"
        raise RecipeError(msg)
    for name in names:
        linear = model.get_submodule(name)
        if not isinstance(linear, torch.nn.Linear):
            msg = f"{where}: {name} is a {type(linear).__name__}, 4 bits are for Linear maps; use base: float32"
            raise RecipeError(msg)
        few: Any = Linear4bit(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta",
                         compute_dtype=None, quant_type="nf4")
        few.weight = Params4bit(linear.weight.detach().clone(), requires_grad=False, quant_type="nf4", module=few)
        few.bias = linear.bias
        few.support_avx512bf16_for_cpu = False  # measuring would repack it, with rounded scales, in the middle of a run
        setattr(few, ORIGINAL, linear.weight.detach().to("cpu", copy=True))
        replace(model, name, few.to(linear.weight.device))


def merged(layer: Any, adapter: str) -> Any:
    """Return a plain linear map: the original weights plus what the low-rank matrices have learned."""
    import torch

    few = layer.get_base_layer()
    plain = torch.nn.Linear(few.in_features, few.out_features, bias=few.bias is not None, device="meta")
    delta = layer.get_delta_weight(adapter).detach()
    plain.weight = torch.nn.Parameter(getattr(few, ORIGINAL).to(delta.device) + delta)
    plain.bias = few.bias
    return plain


def is_quantised(layer: Any) -> bool:
    """Say whether a layer's weights are in 4 bits."""
    return hasattr(layer, ORIGINAL)


def replace(model: Any, name: str, module: Any) -> None:
    """Put a module into the place of another."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
