"""AdamW with moments in float32 or 8 bits, averaging of the weights, and merging back.

The state of the optimizer is stored in checkpoints as plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.training.config import OptimizerName

BETAS = (0.9, 0.95)
CONSTANT = ("qmap1", "qmap2")
"""State of the 8-bit optimizer that is the same for all parameters."""


def make_optimizer(
    name: OptimizerName,
    groups: Sequence[dict[str, Any]],
    *,
    weight_decay: float,
    fused: bool,
    sharded: bool,
) -> torch.optim.Optimizer:
    """Return an optimizer with a learning rate of 0.

    Raises `RecipeError` for 8 bits of a sharded model, `MissingExtraError` without bitsandbytes.

    8 bits: each moment is quantised in blocks with their own scale (Dettmers et al. 2022, arXiv
    2110.02861), which takes 2 bytes per trained parameter instead of 8. Parameters with fewer than
    4,096 elements keep moments in float32.
    """
    if name == "adamw":
        return torch.optim.AdamW(
            list(groups), lr=0.0, betas=BETAS, weight_decay=weight_decay, fused=fused
        )
    if sharded:
        msg = (
            "training.optimizer: adamw8bit needs whole tensors, and each of several processes "
            "holds a shard; use adamw, or one process"
        )
        raise RecipeError(msg)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        list(groups), lr=0.0, betas=BETAS, weight_decay=weight_decay
    )
    return optimizer


def init_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the state of every parameter, by a step with neither gradient nor learning rate."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def state_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state as KIND/NAME -> tensor; tensors are the optimizer's own, not copies.

    Scalars become vectors, because safetensors cannot slice them.
    """
    found = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            if key not in CONSTANT:
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                found[f"{key}/{name}"] = tensor if tensor.ndim else tensor.view(1)
    return found


def restore_numbers(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Restore the integers of a state; its tensors were read in place."""
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        # bitsandbytes counts steps in a Python int, which a checkpoint cannot be read into.
        for key in [key for key, value in state.items() if isinstance(value, int)]:
            state[key] = int(tensors[f"{key}/{name}"].item())


class WeightAverage:
    """The mean of the weights over the last steps: less noise and less forgetting.

    It is a running mean of the first `horizon` steps, then an exponential one with about the same
    reach. Step t (from 0) has the weight 1 / min(t + 1, horizon), so that nothing of the weights
    before training remains.
    """

    def __init__(self, parameters: Mapping[str, Tensor], horizon: int) -> None:
        self.parameters, self.horizon = parameters, max(1, horizon)
        self.means = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step."""
        weight = 1 / min(step + 1, self.horizon)
        for name, mean in self.means.items():
            mean.lerp_(self.parameters[name].detach(), weight)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the means into the model."""
        for name, mean in self.means.items():
            self.parameters[name].copy_(mean)


def merge_back(
    model: Any,
    before: Mapping[str, Tensor],
    added: Sequence[int],
    shares: Sequence[float],
    heldout: Callable[[Any], Mapping[str, float]] | None,
) -> dict[str, Any]:
    """Merge weights from before training into the model, against forgetting; return the trials.

    merged = (1 - share) * trained + share * before, for every weight of the base. Added rows stay
    as trained: before training they were only an initialisation. Of several shares, the one with
    the lowest mean held-out bits per byte over the languages is used. Raises `RecipeError` where
    there are several and no held-out text.
    """
    if len(shares) > 1 and heldout is None:
        msg = (
            "training.merge_back names several shares, but there is no held-out text to choose "
            "by; name one"
        )
        raise RecipeError(msg)
    # Each share starts from the trained weights, so they are kept until the best one is set.
    trained = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tried: dict[float, Mapping[str, float]] = {}
    for share in shares if heldout and len(shares) > 1 else ():
        set_merged(model, trained, before, added, share)
        tried[share] = dict(heldout(model)) if heldout else {}
    best = min(tried, key=lambda share: sum(tried[share].values()), default=shares[0])
    set_merged(model, trained, before, added, best)
    trials = [{"share": share, "heldout": values} for share, values in tried.items()]
    return {"share": best, "tried": trials}


@torch.no_grad()
def set_merged(
    model: Any,
    trained: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    added: Sequence[int],
    share: float,
) -> None:
    """Set weights to (1 - share) * trained + share * before, and added rows to trained."""
    rows = torch.tensor(sorted(added), dtype=torch.long)
    embeddings = set(embedding_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.lerp(trained[name], before[name].to(parameter), share))
        if name in embeddings:
            parameter[rows] = trained[name][rows]
