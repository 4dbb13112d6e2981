"""How many tokens to add: the rules of `auto`, by the savings curve.

The rule `marginal` is one function, `worthwhile_size`. `lingraft diagnose` and `advise` recommend
by it, on predicted tokens, and `size: auto` chooses by it, on counted ones. All of them choose
among `SIZES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.registry import Settings
from lingraft.vocabulary.base import Selected

SIZES = (250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000)
"""The sizes that are compared."""
LARGE_STEP = 10_000
"""The distance of the sizes beyond those."""
# A choice that no measurement supports yet: below this rate, a row saves little for what it costs
# to train and to serve. With the rule `serving`, the costs of a model decide.
MIN_SAVING_SHARE = 0.01
MARGINAL = f"1,000 more tokens save less than {MIN_SAVING_SHARE:.0%} of the remaining tokens"
"""The rule `marginal` in words."""


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
        MIN_SAVING_SHARE,
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

        The characters that the base loses are always kept. The marginal rule also applies if the
        serving cost is not known.
        """
        # They come first and save no token, so they are no reason to stop.
        places = (place for place, saved in enumerate(selected.saved) if saved)
        lost = next(places, len(selected.saved))
        if self.rule == "marginal" or serving is None:
            sizes = self._sizes(lost, len(selected.saved))
            return worthwhile_size(sizes, remaining_tokens(selected, sizes), self.min_saving_share)
        return size_by_serving_cost(selected, serving, lost)

    def _sizes(self, least: int, found: int) -> list[int]:
        """Return the sizes to compare: those for which the text has enough tokens."""
        most = min(found, self.max_size)
        sizes = [size for size in SIZES if least < size <= most]
        sizes += range(SIZES[-1] + LARGE_STEP, most + 1, LARGE_STEP)
        return [least, *(sizes or [most] * (most > least))]


def worthwhile_size(
    sizes: Sequence[int], remaining: Sequence[float], min_saving_share: float = MIN_SAVING_SHARE
) -> int:
    """Return the largest size up to which each 1,000 tokens save enough (the rule `marginal`).

    `remaining[k]` are the tokens of the text, or its share, with `sizes[k]` tokens added. The
    sizes are in ascending order; the first one is never too many. The saving is a share of the
    tokens that remain at the size before. `auto` counts them; `lingraft diagnose` and `advise`
    predict them.

    >>> worthwhile_size((0, 1_000, 2_000, 4_000), (1.0, 0.5, 0.49, 0.485))
    2000
    """
    best = sizes[0]
    for before, after in pairwise(range(len(sizes))):
        saving = 1 - remaining[after] / remaining[before]
        if saving / (sizes[after] - sizes[before]) * 1_000 < min_saving_share:
            break
        best = sizes[after]
    return best


def remaining_tokens(selected: Selected, sizes: Sequence[int]) -> list[int]:
    """Return the tokens of the text that remain with each number of added tokens."""
    saved = [0, *accumulate(selected.saved)]
    return [selected.tokens_before - saved[min(size, len(saved) - 1)] for size in sizes]


def size_by_serving_cost(selected: Selected, serving: ServingCost, least: int = 0) -> int:
    """Return the size with the lowest total FLOPs for the text; the smallest of equals.

    The first `least` tokens save nothing and are kept.
    """
    tokens = selected.tokens_before
    best, best_cost = least, tokens * serving.per_token(least)
    for size, saved in enumerate(selected.saved[least:], least + 1):
        tokens -= saved
        cost = tokens * serving.per_token(size)
        if cost < best_cost:
            best, best_cost = size, cost
    return best
