"""AdamW with moments in float32 or 8 bits, its state as tensors, and averages of weights.

`adamw8bit_bfloat16` also keeps weights and gradients in bfloat16, and rounds each new weight up or
down at random, with probabilities that give the exact value on average. An update below half of the
distance of two bfloat16 numbers would otherwise be lost: rates of 1e-5 would change few weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.training.execution import Execution
from lingraft.training.optimizer_memory import OptimizerName

BETAS = (0.9, 0.95)
EPSILON = 1e-8
# The tables that decode 8-bit moments.
CONSTANT = ("qmap1", "qmap2")
"""State of the 8-bit optimizer that is the same for all parameters, so it is not saved."""


def make_optimizer(
    name: OptimizerName,
    groups: Sequence[dict[str, Any]],
    *,
    weight_decay: float,
    fused: bool,
    sharded: bool,
) -> torch.optim.Optimizer:
    """Return an optimizer; the trainer sets its learning rates in each step.

    Raises `RecipeError` for moments in 8 bits with a sharded model, and `MissingExtraError` if the
    package for them is not installed.

    adamw8bit: each moment is quantised in blocks with their own scale (Dettmers et al. 2022, arXiv
    2110.02861), which takes 2 bytes per trained parameter instead of 8. Parameters with fewer than
    4,096 elements keep moments in float32.

    adamw8bit_bfloat16: the same moments from torchao, for parameters in bfloat16 that are rounded
    stochastically. Small parameters keep moments in bfloat16.
    """
    if name == "adamw":
        return torch.optim.AdamW(
            list(groups), lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=fused
        )
    if sharded:
        msg = (
            f"training.optimizer: {name} needs whole tensors, but each of several processes "
            f"holds a shard; use adamw, or one process"
        )
        raise RecipeError(msg)
    if name == "adamw8bit_bfloat16":
        return _stochastic_rounding(groups, weight_decay)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", extra="bits") from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        list(groups), lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=weight_decay
    )
    return optimizer


def _stochastic_rounding(
    groups: Sequence[dict[str, Any]], weight_decay: float
) -> torch.optim.Optimizer:
    try:
        from torchao.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise MissingExtraError("torchao", extra="torchao") from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        list(groups),
        lr=0.0,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=weight_decay,
        bf16_stochastic_round=True,
    )
    # torchao compiles the update of a tensor. On a CPU, that needs a C++ compiler and minutes.
    if any(tensor.device.type == "cpu" for group in groups for tensor in group["params"]):
        eager = torch.compiler.set_stance("force_eager")(optimizer.step)
        optimizer.step = eager  # type: ignore[method-assign]
    return optimizer


def weight_dtype(name: OptimizerName, precision: str) -> torch.dtype:
    """Return the data type of weights in training; `precision` is the one of `Execution`.

    Raises `RecipeError` if weights in bfloat16 are to be computed in float32.
    """
    if name != "adamw8bit_bfloat16":
        return torch.float32
    if precision in {"float32", "tf32"}:
        msg = (
            f"--precision {precision}: training.optimizer {name} trains weights in bfloat16; "
            f"leave the option out, or use another optimizer"
        )
        raise RecipeError(msg)
    return torch.bfloat16


def execution_with(name: OptimizerName, execution: Execution) -> Execution:
    """Return how phases with this optimizer are executed: weights in bfloat16 are computed in it.

    Raises `RecipeError` as `weight_dtype` does.
    """
    in_bfloat16 = weight_dtype(name, execution.precision) is torch.bfloat16
    return replace(execution, weights_in_bfloat16=in_bfloat16)


@torch.no_grad()
def set_weight_dtype(model: Any, dtype: torch.dtype) -> None:
    """Convert the parameters between float32 and bfloat16 in place.

    Buffers stay as they are, because rotary frequencies lose their meaning in bfloat16.
    """
    for parameter in model.parameters():
        if parameter.dtype in {torch.float32, torch.bfloat16}:
            parameter.data = parameter.data.to(dtype)


def round_stochastically(values: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Round float32 to bfloat16, up or down at random, so that the mean is the exact value.

    `generator` draws the random numbers; by default it is that of torch.
    """
    bits = values.contiguous().view(torch.int32)
    # bfloat16 is the upper half of float32: noise below it carries with the right probability.
    noise = torch.randint(
        0, 1 << 16, bits.shape, generator=generator, dtype=torch.int32, device=bits.device
    )
    return ((bits + noise) & -(1 << 16)).view(torch.float32).bfloat16()


def set_learning_rate(group: dict[str, Any], rate: float) -> None:
    """Set the rate of a parameter group; torchao keeps it in a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def init_state(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> None:
    """Create the state of these parameters, with a step whose gradients are 0.

    Learning rates must be 0, so that weight decay changes nothing.
    """
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def state_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state of the optimizer as KIND/NAME -> tensor, such as `exp_avg/lm_head.weight`.

    The tensors are those of the optimizer and not copies, so a checkpoint can be read into them.
    """
    stored = {}
    for name, parameter in parameters.items():
        for key, value in _plain_state(optimizer.state[parameter]):
            if key not in CONSTANT:
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                # A vector of one element, because safetensors cannot slice a scalar.
                stored[f"{key}/{name}"] = tensor if tensor.ndim else tensor.view(1)
    return stored


def _plain_state(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the state of a parameter; an 8-bit moment of torchao is its codes and its scale."""
    for key, value in state.items():
        if hasattr(value, "codes"):
            yield from ((f"{key}_codes", value.codes), (f"{key}_scale", value.scale))
        else:
            yield key, value


def restore_numbers(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Set the state that is a Python number from `tensors`; tensors were read in place."""
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        # bitsandbytes counts steps in a Python int, which a checkpoint cannot be read into.
        for key, value in state.items():
            if isinstance(value, int):
                state[key] = int(tensors[f"{key}/{name}"].item())


class WeightAverage:
    """The mean of the weights over about the last `horizon` steps.

    In step t (from 0), the mean moves towards the weights by 1 / min(t + 1, horizon). It is the
    plain mean of the first `horizon` steps, then an exponential moving average. The weights before
    training have no part in it, because step 0 replaces them.
    """

    def __init__(self, parameters: Mapping[str, Tensor], horizon: int) -> None:
        self.parameters, self.horizon = parameters, max(1, horizon)
        # In bfloat16, a mean would not move by a small part of a difference.
        self.means = {
            name: parameter.detach().to(
                torch.promote_types(parameter.dtype, torch.float32), copy=True
            )
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step."""
        weight = 1 / min(step + 1, self.horizon)
        for name, mean in self.means.items():
            mean.lerp_(self.parameters[name].detach().to(mean.dtype), weight)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the means into the model."""
        for name, mean in self.means.items():
            self.parameters[name].copy_(mean)
