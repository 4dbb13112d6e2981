"""Frozen linear maps in 4 bits while low-rank matrices train beside them (QLoRA: Dettmers et al. 2023, 2305.14314).

The original weights wait in main memory: the trained matrices are merged into these, so that quantisation leaves no
trace in a frozen weight, only in what was learned beside it.

Low-rank matrices beside frozen weights, merged into them at the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.base import STRATEGIES, ParameterGroup, Strategy
from lingraft.strategies.lora_targets import WHERE, Targets, config_of, targets_of
from lingraft.strategies.parts import layer_stack

if TYPE_CHECKING:
    import torch


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
        few: Any = Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            device="meta",
            compute_dtype=None,
            quant_type="nf4",
        )
        few.weight = Params4bit(
            linear.weight.detach().clone(), requires_grad=False, quant_type="nf4", module=few
        )
        few.bias = linear.bias
        few.support_avx512bf16_for_cpu = (
            False  # measuring would repack it, with rounded scales, in the middle of a run
        )
        setattr(few, ORIGINAL, linear.weight.detach().to("cpu", copy=True))
        replace(model, name, few.to(linear.weight.device))


def merged(layer: Any, adapter: str) -> Any:
    """Return a plain linear map: the original weights plus what the low-rank matrices have learned."""
    import torch

    few = layer.get_base_layer()
    plain = torch.nn.Linear(
        few.in_features, few.out_features, bias=few.bias is not None, device="meta"
    )
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


ADAPTER = "lingraft"
EXPERTS = "expert"
"""How kept matrices are named that belong to the experts of one parameter."""


@STRATEGIES.register
class Lora(Strategy):
    """LoRA on the linear maps of the body, with the added rows trained in full; merged back into a plain model.

    The released settings of arXiv 2406.14670 are `{lora: {rank: 8, alpha: 16, dropout: 0.05, modules: [q_proj,
    v_proj], rows: frozen}}`: there the added rows stay as they were initialised.
    """

    name: ClassVar[str] = "lora"
    reference: ClassVar[str] = "Hu et al. 2021, arXiv 2106.09685"
    small_rates: ClassVar[tuple[float, float]] = (1e-3, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (2e-4, 1e-3)
    reads_whole: ClassVar[str] = "low-rank matrices begin random, beside maps that are there"

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
        """Put low-rank matrices beside the linear maps, and row modules where rows train."""
        try:
            import peft
        except ModuleNotFoundError as error:
            raise MissingExtraError("peft", extra="lora") from error
        from lingraft.strategies.row_modules import put_rows

        targets = targets_of(model, self.target_modules, experts=self.experts == "train")
        check_one_process(targets)
        if self.base_precision == "nf4":
            quantise(model, [f"{targets.stack}.{name}" for name in targets.maps])
        config = config_of(
            targets, model, {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout}
        )
        # Into the layers alone: given the model, PEFT would rename the targets of architectures that it knows.
        with (
            warnings.catch_warnings()
        ):  # PEFT looks for the experts' own rank among modules only, and then takes it
            warnings.filterwarnings(
                "ignore", message=r"The following (rank|alpha)_pattern keys did not match"
            )
            peft.inject_adapter_in_model(
                config, model.get_submodule(targets.stack), adapter_name=ADAPTER
            )
        body = {}
        for name, parameter in model.named_parameters():
            parameter.requires_grad = f".{ADAPTER}." in name
            if parameter.requires_grad:
                body[name] = parameter
        groups = [ParameterGroup("body", body)]
        if added and self.rows == "train":
            groups.append(ParameterGroup("added_rows", put_rows(model, added)))
        return groups

    def learned(self, model: Any) -> dict[str, torch.Tensor]:
        """Return both matrices of each map by its name; alpha / rank is in the second, so that their product is added.

        Shapes: lora_A rank x inputs, lora_B outputs x rank; of experts, the matrices of all under each other.
        """
        kept = {}
        for name, module in lora_layers(model):
            outer = name.partition(".base_layer")[0]
            parameter = getattr(module, "parameter_name", None)
            full, kind = (outer, "lora") if parameter is None else (f"{outer}.{parameter}", EXPERTS)
            kept[f"{full}.{kind}_A"] = module.lora_A[ADAPTER].weight.detach()
            kept[f"{full}.{kind}_B"] = (
                module.lora_B[ADAPTER].weight.detach() * module.scaling[ADAPTER]
            )
        return kept

    def finish(self, model: Any) -> None:
        """Merge the matrices into the weights and take everything out that was put in."""
        from lingraft.strategies.row_modules import RowsEmbedding, take_rows

        if isinstance(model.get_input_embeddings(), RowsEmbedding):
            take_rows(model)
        for name, module in lora_layers(model):
            if is_quantised(module.get_base_layer()):
                replace(model, name, merged(module, ADAPTER))
            else:
                module.merge()
        for name, module in lora_layers(model):
            if ".base_layer" not in name:
                replace(model, name, module.get_base_layer())
        layers = model.get_submodule(layer_stack(model)[0])
        if hasattr(layers, "peft_config"):
            del layers.peft_config
        model._hf_peft_config_loaded = False  # noqa: SLF001 - else save_pretrained would look for adapters


def lora_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the modules that PEFT has put in, by name; one on an experts' parameter may hold another as its base."""
    from peft.tuners.lora import LoraLayer

    return [
        (name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)
    ]


def check_one_process(targets: Targets) -> None:
    """Raise `RecipeError` where several processes would share out experts that carry low-rank matrices."""
    import torch

    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    if targets.experts and shared and torch.distributed.get_world_size() > 1:
        msg = (
            f"{WHERE}: {len(targets.experts)} parameters hold experts, and matrices on these are trained by one "
            f"process only; set experts: frozen"
        )
        raise RecipeError(msg)
