"""AdamW, with its two moments in float32 or in 8 bits, and what a checkpoint holds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.base import embedding_parameters
from lingraft.training.config import OptimiserName

BETAS = (0.9, 0.95)
CONSTANT = ("qmap1", "qmap2")
"""What the 8-bit optimiser keeps with each parameter and is the same for all."""


def make_optimizer(name: OptimiserName, groups: Sequence[dict[str, Any]], *, weight_decay: float,
                 fused: bool, sharded: bool) -> torch.optim.Optimizer:
    """Return an optimiser with a learning rate of 0.

    Raises `RecipeError` for 8 bits of a sharded model, `MissingExtraError` without bitsandbytes.

    8 bits: each moment in blocks with a scale of their own (Dettmers et al. 2022, arXiv 2110.02861), 2 bytes a trained
    parameter instead of 8; parameters of fewer than 4,096 numbers keep theirs in float32.
    """
    if name == "adamw":
        return torch.optim.AdamW(list(groups), lr=0.0, betas=BETAS, weight_decay=weight_decay, fused=fused)
    if sharded:
        msg = "training.optimizer: adamw8bit works on whole tensors, and several processes hold shards; use adamw"
        raise RecipeError(msg)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    optimiser: torch.optim.Optimizer = AdamW8bit(list(groups), lr=0.0, betas=BETAS, weight_decay=weight_decay)
    return optimiser


def begin_state(optimiser: torch.optim.Optimizer) -> None:
    """Give every parameter the state that a step leaves, by one with neither gradient nor learning rate."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def state_of(optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state as KIND/NAME -> tensor, the optimiser's own ones where they are tensors.

    A number comes as a vector: safetensors cannot slice it.
    """
    found = {}
    for name, parameter in parameters.items():
        for key, value in optimiser.state[parameter].items():
            if key not in CONSTANT:
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                found[f"{key}/{name}"] = tensor if tensor.ndim else tensor.view(1)
    return found


def take_numbers(optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor],
                 tensors: Mapping[str, Tensor]) -> None:
    """Take those parts of a state that are no tensors; the others were changed in place."""
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        for key in [key for key, value in state.items() if isinstance(value, int)]:
            state[key] = int(tensors[f"{key}/{name}"].item())


class Average:
    """A running mean of the first `horizon` steps, then an exponential one that reaches back about as far.

    Step t (from 0) enters with weight 1 / min(t + 1, horizon), so that nothing of the weights before training stays.
    """

    def __init__(self, parameters: Mapping[str, Tensor], horizon: int) -> None:
        self.parameters, self.horizon = parameters, max(1, horizon)
        self.means = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        weight = 1 / min(step + 1, self.horizon)
        for name, mean in self.means.items():
            mean.lerp_(self.parameters[name].detach(), weight)

    @torch.no_grad()
    def put(self) -> None:
        """Give the model the averaged weights."""
        for name, mean in self.means.items():
            self.parameters[name].copy_(mean)


def merge_back(model: Any, before: Mapping[str, Tensor], added: Sequence[int], shares: Sequence[float],
               heldout: Callable[[Any], Mapping[str, float]] | None) -> dict[str, Any]:
    """Leave the model merged with the best of the shares; return what was tried.

    Best is the lowest mean of the held-out bits per byte over the languages. Raises `RecipeError` where there is a
    choice and nothing to choose by.
    """
    if len(shares) > 1 and heldout is None:
        msg = "training.merge_back names several shares, but there is no held-out text to choose by; name one"
        raise RecipeError(msg)
    trained = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tried: dict[float, Mapping[str, float]] = {}
    for share in shares if heldout and len(shares) > 1 else ():
        put_merged(model, trained, before, added, share)
        tried[share] = dict(heldout(model)) if heldout else {}
    best = min(tried, key=lambda share: sum(tried[share].values()), default=shares[0])
    put_merged(model, trained, before, added, best)
    return {"share": best, "tried": [{"share": share, "heldout": values} for share, values in tried.items()]}


@torch.no_grad()
def put_merged(model: Any, trained: Mapping[str, Tensor], before: Mapping[str, Tensor], added: Sequence[int],
               share: float) -> None:
    """Set the weights of a model to (1 - share) * trained + share * before, added rows to trained."""
    rows = torch.tensor(sorted(added), dtype=torch.long)
    embeddings = set(embedding_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.lerp(trained[name], before[name].to(parameter), share))
        if name in embeddings:
            parameter[rows] = trained[name][rows]
