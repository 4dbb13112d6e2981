"""What low-rank matrices are put on: linear maps of the text layers, and the experts that one parameter holds together.

A map whose weight the model reads past its forward pass (`self.out_proj.weight` in the fused kernels of Mamba) would
train without effect there, so it is left out. Experts are one parameter, experts x inputs x outputs, which PEFT wraps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.errors import RecipeError
from lingraft.strategies.parts import layer_stack

WHERE = "training.strategy.lora"


@dataclass(frozen=True)
class Targets:
    """The names, within the module `stack`, of linear maps and of experts' parameters."""

    stack: str
    maps: tuple[str, ...]
    experts: tuple[str, ...]


def targets_of(model: Any, modules: Sequence[str], *, experts: bool) -> Targets:
    """Return what matrices are put on: all of the layers, or those with the last names that are wanted.

    Raises `RecipeError` where a name matches none.
    """
    stack, _ = layer_stack(model)
    layers = model.get_submodule(stack)
    maps = _linear_maps(layers)
    known = {**maps, **(_expert_parameters(layers) if experts else {})}
    unknown = set(modules) - set(known.values())
    if unknown or not known:
        msg = (
            f"{WHERE}.target_modules: {', '.join(sorted(unknown)) or 'linear maps'} not in this "
            f"{type(model).__name__}; it has {', '.join(sorted(set(known.values()))) or 'none'}"
        )
        raise RecipeError(msg)
    wanted = [name for name, last in known.items() if not modules or last in modules]
    return Targets(
        stack,
        tuple(name for name in wanted if name in maps),
        tuple(name for name in wanted if name not in maps),
    )


def _linear_maps(layers: Any) -> dict[str, str]:
    """Return full name -> last name of every map that the model calls."""
    import torch
    from transformers.pytorch_utils import Conv1D  # the linear map of GPT-2, transposed

    found = {}
    for name, module in layers.named_modules():
        parent, _, last = name.rpartition(".")
        # A subclass with a forward pass of its own (DeepSeek-V4's map in groups) takes inputs of another shape.
        plain = (
            isinstance(module, Conv1D)
            or getattr(type(module), "forward", None) is torch.nn.Linear.forward
        )
        if plain and not _read_past(type(layers.get_submodule(parent)), last):
            found[name] = last
    return found


def _read_past(kind: type, name: str) -> bool:
    """Say whether a module's forward pass takes the weight of one of its maps without calling the map."""
    try:
        return f"=self.{name}.weight" in inspect.getsource(kind)
    except (OSError, TypeError):
        return False


def _expert_parameters(layers: Any) -> dict[str, str]:
    """Return full name -> last name of the parameters that hold one matrix for each expert."""
    found = {}
    for name, parameter in layers.named_parameters():
        module, _, last = name.rpartition(".")
        if module.endswith("experts") and parameter.dim() == 3:
            found[name] = last
    return found


def expert_rank(model: Any, rank: int) -> int:
    """Return the rank for each expert: a token meets several at once, which share the rank of a dense map.

    That keeps the number of trained parameters a token meets (Schulman et al. 2025, LoRA Without Regret).
    """
    config = model.config.get_text_config()
    names = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
    met = next(
        (value for name in names if isinstance(value := getattr(config, name, None), int)), 1
    )
    return max(1, rank // max(1, met))


def config_of(targets: Targets, model: Any, settings: Mapping[str, Any]) -> Any:
    """Return PEFT's configuration; `settings` are rank, alpha and dropout."""
    import peft
    from transformers.pytorch_utils import Conv1D

    rank, alpha = settings["rank"], settings["alpha"]
    layers = model.get_submodule(targets.stack)
    if targets.experts and settings["dropout"]:
        msg = (
            f"{WHERE}.dropout: not for experts, whose matrices are added to their weights; set dropout: 0, or "
            f"experts: frozen"
        )
        raise RecipeError(msg)
    of_experts = expert_rank(model, rank)
    patterns = [name.replace(".", r"\.") for name in targets.experts]
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=settings["dropout"],
        target_modules=list(targets.maps) or None,
        target_parameters=list(targets.experts) or None,
        rank_pattern=dict.fromkeys(patterns, of_experts),
        alpha_pattern=dict.fromkeys(patterns, alpha * of_experts / rank),
        fan_in_fan_out=any(isinstance(layers.get_submodule(name), Conv1D) for name in targets.maps),
    )
