"""Strategies that train parameters of the model as they are: all, some layers, or the embeddings.

Train the added rows only.

The matrices of the model stay as they are, frozen; a small parameter holds the added rows, and two modules read from
both. So base rows cannot move by a bit, and gradients and optimiser state exist for the added rows only: for 10,000
rows of 4,096 in an 8B model 0.3 GB of Adam state for each matrix, instead of 4.5 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.strategies.base import (
    STRATEGIES,
    ParameterGroup,
    Strategy,
    embedding_parameters,
    groups_of,
    text_module,
    text_parameters,
)

if TYPE_CHECKING:
    import torch


@STRATEGIES.register
class Full(Strategy):
    """Every weight at one learning rate."""

    name: ClassVar[str] = "full"
    reference: ClassVar[str] = "Tejaswi, Gupta and Choi 2024, arXiv 2406.14670"
    small_rates: ClassVar[tuple[float, float]] = (5e-4, 5e-4)
    large_rates: ClassVar[tuple[float, float]] = (5e-5, 5e-5)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train everything."""
        return groups_of(model, set(text_parameters(model)))


@STRATEGIES.register
class Differential(Full):
    """Every weight; the added rows of embeddings and head at ten times the learning rate of all else.

    The base's own rows train like the body. At the rate of the added rows they are what forgets: at every step the
    head pushes down each row that the target text does not use, and AdamW makes each push as large as the rate. On
    english-8m and 1 MB of Hindi that cost English 8% of its bits per byte, without it nothing, for the same Hindi (one
    seed, at half the rates of today: `docs/decisions.md`). `base_rows: added_rows` trains them as the reference does.
    """

    name: ClassVar[str] = "differential"
    reference: ClassVar[str] = "NVIDIA 2026, Nemotron tokenizer-extension guidebook"
    small_rates: ClassVar[tuple[float, float]] = (6e-4, 6e-3)
    large_rates: ClassVar[tuple[float, float]] = (1e-5, 1e-4)

    base_rows: Literal["body", "added_rows"] = Field(
        default="body", description="which rate the base's own rows of embeddings and head train at"
    )

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Train everything, the added rows as parameters of their own."""
        groups = super().prepare(model, added)
        if self.base_rows == "added_rows":
            return groups
        from lingraft.strategies.row_modules import put_rows

        body = ParameterGroup(
            "body",
            {name: parameter for group in groups for name, parameter in group.parameters.items()},
        )
        return [body, ParameterGroup("added_rows", put_rows(model, added))] if added else [body]

    def finish(self, model: Any) -> None:
        """Write the added rows into the matrices and put the plain modules back."""
        from lingraft.strategies.row_modules import RowsEmbedding, take_rows

        if isinstance(model.get_input_embeddings(), RowsEmbedding):
            take_rows(model)


@STRATEGIES.register
class Embeddings(Strategy):
    """The input embeddings and the output head, the body frozen."""

    name: ClassVar[str] = "embeddings"
    reference: ClassVar[str] = (
        "Tejaswi, Gupta and Choi 2024, arXiv 2406.14670 (learned initialisation)"
    )
    small_rates: ClassVar[tuple[float, float]] = (0.0, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (0.0, 1e-3)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train the embeddings and the head."""
        return groups_of(model, set(embedding_parameters(model)))


@STRATEGIES.register
class Layers(Strategy):
    """The first and the last layers, `layers_per_end` of each, the embeddings and the head."""

    name: ClassVar[str] = "layers"
    reference: ClassVar[str] = "Yamaguchi, Villavicencio and Aletras 2024, arXiv 2406.11477"
    small_rates: ClassVar[tuple[float, float]] = (3e-4, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = Differential.large_rates

    layers_per_end: int = Field(default=2, ge=0, description="number of layers at each end")

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train the layers at both ends and the embeddings; raises `RecipeError` where they would overlap."""
        prefix, count = layer_stack(model)
        if 2 * self.layers_per_end > count:
            msg = (
                f"training.strategy.layers.layers_per_end is {self.layers_per_end}, but the model has "
                f"{count} layers; "
                f"choose at most {count // 2}, or the strategy differential, which trains all"
            )
            raise RecipeError(msg)
        ends = {*range(self.layers_per_end), *range(count - self.layers_per_end, count)}
        wanted = tuple(f"{prefix}.{i}." for i in ends)
        layers = {name for name, _ in model.named_parameters() if name.startswith(wanted)}
        return groups_of(model, layers | set(embedding_parameters(model)))


def layer_stack(model: Any) -> tuple[str, int]:
    """Return the name of the list that holds the model's layers, and their number."""
    import torch

    count = model.config.get_text_config().num_hidden_layers
    within = text_module(model)
    for name, module in model.named_modules():
        if (
            isinstance(module, torch.nn.ModuleList)
            and len(module) == count
            and name.startswith(within)
        ):
            return name, count
    msg = f"{type(model).__name__} has no list of {count} layers; choose another training.strategy: differential"
    raise RecipeError(msg)


@STRATEGIES.register
class Rows(Strategy):
    """The rows of the added tokens; everything that the base brought stays bit-identical."""

    name: ClassVar[str] = "rows"
    reference: ClassVar[str] = "de Vries and Nissim 2021, arXiv 2012.05628, for added rows only"
    small_rates: ClassVar[tuple[float, float]] = (0.0, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (0.0, 1e-3)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Put row modules in place of the embeddings and the head; raises `RecipeError` where nothing was added."""
        if not added:
            msg = (
                "training.strategy is rows, but no token was added, so that nothing would train; "
                "choose differential, or a vocabulary method that adds tokens"
            )
            raise RecipeError(msg)
        from lingraft.strategies.row_modules import put_rows

        for parameter in model.parameters():
            parameter.requires_grad = False
        return [ParameterGroup("added_rows", put_rows(model, added))]

    def finish(self, model: Any) -> None:
        """Write the rows into the matrices and put the plain modules back."""
        from lingraft.strategies.row_modules import take_rows

        take_rows(model)
