"""Learning rates by role, and for single rows of a matrix, in the optimizer of another trainer.

Such an optimizer has one learning rate for all parameters, and an embedding matrix is one
parameter. The step of AdamW, weight decay included, is proportional to the learning rate. A part
with k times the learning rate of the optimizer therefore gets k times its step:

    after = before + k * (after - before)

The optimizer gets no parameters and no state for this, and the model keeps its modules, so the
checkpoints of the trainer stay as they are. Shape suffixes: V rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lingraft.errors import RecipeError
from lingraft.strategies import Rates, Strategy
from lingraft.strategies.row_modules import RowsEmbedding


@dataclass(frozen=True)
class ScaledStep:
    """A part of a parameter whose steps are multiplied by `factor`: some rows, or all of it."""

    parameter: nn.Parameter
    rows: Tensor | None
    factor: float

    def values(self) -> Tensor:
        """Return a copy of the part."""
        values = self.parameter.detach()
        return values.clone() if self.rows is None else values[self.rows]

    @torch.no_grad()
    def scale(self, before: Tensor) -> None:
        """Multiply the step that led from `before` to the current values."""
        # Copied, because the rows of a frozen base must stay bit-identical.
        scaled = torch.lerp(before, self.values(), self.factor) if self.factor else before
        self.parameter[slice(None) if self.rows is None else self.rows] = scaled


class RoleRates:
    """Trains the parameters of a strategy at the learning rates of their roles.

    Creating it freezes all parameters that do not train, so it must be created before the
    optimizer. `rate` is the peak learning rate of the optimizer. Call `before_step` and
    `after_step` around each of its steps, and `close` at the end. Raises `RecipeError` for a
    strategy that only lingraft trains, such as LoRA.
    """

    def __init__(self, model: Any, strategy: Strategy, added: Sequence[int], rates: Rates) -> None:
        if strategy.trained_only_here:
            msg = (
                f"training.strategy is {strategy.name}, which only lingraft itself trains; choose "
                f"differential or rows, or train with `lingraft adapt`"
            )
            raise RecipeError(msg)
        groups = strategy.prepare(model, added)
        has_separate_rows = isinstance(model.get_input_embeddings(), RowsEmbedding)
        # The row modules only showed whether rows have a rate of their own.
        strategy.finish(model)
        roles: dict[int, str] = {}
        for group in groups:
            roles |= dict.fromkeys(map(id, group.parameters.values()), group.role)
        has_body = "body" in roles.values()
        self.rate = rates.body if has_body and rates.body else rates.added_rows
        self.scaled: list[ScaledStep] = []
        self._hooks: list[Any] = []
        self._before: list[Tensor] = []
        matrices = _matrices(model) if has_separate_rows else set()
        for parameter in model.parameters():
            role = roles.get(id(parameter))
            if id(parameter) in matrices:
                self._add_matrix(parameter, added, rates, trains_base=role is not None)
            elif role:
                self._add(parameter, None, getattr(rates, role))

    def _add_matrix(
        self, parameter: nn.Parameter, added: Sequence[int], rates: Rates, *, trains_base: bool
    ) -> None:
        is_added_V1 = torch.zeros(len(parameter), 1, dtype=torch.bool, device=parameter.device)
        is_added_V1[list(added)] = True
        added_rows, base_rows = (
            torch.nonzero(mask_V1.squeeze(1)).squeeze(1) for mask_V1 in (is_added_V1, ~is_added_V1)
        )
        self._add(parameter, added_rows, rates.added_rows)
        self._add(parameter, base_rows, rates.body if trains_base else 0.0)
        if not trains_base:
            parameter.requires_grad = True
            # Frozen rows have no part in the norm that clips the gradient.
            hooked: Any = parameter
            hook = hooked.register_hook(lambda grad_VD: torch.where(is_added_V1, grad_VD, 0))
            self._hooks.append(hook)

    def _add(self, parameter: nn.Parameter, rows: Tensor | None, rate: float) -> None:
        if rate != self.rate:
            self.scaled.append(ScaledStep(parameter, rows, rate / self.rate))

    def before_step(self) -> None:
        """Keep the values that the optimizer is about to change."""
        self._before = [part.values() for part in self.scaled]

    def after_step(self) -> None:
        """Scale the steps that the optimizer took."""
        for part, before in zip(self.scaled, self._before, strict=True):
            part.scale(before)
        self._before = []

    def close(self) -> None:
        """Remove the hooks from the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _matrices(model: Any) -> set[int]:
    """Return the identities of the embedding matrix and of the head's, which may be the same."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return {id(module.weight) for module in modules if module is not None}
