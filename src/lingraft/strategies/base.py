"""The interface of a training strategy, the roles of parameters, and default learning rates.

A strategy selects the parameters of a model that train and freezes all others. Each selected
parameter has one of two roles, and each role has its own learning rate: `added_rows` (the added
rows, or the whole input and output matrices where a strategy trains these) or `body` (the rest).
A strategy may insert modules, which `finish` removes again.

Default learning rates take three steps:
- Each strategy class states them for two model sizes: `small_rates` and `large_rates`
  (`weight_strategies`, `lora`).
- `Strategy.default_rates` interpolates between the two sizes.
- `training.config.Phase.rates` lowers them for a small batch, and replaces them by the settings of
  the recipe. `training.phase_setup` calls it for each phase.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lingraft.formatting import model_size
from lingraft.registry import Choice, Registry
from lingraft.strategies.model_parts import embedding_parameters

if TYPE_CHECKING:
    import torch

Role = Literal["body", "added_rows"]

SMALL, LARGE = 8e6, 7e9
"""The numbers of parameters to which `small_rates` and `large_rates` of a strategy apply."""


@dataclass(frozen=True)
class Rates:
    """The peak learning rate of each role, and `why`: a phrase that names where they come from."""

    # The field names are the values of `Role`: the trainer looks a group's rate up by its role.
    body: float
    added_rows: float
    why: str = "as the recipe says"

    def scaled(self, factor: float) -> Rates:
        """Return the rates for a smaller batch than that of the table: times this factor.

        >>> Rates(6e-4, 6e-3, "by size").scaled(0.5)
        Rates(body=0.0003, added_rows=0.003, why='by size; times 0.5 for a smaller batch')
        """
        if factor == 1:
            return self
        why = f"{self.why}; times {factor:g} for a smaller batch"
        return Rates(
            _three_digits(self.body * factor), _three_digits(self.added_rows * factor), why
        )


@dataclass(frozen=True)
class ParameterGroup:
    """The trained parameters of one role, by name.

    Checkpoints store parameters and optimizer state under these names, so a strategy must give the
    same names in every run.
    """

    role: Role
    parameters: dict[str, torch.nn.Parameter] = field(default_factory=dict)


class Strategy(Choice, ABC):
    """Selects the parameters that train.

    `small_rates` and `large_rates` are the default peak learning rates (body, added rows) of models
    with 8M and 7B parameters. Every strategy states its own.
    """

    small_rates: ClassVar[tuple[float, float]]
    large_rates: ClassVar[tuple[float, float]]
    measured_sizes: ClassVar[tuple[float, ...]] = ()
    """The numbers of parameters of the models on which the default rates were measured."""
    full_load_reason: ClassVar[str] = ""
    """Why `prepare` needs the weights of the body; empty if it only needs embeddings and head.

    With a reason, every process of a sharded run loads the whole model.
    """
    reads_replay: ClassVar[bool] = False
    """Whether training needs replay text even where none is mixed in."""
    keeps_weights: ClassVar[bool] = False
    """Whether weights of the body, or parts of them, stay bit-identical."""
    trained_only_here: ClassVar[bool] = False
    """Whether no other trainer can train it: its steps need lingraft's own loop."""

    @property
    def has_adapter(self) -> bool:
        """Whether training inserts matrices that are also saved by themselves."""
        return type(self).adapter_state is not Strategy.adapter_state

    @property
    def quantises(self) -> bool:
        """Whether `move` stores weights in fewer bits, so that the model is loaded on the CPU."""
        return False

    def move(self, model: torch.nn.Module, device: str) -> None:
        """Move a model to the device that it trains on; called before `prepare`."""
        model.to(device)

    def check(self, model: torch.nn.Module, device: str | None = None) -> None:
        """Raise `RecipeError` if the settings do not fit a model; by default, all fit.

        The model may be on the meta device, so that a later phase is checked before training.
        `device` is the one that it will train on; without it, only the model is checked.
        """

    @abstractmethod
    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Freeze all other parameters and return those that train.

        `added` are the ids of the added tokens.
        """

    def adapter_state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:  # noqa: ARG002 - no adapter here
        """Return the tensors that `finish` will merge into the weights; by default there are none.

        The trainer saves them first, because they cannot be recovered from merged weights.
        """
        return {}

    def finish(self, model: torch.nn.Module) -> None:
        """Merge and remove the modules that `prepare` inserted; by default those of added rows.

        Afterwards the model has only the modules of its architecture.
        """
        # `row_modules` defines subclasses of nn.Module, so it imports torch; settings must not.
        from lingraft.strategies.row_modules import remove_row_modules

        remove_row_modules(model)

    def trained_body_share(self, layers: int) -> float:  # noqa: ARG002 - all of them train
        """Return the share of the body that trains, of a model with so many layers."""
        return 1.0

    def trained_rows(self, rows: int, added: int) -> int:  # noqa: ARG002 - all of them train
        """Return how many rows of the embeddings train, of so many, with the added ones."""
        return rows

    def inserted_weights(self, model: torch.nn.Module) -> tuple[int, float]:  # noqa: ARG002 - none
        """Return the numbers in matrices that `prepare` inserts, and those that a token uses.

        The model may be on the meta device. Added rows, which are in the model, do not count.
        """
        return 0, 0.0

    def packed_weights(self, model: torch.nn.Module) -> int:  # noqa: ARG002 - none
        """Return how many weights `move` stores in 4 bits; the model may be on the meta device."""
        return 0

    def plan_note(self) -> str:
        """Return a line for `plan` about what the name does not say; by default there is none."""
        return ""

    def default_rates(self, parameters: int) -> Rates:
        """Return the default peak learning rates for a model with this number of parameters.

        They are interpolated between `small_rates` and `large_rates`.

        >>> from lingraft.strategies import Differential
        >>> Differential().default_rates(8_000_000).body
        0.0006
        >>> round(Differential().default_rates(240_000_000).added_rows, 6)
        0.000768
        """
        body = interpolate_by_size(self.small_rates[0], self.large_rates[0], parameters)
        added_rows = interpolate_by_size(self.small_rates[1], self.large_rates[1], parameters)
        why = (
            f"follows the model's size: {model_size(parameters)} parameters, between "
            f"{self.small_rates} (body, added rows) at 8M and {self.large_rates} at 7B on a "
            f"log-log line; {measured_near(parameters, self._measured())}"
        )
        return Rates(body, added_rows, why)

    def _measured(self) -> Sequence[float]:
        """Return the sizes at which the default rates were measured with these settings."""
        return self.measured_sizes


STRATEGIES: Registry[Strategy] = Registry("training strategy", Strategy)


def measured_near(parameters: int, sizes: Sequence[float]) -> str:
    """Return whether a default was measured on a model of about this size.

    >>> measured_near(9_000_000, [8.6e6]), measured_near(7_000_000_000, [8.6e6])
    ('measured at 8.6M parameters', 'not measured at this size')
    """
    for size in sizes:
        if abs(math.log(max(parameters, 1) / size)) < math.log(1.5):
            return f"measured at {model_size(size)} parameters"
    return "not measured at this size"


def interpolate_by_size(small: float, large: float, parameters: int) -> float:
    """Return the value for a model size on the log-log line between 8M and 7B parameters.

    `small` is the value at 8M, `large` the value at 7B. Below 8M and above 7B the value is
    constant.
    """
    position = math.log(max(parameters, 1) / SMALL) / math.log(LARGE / SMALL)
    position = min(max(position, 0.0), 1.0)
    # Three digits, because a default is not known more precisely.
    return _three_digits(small ** (1 - position) * large**position)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def train_only(model: Any, names: set[str]) -> list[ParameterGroup]:
    """Freeze every parameter except the named ones, and return these as one group for each role.

    Whole input and output matrices have the role `added_rows`.
    """
    embeddings = embedding_parameters(model)
    body, rows = ParameterGroup("body"), ParameterGroup("added_rows")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            group = rows if name in embeddings else body
            group.parameters[name] = parameter
    return [group for group in (body, rows) if group.parameters]


def train_added_rows(model: Any, added: Sequence[int]) -> ParameterGroup:
    """Make the added rows separate parameters (`row_modules`) and return them."""
    from lingraft.strategies.row_modules import insert_row_modules  # as above

    return ParameterGroup("added_rows", insert_row_modules(model, added))
