"""Source-shielded updates: the columns of the body that the base language needs most are frozen.

This module selects the parameters; it does not import torch. Which columns are frozen is measured
on base-language text when training starts: `training.column_shield`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.strategies.base import (
    STRATEGIES,
    ParameterGroup,
    Strategy,
    train_added_rows,
    train_only,
)
from lingraft.strategies.model_parts import embedding_parameters, text_parameters
from lingraft.strategies.weight_strategies import Differential

if TYPE_CHECKING:
    import torch


@STRATEGIES.register
class Shielded(Strategy):
    """All weights but the columns of the body that matter most for the base language.

    A column of a linear layer holds the weights of one input feature. Its importance is the sum of
    |weight| times the L2 norm of the feature over base-language text (the score of Wanda: Sun et
    al. 2023, arXiv 2306.11695). In each matrix, the most important half of the columns stays
    bit-identical, whatever the weight decay. The text is a sample of `replay`, whose share of the
    training text can be 0.

    As in the reference, the choice is made once, from the weights before the phase, and embeddings
    and head are not shielded. Three decisions are ours. The added rows have their own learning
    rate, as in `differential`. `base_rows: frozen` also keeps the base's own rows of embeddings and
    head. Single weights of normalisations and biases are frozen by the same share: those of a
    normalisation by |scale| times the norm of its input before it is normalised (an approximation;
    Gemma scales by 1 + weight), biases by |weight|. The code of the reference scores a column by
    its L2 norm times the mean square of the feature.

    The optimizer keeps state for frozen weights too, so memory is that of `differential`.
    """

    name: ClassVar[str] = "shielded"
    reference: ClassVar[str] = "Yamaguchi et al. 2025, arXiv 2512.04844"
    small_rates: ClassVar[tuple[float, float]] = Differential.small_rates
    # The reference trains 7B at 5e-5 on 200M tokens; not measured here.
    large_rates: ClassVar[tuple[float, float]] = Differential.large_rates
    full_load_reason: ClassVar[str] = "the importance of columns is measured on the whole model"
    reads_replay: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    trained_only_here: ClassVar[bool] = True

    frozen_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of the columns of each matrix that is frozen"
    )
    calibration_sequences: int = Field(
        default=500,
        ge=1,
        description="packed sequences of replay text on which importance is measured; all of them "
        "if there are fewer",
    )
    base_rows: Literal["body", "frozen"] = Field(
        default="body",
        description="the base's own rows of embeddings and head train at the rate of the body, or "
        "are frozen",
    )

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Train every parameter that reads text; the trainer keeps the frozen columns."""
        names = set(text_parameters(model))
        if self.base_rows == "frozen":
            names -= set(embedding_parameters(model))
        body = ParameterGroup("body")
        for group in train_only(model, names):
            body.parameters.update(group.parameters)
        return [body, train_added_rows(model, added)] if added else [body]

    def plan_note(self) -> str:
        """Return in one line what is frozen, and on which text it is chosen."""
        rows = "; the base's rows are frozen too" if self.base_rows == "frozen" else ""
        return (
            f"shielded: {self.frozen_share:.0%} of the columns of the body are frozen, chosen on "
            f"up to {self.calibration_sequences:,} sequences of replay text{rows}"
        )
