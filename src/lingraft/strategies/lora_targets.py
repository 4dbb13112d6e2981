"""The weights that get low-rank matrices: linear layers of the text model, and experts.

The experts of a layer are often one parameter of shape [experts, inputs, outputs], for which PEFT
inserts a module too. A linear layer is left out if the model uses its weight without calling the
layer (`self.out_proj.weight` in the fused kernels of Mamba, which only GPUs have): low-rank
matrices would have no effect there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lingraft.checkpoint.experts import experts_per_token
from lingraft.errors import RecipeError
from lingraft.strategies.model_parts import layer_root, layer_stacks
from lingraft.strategies.quantised_layers import is_quantised

WHERE = "training.strategy.lora"


@dataclass(frozen=True)
class Targets:
    """The linear layers and the experts' parameters to adapt, by their names within `stack`.

    `stack` is the name of the module that holds all layers of the model (`layer_root`).
    """

    stack: str
    layers: tuple[str, ...]
    experts: tuple[str, ...]

    @property
    def linear_layers(self) -> list[str]:
        """The names of the linear layers within the model."""
        return [f"{self.stack}.{name}" for name in self.layers]


def find_targets(model: Any, modules: Sequence[str], *, experts: bool) -> Targets:
    """Return the targets in a model.

    `modules` are last names, such as q_proj; if it is empty, all linear layers are targets.
    `experts` is whether parameters of experts can be targets. Raises `RecipeError` if a name
    matches nothing.
    """
    stack = layer_root(model)
    text_layers = model.get_submodule(stack)
    linear = _linear_layers(text_layers)
    found = linear | (_expert_parameters(text_layers) if experts else {})
    # What holds several lists of layers can have other linear layers.
    inside = tuple(f"{name}." for name in layer_stacks(model))
    known = {name: last for name, last in found.items() if f"{stack}.{name}".startswith(inside)}
    unknown = set(modules) - set(known.values())
    if unknown or not known:
        msg = (
            f"{WHERE}.target_modules: {', '.join(sorted(unknown)) or 'linear layers'} not in this "
            f"{type(model).__name__}; it has {', '.join(sorted(set(known.values()))) or 'none'}"
        )
        raise RecipeError(msg)
    layers: list[str] = []
    expert_parameters: list[str] = []
    for name, last in known.items():
        if modules and last not in modules:
            continue
        if name in linear:
            layers.append(name)
        else:
            expert_parameters.append(name)
    return Targets(stack, tuple(layers), tuple(expert_parameters))


def _linear_layers(layers: Any) -> dict[str, str]:
    """Return full name -> last name of every linear layer that the model calls."""
    import torch
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2, transposed

    names: dict[str, str] = {}
    for name, module in layers.named_modules():
        parent, _, last = name.rpartition(".")
        plain = isinstance(module, Conv1D) or is_quantised(module)
        plain = plain or (isinstance(module, torch.nn.Linear) and _computes_product(module))
        kind: Any = type(layers.get_submodule(parent))
        if plain and not _reads_weight_directly(kind, last):
            names[name] = last
    return names


def _computes_product(layer: Any) -> bool:
    """Whether a linear layer only multiplies by its weight and adds its bias.

    A subclass may do something else: DeepSeek-V4's grouped layer takes other inputs, and Llama 4's
    router returns choices. Falcon's has a forward pass of its own that gives the same.
    """
    import torch
    from torch.func import functional_call

    if type(layer).forward is torch.nn.Linear.forward:
        return True
    # Small numbers take the place of the weights, which may be large, or on the meta device.
    numbers = {"weight": torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.25]])}
    if layer.bias is not None:
        numbers["bias"] = torch.tensor([0.125, -1.0, 2.0])
    inputs = torch.tensor([[[1.0, 2.0], [-3.0, 0.5]]])
    expected = torch.nn.functional.linear(inputs, **numbers)
    try:
        outputs = functional_call(layer, numbers, (inputs.clone(),))
    except Exception:  # noqa: BLE001 - code of a model, which may need other inputs
        return False
    return isinstance(outputs, torch.Tensor) and torch.equal(outputs, expected)


# Finding the source of a class parses its file, and all layers of a model have the same classes.
@cache
def _reads_weight_directly(kind: type, name: str) -> bool:
    """Whether the code of a class uses the weight of the layer `name` without calling the layer."""
    # No attribute shows this, so the source is searched. What is left out does not compute with the
    # weight (Gemma 3n clips its `data` in place), or only in other cases than training: slices
    # (Bloom's `slow_but_exact`), and `reshape` (Reformer's decoding with a cache).
    direct = re.compile(
        rf"self\.{re.escape(name)}\.weight\b(?!\.(data|dtype|device|shape|reshape)\b|\[)"
    )
    for part in kind.__mro__:
        if part.__module__.startswith("torch."):
            continue
        try:
            lines = inspect.getsource(part).splitlines()
        except (OSError, TypeError):
            continue
        for line in lines:
            if direct.search(line) and "isinstance(" not in line and "init." not in line:
                return True
    return False


def _expert_parameters(layers: Any) -> dict[str, str]:
    """Return full name -> last name of the parameters that hold one matrix for each expert."""
    names: dict[str, str] = {}
    for name, parameter in layers.named_parameters():
        module, _, last = name.rpartition(".")
        if module.endswith("experts") and parameter.dim() == 3:
            names[name] = last
    return names


def expert_rank(model: Any, rank: int) -> int:
    """Return the rank for each expert: the rank of a dense layer divided by the experts per token.

    A token then uses as many trained parameters as in a dense layer (Schulman et al. 2025, LoRA
    Without Regret).
    """
    return max(1, int(rank / (experts_per_token(model.config.get_text_config()) or 1)))


def make_peft_config(targets: Targets, model: Any, settings: Mapping[str, Any]) -> Any:
    """Return the configuration for PEFT; `settings` has the keys rank, alpha and dropout.

    Raises `RecipeError` for dropout on experts.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    rank, alpha = settings["rank"], settings["alpha"]
    layers = model.get_submodule(targets.stack)
    if targets.experts and settings["dropout"]:
        msg = (
            f"{WHERE}.dropout: not possible for experts, because their low-rank matrices are added "
            f"to the weights; set dropout: 0, or experts: frozen"
        )
        raise RecipeError(msg)
    rank_of_experts = expert_rank(model, rank)
    patterns = [name.replace(".", r"\.") for name in targets.experts]
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=settings["dropout"],
        target_modules=list(targets.layers) or None,
        target_parameters=list(targets.experts) or None,
        rank_pattern=dict.fromkeys(patterns, rank_of_experts),
        # PEFT scales by alpha / rank, so this keeps the scale of the dense layers.
        alpha_pattern=dict.fromkeys(patterns, alpha * rank_of_experts / rank),
        fan_in_fan_out=any(
            isinstance(layers.get_submodule(name), Conv1D) for name in targets.layers
        ),
    )
