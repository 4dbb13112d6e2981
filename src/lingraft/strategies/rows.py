"""Train the added rows only.

The matrices of the model stay as they are, frozen; a small parameter holds the added rows, and two modules read from
both. So base rows cannot move by a bit, and gradients and optimiser state exist for the added rows only: for 10,000
rows of 4,096 in an 8B model 0.3 GB of Adam state for each matrix, instead of 4.5 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lingraft.errors import RecipeError
from lingraft.strategies.base import STRATEGIES, Group, Strategy

if TYPE_CHECKING:
    import torch


@STRATEGIES.register
class Rows(Strategy):
    """The rows of the added tokens; everything that the base brought stays bit-identical."""

    name: ClassVar[str] = "rows"
    reference: ClassVar[str] = "de Vries and Nissim 2021, arXiv 2012.05628, for added rows only"
    small_rates: ClassVar[tuple[float, float]] = (0.0, 3e-3)
    large_rates: ClassVar[tuple[float, float]] = (0.0, 1e-3)

    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[Group]:
        """Put row modules in place of the embeddings and the head; raises `RecipeError` where nothing was added."""
        if not added:
            msg = ("training.strategy is rows, but no token was added, so that nothing would train; "
                   "choose differential, or a vocabulary method that adds tokens")
            raise RecipeError(msg)
        from lingraft.strategies.row_modules import put_rows

        for parameter in model.parameters():
            parameter.requires_grad = False
        return [Group("added_rows", put_rows(model, added))]

    def finish(self, model: Any) -> None:
        """Write the rows into the matrices and put the plain modules back."""
        from lingraft.strategies.row_modules import take_rows

        take_rows(model)
