"""Low-rank matrices beside frozen weights, merged into them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.base import STRATEGIES, Group, Strategy
from lingraft.strategies.parts import layer_stack

if TYPE_CHECKING:
    import torch

ADAPTER = "lingraft"


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

    rank: int = Field(default=64, ge=1, description="rank of the added matrices")
    alpha: float = Field(default=64, gt=0, description="their product is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before them")
    modules: tuple[str, ...] = Field(default=(), description="last names of the linear maps; none: all of the layers")
    base: Literal["float32", "nf4"] = Field(
        default="float32", description="how the frozen maps are kept: nf4 takes 4 bits a weight of the device (extra "
                                       "`bits`, one process), the originals wait in main memory for the merge")
    rows: Literal["train", "frozen"] = Field(default="train", description="whether the added rows train, in full")

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[Group]:
        """Put low-rank matrices beside the linear maps, and row modules where rows train."""
        try:
            import peft
        except ModuleNotFoundError as error:
            raise MissingExtraError("peft", extra="lora") from error
        from transformers.pytorch_utils import Conv1D

        from lingraft.strategies.quantised import quantise
        from lingraft.strategies.row_modules import put_rows

        targets = self._targets(model)
        if self.base == "nf4":
            quantise(model, targets)
        transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in targets)
        config = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets,
                                 fan_in_fan_out=transposed)
        peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        body = {}
        for name, parameter in model.named_parameters():
            parameter.requires_grad = f".{ADAPTER}." in name
            if parameter.requires_grad:
                body[name] = parameter
        groups = [Group("body", body)]
        if added and self.rows == "train":
            groups.append(Group("embeddings", put_rows(model, added)))
        return groups

    def _targets(self, model: Any) -> list[str]:
        """Return the full names of the maps; raises `RecipeError` where a name matches none."""
        import torch
        from transformers.pytorch_utils import Conv1D  # the linear map of GPT-2, transposed

        prefix, _ = layer_stack(model)
        linear = {name: name.rsplit(".", 1)[-1] for name, module in model.named_modules()
                  if name.startswith(f"{prefix}.") and isinstance(module, torch.nn.Linear | Conv1D)}
        unknown = set(self.modules) - set(linear.values())
        if unknown or not linear:
            msg = (f"training.strategy.lora.modules: {', '.join(sorted(unknown)) or 'linear maps'} not in this "
                   f"{type(model).__name__}; it has {', '.join(sorted(set(linear.values()))) or 'none'}")
            raise RecipeError(msg)
        return [name for name, last in linear.items() if not self.modules or last in self.modules]

    def learned(self, model: Any) -> dict[str, torch.Tensor]:
        """Return both matrices of each map by its name; alpha / rank is in the second, so that their product is added.

        Shapes: lora_A rank x inputs, lora_B outputs x rank.
        """
        from peft.tuners.lora import LoraLayer

        kept = {}
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                kept[f"{name}.lora_A"] = module.lora_A[ADAPTER].weight.detach()
                kept[f"{name}.lora_B"] = module.lora_B[ADAPTER].weight.detach() * module.scaling[ADAPTER]
        return kept

    def finish(self, model: Any) -> None:
        """Merge the matrices into the weights and take everything out that was put in."""
        from peft.tuners.lora import LoraLayer

        from lingraft.strategies.quantised import is_quantised, merged, replace
        from lingraft.strategies.row_modules import RowsEmbedding, take_rows

        if isinstance(model.get_input_embeddings(), RowsEmbedding):
            take_rows(model)
        for name, module in list(model.named_modules()):
            if isinstance(module, LoraLayer):
                if is_quantised(module.get_base_layer()):
                    replace(model, name, merged(module, ADAPTER))
                else:
                    module.merge()
                    replace(model, name, module.get_base_layer())
        if hasattr(model, "peft_config"):
            del model.peft_config
        model._hf_peft_config_loaded = False  # noqa: SLF001 - else save_pretrained would look for adapters
