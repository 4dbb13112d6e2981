"""LoRA: low-rank matrices train next to frozen linear layers and are merged into them at the end.

With `base_precision: nf4`, the frozen layers are stored in 4 bits during training
(`quantised_layers`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.checkpoint.experts import active_share, is_expert
from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.base import (
    STRATEGIES,
    ParameterGroup,
    Strategy,
    train_added_rows,
)
from lingraft.strategies.lora_targets import (
    WHERE,
    Targets,
    expert_rank,
    find_targets,
    make_peft_config,
)
from lingraft.strategies.model_parts import layer_root
from lingraft.strategies.quantised_layers import (
    check_quantisable,
    is_quantised,
    merge_quantised,
    quantise,
    replace_module,
)

if TYPE_CHECKING:
    import torch


# PEFT's name of the inserted matrices; the names of their parameters contain it.
ADAPTER = "lingraft"
EXPERTS = "expert"
"""The prefix of `_A` and `_B` in stored names of low-rank matrices on a parameter of experts."""


@STRATEGIES.register
class Lora(Strategy):
    """LoRA on the linear layers of the body; the added rows train in full.

    The matrices are merged into the weights at the end. The paper arXiv 2406.14670 prints no
    settings; the defaults of its released code are `{lora: {rank: 8, alpha: 16, dropout: 0.05,
    target_modules: [q_proj, v_proj], rows: frozen}}`: the added rows keep their initialisation.
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

    @property
    def quantises(self) -> bool:
        """Whether `move` stores the adapted layers in 4 bits."""
        return self.base_precision == "nf4"

    def check(self, model: torch.nn.Module, device: str | None = None) -> None:
        """Raise `RecipeError` if there is nothing to adapt, or layers cannot be quantised."""
        targets = find_targets(model, self.target_modules, experts=self.experts == "train")
        if self.quantises and device:
            check_quantisable(model, targets.linear_layers, device)

    def move(self, model: torch.nn.Module, device: str) -> None:
        """Move the model; with `base_precision: nf4`, quantise the adapted layers on the way."""
        if self.quantises:
            targets = find_targets(model, self.target_modules, experts=self.experts == "train")
            quantise(model, targets.linear_layers, device)
            # All other weights are in the data types of the files.
            model.float()
        model.to(device)

    def trained_body_share(self, layers: int) -> float:  # noqa: ARG002 - none of them trains
        """Return 0: the body is frozen, next to the low-rank matrices."""
        return 0.0

    def trained_rows(self, rows: int, added: int) -> int:  # noqa: ARG002 - no others train
        """Return the number of the added rows, unless they are frozen."""
        return added if self.rows == "train" else 0

    def inserted_weights(self, model: torch.nn.Module) -> tuple[int, float]:
        """Return the numbers in the low-rank matrices, and those that a token goes through."""
        targets = find_targets(model, self.target_modules, experts=self.experts == "train")
        stack, of_experts = model.get_submodule(targets.stack), expert_rank(model, self.rank)
        sizes: dict[str, int] = {}
        counted: set[int] = set()
        for name in targets.layers:
            weight = stack.get_parameter(f"{name}.weight")
            # Layers that share a weight share their matrices.
            if id(weight) not in counted:
                counted.add(id(weight))
                sizes[name] = self.rank * sum(weight.shape)
        for name in targets.experts:
            experts, *sides = stack.get_parameter(name).shape
            sizes[name] = of_experts * experts * sum(sides)
        share = active_share(model)
        used = sum(size * (share if is_expert(name) else 1) for name, size in sizes.items())
        return sum(sizes.values()), used

    def packed_weights(self, model: torch.nn.Module) -> int:
        """Return the number of weights in the linear layers that are adapted, with nf4."""
        if not self.quantises:
            return 0
        targets = find_targets(model, self.target_modules, experts=self.experts == "train")
        return sum(model.get_parameter(f"{name}.weight").numel() for name in targets.linear_layers)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Insert low-rank matrices, and row modules if rows train."""
        try:
            import peft
        except ModuleNotFoundError as error:
            raise MissingExtraError("peft", extra="lora") from error

        targets = find_targets(model, self.target_modules, experts=self.experts == "train")
        check_one_process(targets)
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
        share_matrices(model)
        check_shared_weights(model)
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
        parameter are concatenated. Layers that share a weight have one entry.
        """
        state: dict[str, torch.Tensor] = {}
        for name, module in distinct_layers(model):
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
        super().finish(model)
        for name, module in distinct_layers(model):
            if is_quantised(module.get_base_layer()):
                replace_module(model, name, merge_quantised(module, ADAPTER))
            else:
                module.merge()
        # Modules on experts are nested (one for each parameter). `get_base_layer` of the outermost
        # returns the module of the architecture, so the inner ones are skipped.
        for name, module in lora_layers(model):
            if ".base_layer" not in name:
                replace_module(model, name, module.get_base_layer())
        if self.quantises:
            model.to("cpu")
        layers = model.get_submodule(layer_root(model))
        if hasattr(layers, "peft_config"):
            del layers.peft_config
        # If this is set, save_pretrained saves an adapter and no weights.
        model._hf_peft_config_loaded = False  # noqa: SLF001 - transformers has no public setting for it


def lora_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the modules that PEFT has inserted, by name.

    A module on an experts' parameter can have another such module as its base layer.
    """
    from peft.tuners.lora import LoraLayer

    modules = model.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, LoraLayer)]


def share_matrices(model: Any) -> None:
    """Give linear layers that share a weight the same low-rank matrices.

    Zamba has several layers with the weights of one. PEFT inserts matrices for each of them, but
    the weight can only take one change.
    """
    first: dict[int, Any] = {}
    for _, module in lora_layers(model):
        if not hasattr(module, "parameter_name"):
            owner = first.setdefault(id(module.get_base_layer().weight), module)
            module.lora_A, module.lora_B = owner.lora_A, owner.lora_B


def distinct_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the modules of `lora_layers`, of those that share their matrices only the first."""
    known: set[int] = set()
    distinct = []
    for name, module in lora_layers(model):
        if id(module.lora_A) not in known:
            known.add(id(module.lora_A))
            distinct.append((name, module))
    return distinct


def check_shared_weights(model: Any) -> None:
    """Raise `RecipeError` if an adapted weight is also used where no low-rank matrices are.

    Merging would change it there, too, so that the saved model would not be the trained one.
    """
    adapted: dict[int, str] = {}
    for name, module in lora_layers(model):
        weight = getattr(module.get_base_layer(), getattr(module, "parameter_name", "weight"))
        adapted.setdefault(id(weight), name.partition(".base_layer")[0])
    for name, module in model.named_modules(remove_duplicate=False):
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in adapted and not name.endswith(".base_layer"):
                msg = (
                    f"{WHERE}: {name}.{own} is the weight of {adapted[id(parameter)]} too, but has "
                    f"no low-rank matrices, so the merged weight would not be what was trained; "
                    f"set target_modules without {adapted[id(parameter)].rpartition('.')[2]}, or "
                    f"choose the training.strategy differential"
                )
                raise RecipeError(msg)


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
