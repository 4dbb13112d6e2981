"""Strategies that train weights of the model itself: all, some layers, embeddings, added rows.

The other kind, low-rank matrices next to frozen weights, is in `lora`. Each class states its
default learning rates (`small_rates`, `large_rates`; `base` explains how they are used).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.strategies.base import (
    STRATEGIES,
    ParameterGroup,
    Strategy,
    train_added_rows,
    train_only,
)
from lingraft.strategies.model_parts import embedding_parameters, layer_stack, text_parameters

if TYPE_CHECKING:
    import torch


@STRATEGIES.register
class Full(Strategy):
    """All weights of the language model, at one learning rate."""

    name: ClassVar[str] = "full"
    reference: ClassVar[str] = "Tejaswi, Gupta and Choi 2024, arXiv 2406.14670"
    small_rates: ClassVar[tuple[float, float]] = (5e-4, 5e-4)
    large_rates: ClassVar[tuple[float, float]] = (5e-5, 5e-5)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train every parameter that reads text."""
        return train_only(model, set(text_parameters(model)))


@STRATEGIES.register
class Differential(Full):
    """All weights; the added rows of embeddings and head at ten times the rate of all others.

    The base's own rows train at the rate of the body. The reference trains them at the rate of the
    added rows, which `base_rows: added_rows` selects. That causes forgetting: in every step the
    gradient of the head lowers the logit of each token that the target text does not use, and AdamW
    makes each change of its row as large as the learning rate. On english-8m and 1 MB of Hindi,
    English lost 8.3% that way and nothing at the rate of the body (one seed, at half of today's
    rates: `docs/decisions.md`).
    """

    name: ClassVar[str] = "differential"
    reference: ClassVar[str] = "NVIDIA 2026, Nemotron tokenizer-extension guidebook"
    # At 8M: with 1 MB of Hindi, the target gains 0.348 bits per byte and English loses 1.8%. Higher
    # rates gained more Hindi and cost more than twice as much English (docs/decisions.md).
    small_rates: ClassVar[tuple[float, float]] = (6e-4, 6e-3)
    # At 7B: the rates of the reference.
    large_rates: ClassVar[tuple[float, float]] = (1e-5, 1e-4)
    measured_sizes: ClassVar[tuple[float, ...]] = (8.6e6,)

    base_rows: Literal["body", "added_rows"] = Field(
        default="body", description="learning rate of the base's own rows of embeddings and head"
    )

    def _measured(self) -> Sequence[float]:
        # With the base's rows at the rate of added rows, only half of these rates was measured.
        return self.measured_sizes if self.base_rows == "body" else ()

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Train every parameter, the added rows as separate parameters."""
        groups = super().prepare(model, added)
        if self.base_rows == "added_rows":
            return groups
        body = ParameterGroup("body")
        for group in groups:
            body.parameters.update(group.parameters)
        return [body, train_added_rows(model, added)] if added else [body]


@STRATEGIES.register
class Embeddings(Strategy):
    """The input embeddings and the output head; the body is frozen."""

    name: ClassVar[str] = "embeddings"
    reference: ClassVar[str] = (
        "Tejaswi, Gupta and Choi 2024, arXiv 2406.14670 (learned initialisation)"
    )
    small_rates: ClassVar[tuple[float, float]] = (0.0, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (0.0, 1e-3)
    keeps_weights: ClassVar[bool] = True

    def trained_body_share(self, layers: int) -> float:  # noqa: ARG002 - none of them trains
        """Return 0: the body is frozen."""
        return 0.0

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train the embeddings and the head."""
        return train_only(model, set(embedding_parameters(model)))


@STRATEGIES.register
class Layers(Strategy):
    """The first and last `layers_per_end` layers, the embeddings and the head."""

    name: ClassVar[str] = "layers"
    reference: ClassVar[str] = "Yamaguchi, Villavicencio and Aletras 2024, arXiv 2406.11477"
    small_rates: ClassVar[tuple[float, float]] = (3e-4, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = Differential.large_rates
    keeps_weights: ClassVar[bool] = True

    layers_per_end: int = Field(default=2, ge=0, description="number of layers at each end")

    def check(self, model: torch.nn.Module, device: str | None = None) -> None:  # noqa: ARG002 - any device
        """Raise `RecipeError` if the ends overlap."""
        _, count = layer_stack(model)
        if 2 * self.layers_per_end > count:
            msg = (
                f"training.strategy.layers.layers_per_end is {self.layers_per_end}, but the model "
                f"has {count} layers; choose at most {count // 2}, or the strategy differential, "
                f"which trains all"
            )
            raise RecipeError(msg)

    def trained_body_share(self, layers: int) -> float:
        """Return the share of the layers at both ends."""
        return min(1.0, 2 * self.layers_per_end / max(1, layers))

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:  # noqa: ARG002 - all rows train
        """Train the layers at both ends and the embeddings."""
        self.check(model)
        stack, count = layer_stack(model)
        ends = {*range(self.layers_per_end), *range(count - self.layers_per_end, count)}
        prefixes = tuple(f"{stack}.{i}." for i in ends)
        layers = {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
        return train_only(model, layers | set(embedding_parameters(model)))


@STRATEGIES.register
class Rows(Strategy):
    """The rows of the added tokens; all weights of the base stay bit-identical.

    The matrices are frozen, and the added rows are separate parameters. Gradients and optimizer
    state exist for these only: for 10,000 rows of width 4,096 in an 8B model, 0.3 GB of Adam state
    for each matrix, compared with 4.5 GB for the whole matrix.
    """

    name: ClassVar[str] = "rows"
    reference: ClassVar[str] = "de Vries and Nissim 2021, arXiv 2012.05628, for added rows only"
    small_rates: ClassVar[tuple[float, float]] = (0.0, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (0.0, 1e-3)
    keeps_weights: ClassVar[bool] = True

    def trained_body_share(self, layers: int) -> float:  # noqa: ARG002 - none of them trains
        """Return 0: the body is frozen."""
        return 0.0

    def trained_rows(self, rows: int, added: int) -> int:  # noqa: ARG002 - these alone train
        """Return the number of the added rows."""
        return added

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Train the added rows; raise `RecipeError` if no token was added."""
        if not added:
            msg = (
                "training.strategy is rows, but no token was added, so nothing would train; choose "
                "differential, or a vocabulary method that adds tokens"
            )
            raise RecipeError(msg)
        for parameter in model.parameters():
            parameter.requires_grad = False
        return [train_added_rows(model, added)]
