"""Automatic vocabulary size: rules for the number of tokens to add, by the savings curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.registry import Settings
from lingraft.vocabulary.base import Selected


@dataclass(frozen=True)
class ServingCost:
    """FLOPs of one token at inference: in the body, and in the head for each vocabulary row."""

    body: float
    head_per_row: float
    rows: int

    def per_token(self, added: int) -> float:
        """Return the FLOPs of one token after `added` rows were added."""
        return self.body + self.head_per_row * (self.rows + added)


class AutoSize(Settings):
    """Add tokens until 1,000 more save too little, or until inference gets no cheaper."""

    written: ClassVar[str] = "auto"

    rule: Literal["marginal", "serving"] = Field(
        "marginal",
        description="marginal: stop where 1,000 more tokens save less than `min_saving_share` of "
        "the remaining tokens; serving: minimise tokens x (body + head FLOPs at that "
        "vocabulary) (Dagan et al. 2024, arXiv 2402.01035)",
    )
    min_saving_share: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of the remaining tokens that 1,000 more tokens must save",
    )
    max_size: int = Field(50_000, ge=1000, description="maximum number of added tokens")

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read `auto` as the defaults."""
        return {} if value == "auto" else value

    def choose(self, selected: Selected, serving: ServingCost | None) -> int:
        """Return how many of the selected tokens to keep; needs `selected.saved`.

        The marginal rule also applies if the serving cost is not known.
        """
        if self.rule == "marginal" or serving is None:
            return size_by_marginal_saving(selected, self.min_saving_share)
        return size_by_serving_cost(selected, serving)


def size_by_marginal_saving(selected: Selected, rate: float, *, window: int = 1000) -> int:
    """Return the first size after which `window` tokens save less than `rate` of the text.

    The text is measured in the tokens that remain at that size.

    >>> size_by_marginal_saving(Selected((b"a",) * 4, (50, 30, 2, 1), 100), 0.2, window=1)
    2
    """
    saved = selected.saved
    remaining = selected.tokens_before
    # The sum over a window, not the next token alone: the savings of single tokens are uneven.
    saved_in_window = sum(saved[:window])
    for size, saving in enumerate(saved):
        if saved_in_window < rate * remaining:
            return size
        remaining -= saving
        saved_in_window -= saving
        if size + window < len(saved):
            saved_in_window += saved[size + window]
    return len(saved)


def size_by_serving_cost(selected: Selected, serving: ServingCost) -> int:
    """Return the size with the lowest total FLOPs for the text; the smallest of equals."""
    tokens = selected.tokens_before
    best, best_cost = 0, tokens * serving.per_token(0)
    for size, saved in enumerate(selected.saved, 1):
        tokens -= saved
        cost = tokens * serving.per_token(size)
        if cost < best_cost:
            best, best_cost = size, cost
    return best
