"""Linear layers whose frozen weights are stored in 4 bits during training, for low-rank matrices.

The method is QLoRA (Dettmers et al. 2023, arXiv 2305.14314). The original weights stay in main
memory, and the low-rank matrices are merged into the originals, so the result has no quantised
weights. It is in main memory too, because the device may not have room for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError

ORIGINAL = "lingraft_original"
"""The attribute of a 4-bit layer that holds its original weight."""

DEVICES = ("cuda", "cpu", "xpu")
"""The devices on which bitsandbytes computes with 4-bit weights."""


def quantise(model: Any, names: Iterable[str], device: str) -> None:
    """Replace the named linear layers by 4-bit layers (NormalFloat4) on a device.

    Their original weights stay in main memory, in the data type that they have. Raises the errors
    of `check_quantisable`.
    """
    names = list(names)
    check_quantisable(model, names, device)
    from bitsandbytes.functional import quantize_4bit
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name in names:
        linear = model.get_submodule(name)
        quantised: Any = Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            device="meta",
            compute_dtype=None,
            quant_type="nf4",
        )
        original = linear.weight.detach().cpu()
        # The device holds one layer in float32 at a time.
        packed, quantised.quant_state = quantize_4bit(
            original.to(device).float(), compress_statistics=True, quant_type="nf4"
        )
        quantised.weight = Params4bit(
            packed,
            requires_grad=False,
            quant_state=quantised.quant_state,
            quant_type="nf4",
            module=quantised,
            bnb_quantized=True,
        )
        quantised.bias = linear.bias
        # A forward pass in evaluation mode would repack the weights for AVX-512, with rounded
        # scales: measuring in the middle of a run would change the model.
        quantised.support_avx512bf16_for_cpu = False
        setattr(quantised, ORIGINAL, original)
        replace_module(model, name, quantised)


def check_quantisable(model: Any, names: Iterable[str], device: str) -> None:
    """Raise an error where `quantise` cannot replace the named layers.

    That is `MissingExtraError` without bitsandbytes, and `RecipeError` if the device has no 4-bit
    layers, if a layer is not a `Linear`, or if layers share a weight.
    """
    import torch

    try:
        import bitsandbytes  # noqa: F401 - whether it is installed
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    where = "training.strategy.lora.base_precision: nf4"
    kind = torch.device(device).type
    if kind not in DEVICES:
        msg = (
            f"{where}: bitsandbytes does not compute on {kind}; use --device cuda, or "
            f"base_precision: float32"
        )
        raise RecipeError(msg)
    owners: dict[int, str] = {}
    for name in names:
        linear = model.get_submodule(name)
        owner = owners.setdefault(id(linear.weight), name)
        if owner != name:
            # Each would be stored and merged by itself.
            msg = (
                f"{where}: {name} shares the weight of {owner}, and 4-bit layers share none; use "
                f"base_precision: float32"
            )
            raise RecipeError(msg)
        if not isinstance(linear, torch.nn.Linear):
            msg = (
                f"{where}: {name} is a {type(linear).__name__}, and only Linear layers can be "
                f"stored in 4 bits; use base_precision: float32"
            )
            raise RecipeError(msg)


def merge_quantised(layer: Any, adapter: str) -> Any:
    """Return the linear layer of a 4-bit layer, in float32 and in main memory.

    Its weight is the original one plus the low-rank product.
    """
    import torch

    quantised = layer.get_base_layer()
    plain = torch.nn.Linear(
        quantised.in_features,
        quantised.out_features,
        bias=quantised.bias is not None,
        device="meta",
    )
    delta = layer.get_delta_weight(adapter).detach().cpu()
    plain.weight = torch.nn.Parameter(getattr(quantised, ORIGINAL).float() + delta)
    plain.bias = quantised.bias
    return plain


def replace_module(model: Any, name: str, module: Any) -> None:
    """Replace a submodule of a model."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def is_quantised(layer: Any) -> bool:
    """Whether a layer is one that `quantise` inserted."""
    return hasattr(layer, ORIGINAL)
