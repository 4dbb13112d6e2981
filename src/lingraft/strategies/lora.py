"""LoRA: low-rank matrices train next to frozen linear layers and are merged into them at the end.

With `base_precision: nf4`, the frozen layers are stored in 4 bits during training (QLoRA: Dettmers
et al. 2023, arXiv 2305.14314). The original weights stay in main memory, and the low-rank matrices
are merged into the originals. The result therefore has no quantised weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.base import (
    STRATEGIES,
    ParameterGroup,
    Strategy,
    train_added_rows,
    write_added_rows,
)
from lingraft.strategies.lora_targets import WHERE, Targets, find_targets, make_peft_config
from lingraft.strategies.model_parts import layer_stack

if TYPE_CHECKING:
    import torch


ORIGINAL = "lingraft_original"
"""The attribute of a 4-bit layer that holds its original weight."""

DEVICES = ("cuda", "cpu", "xpu")
"""The devices on which bitsandbytes computes with 4-bit weights."""


def quantise(model: Any, names: Iterable[str]) -> None:
    """Replace the named linear layers by 4-bit layers (NormalFloat4) that keep the originals.

    Raises `RecipeError` if the device has no 4-bit layers, or if a layer is not a `Linear`.
    """
    import torch

    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    where = f"{WHERE}.base_precision: nf4"
    if model.device.type not in DEVICES:
        msg = (
            f"{where}: bitsandbytes does not compute on {model.device.type}; use --device cuda, or "
            f"base_precision: float32"
        )
        raise RecipeError(msg)
    for name in names:
        linear = model.get_submodule(name)
        if not isinstance(linear, torch.nn.Linear):
            msg = (
                f"{where}: {name} is a {type(linear).__name__}, and only Linear layers can be "
                f"stored in 4 bits; use base_precision: float32"
            )
            raise RecipeError(msg)
        quantised: Any = Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            device="meta",
            compute_dtype=None,
            quant_type="nf4",
        )
        weight = linear.weight.detach().clone()
        quantised.weight = Params4bit(
            weight, requires_grad=False, quant_type="nf4", module=quantised
        )
        quantised.bias = linear.bias
        # A forward pass in evaluation mode would repack the weights for AVX-512, with rounded
        # scales: measuring in the middle of a run would change the model.
        quantised.support_avx512bf16_for_cpu = False
        setattr(quantised, ORIGINAL, linear.weight.detach().to("cpu", copy=True))
        replace_module(model, name, quantised.to(linear.weight.device))


def merge_quantised(layer: Any, adapter: str) -> Any:
    """Return the linear layer of a 4-bit layer: the original weight plus the low-rank product."""
    import torch

    quantised = layer.get_base_layer()
    plain = torch.nn.Linear(
        quantised.in_features,
        quantised.out_features,
        bias=quantised.bias is not None,
        device="meta",
    )
    delta = layer.get_delta_weight(adapter).detach()
    plain.weight = torch.nn.Parameter(getattr(quantised, ORIGINAL).to(delta.device) + delta)
    plain.bias = quantised.bias
    return plain


def replace_module(model: Any, name: str, module: Any) -> None:
    """Replace a submodule of a model."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


# PEFT's name of the inserted matrices; the names of their parameters contain it.
ADAPTER = "lingraft"
EXPERTS = "expert"
"""The prefix of `_A` and `_B` in stored names of low-rank matrices on a parameter of experts."""


