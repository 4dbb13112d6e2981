"""How many tokens: a number, or the point of the savings curve where a rule says enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from lingraft.registry import Settings
from lingraft.vocabulary.base import Selected


@dataclass(frozen=True)
class ServingCost:
    """What a token costs to serve: FLOPs in the body, and FLOPs in the head for each row of the vocabulary."""

    body: float
    head_per_row: float
    rows: int

    def per_token(self, added: int) -> float:
        """Return the FLOPs of one token with so many rows added."""
        return self.body + self.head_per_row * (self.rows + added)


class AutoSize(Settings):
    """Add tokens until one more thousand of them saves too little, or serving a text gets no cheaper."""

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

    def choose(self, selected: Selected, serving: ServingCost | None) -> int:
        """Return how many of the selected tokens to keep; `saved` must be there."""
        if self.rule == "marginal" or serving is None:
            return marginal(selected, self.min_saving_share)
        return cheapest(selected, serving)


def marginal(selected: Selected, rate: float, *, window: int = 1000) -> int:
    """Return the first size from which the next `window` tokens save less than `rate` of the tokens left.

    >>> marginal(Selected((b"a",) * 4, (50, 30, 2, 1), 100), 0.2, window=1)
    2
    """
    left = selected.tokens_before
    running = sum(selected.saved[:window])
    for size in range(len(selected.saved)):
        if running < rate * left:
            return size
        left -= selected.saved[size]
        ahead = size + window
        running += (selected.saved[ahead] if ahead < len(selected.saved) else 0) - selected.saved[
            size
        ]
    return len(selected.saved)


def cheapest(selected: Selected, serving: ServingCost) -> int:
    """Return the size at which serving the text costs least."""
    tokens = selected.tokens_before
    best, best_cost = 0, tokens * serving.per_token(0)
    for size, saved in enumerate(selected.saved, 1):
        tokens -= saved
        cost = tokens * serving.per_token(size)
        if cost < best_cost:
            best, best_cost = size, cost
    return best