@STRATEGIES.register
class Lora(Strategy):
    """LoRA on the linear layers of the body; the added rows train in full.

    The matrices are merged into the weights at the end. The published settings of arXiv 2406.14670
    are `{lora: {rank: 8, alpha: 16, dropout: 0.05, target_modules: [q_proj, v_proj], rows:
    frozen}}`: there the added rows keep their initialisation.
    """

    name: ClassVar[str] = "lora"
    reference: ClassVar[str] = "Hu et al. 2021, arXiv 2106.09685"
    small_rates: ClassVar[tuple[float, float]] = (1e-3, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (2e-4, 1e-3)
    trained_only_here: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    full_load_reason: ClassVar[str] = "low-rank matrices are initialised next to loaded weights"

    rank: int = Field(default=64, ge=1, description="rank of the adapter matrices")
    alpha: float = Field(
        default=64, gt=0, description="the adapter's product is scaled by alpha / rank"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout probability before the adapter matrices"
    )
    target_modules: tuple[str, ...] = Field(
        default=(),
        description="last names of the adapted linear layers; empty: all linear layers of the body",
    )
    base_precision: Literal["float32", "nf4"] = Field(
        default="float32",
        description="precision of the frozen weights: nf4 takes 4 bits per weight on the device "
        "(extra `bits`, one process) and keeps the originals in main memory for the "
        "merge",
    )
    experts: Literal["train", "frozen"] = Field(
        default="train",
        description="whether experts get adapter matrices too, each of rank / (experts per "
        "token); one process only",
    )
    rows: Literal["train", "frozen"] = Field(
        default="train", description="whether the added rows train (in full)"
    )

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Insert low-rank matrices, and row modules if rows train."""
        try:
            import peft
        except ModuleNotFoundError as error:
            raise MissingExtraError("peft", extra="lora") from error

        targets = find_targets(model, self.target_modules, experts=self.experts == "train")
        check_one_process(targets)
        if self.base_precision == "nf4":
            quantise(model, [f"{targets.stack}.{name}" for name in targets.layers])
        settings = {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout}
        config = make_peft_config(targets, model, settings)
        # Only the layers are passed, because PEFT renames targets when it knows the architecture of
        # the model.
        layers = model.get_submodule(targets.stack)
        with warnings.catch_warnings():
            # PEFT warns that the rank pattern of experts matches no module, but still applies it.
            ignored = r"The following (rank|alpha)_pattern keys did not match"
            warnings.filterwarnings("ignore", message=ignored)
            peft.inject_adapter_in_model(config, layers, adapter_name=ADAPTER)
        body = ParameterGroup("body")
        for name, parameter in model.named_parameters():
            parameter.requires_grad = f".{ADAPTER}." in name
            if parameter.requires_grad:
                body.parameters[name] = parameter
        train_rows = added and self.rows == "train"
        return [body, train_added_rows(model, added)] if train_rows else [body]

    def adapter_state(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the low-rank matrices by layer name: `NAME.lora_A` and `NAME.lora_B`.

        Shapes: lora_A [rank, inputs], lora_B [outputs, rank]. lora_B is multiplied by alpha / rank,
        so that lora_B @ lora_A is the change of the weight. The matrices of the experts of a
        parameter are concatenated.
        """
        state: dict[str, torch.Tensor] = {}
        for name, module in lora_layers(model):
            target, kind = name.partition(".base_layer")[0], "lora"
            parameter = getattr(module, "parameter_name", None)
            if parameter is not None:
                target, kind = f"{target}.{parameter}", EXPERTS
            scale = module.scaling[ADAPTER]
            state[f"{target}.{kind}_A"] = module.lora_A[ADAPTER].weight.detach()
            state[f"{target}.{kind}_B"] = module.lora_B[ADAPTER].weight.detach() * scale
        return state

    def finish(self, model: Any) -> None:
        """Merge the low-rank matrices into the weights and remove every inserted module."""
        write_added_rows(model)
        for name, module in lora_layers(model):
            if is_quantised(module.get_base_layer()):
                replace_module(model, name, merge_quantised(module, ADAPTER))
            else:
                module.merge()
        # Modules on experts are nested (one for each parameter). `get_base_layer` of the outermost
        # returns the module of the architecture, so the inner ones are skipped.
        for name, module in lora_layers(model):
            if ".base_layer" not in name:
                replace_module(model, name, module.get_base_layer())
        layers = model.get_submodule(layer_stack(model)[0])
        if hasattr(layers, "peft_config"):
            del layers.peft_config
        # If this is set, save_pretrained saves an adapter and no weights.
        model._hf_peft_config_loaded = False  # noqa: SLF001 - transformers has no public setting for it


def is_quantised(layer: Any) -> bool:
    """Whether a layer is one that `quantise` inserted."""
    return hasattr(layer, ORIGINAL)


def lora_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the modules that PEFT has inserted, by name.

    A module on an experts' parameter can have another such module as its base layer.
    """
    from peft.tuners.lora import LoraLayer

    modules = model.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, LoraLayer)]


def check_one_process(targets: Targets) -> None:
    """Raise `RecipeError` if experts have low-rank matrices and several processes train."""
    import torch

    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if targets.experts and distributed and torch.distributed.get_world_size() > 1:
        msg = (
            f"{WHERE}: {len(targets.experts)} parameters hold experts, and low-rank matrices on "
            f"experts train in one process only; set experts: frozen, or use one process"
        )
        raise RecipeError(msg)
