"""The recipes that benchmarks compare, each at a learning rate and a batch of its own.

- `default`: the default vocabulary, initialisation and strategy, with a fifth of replayed English.
- `paper` (Tejaswi et al. 2024, arXiv 2406.14670): tokens learned separately and appended, the
  base's regex, mean rows, all weights at one learning rate, documents cut, no replay.
- `no added tokens`: continued pretraining of the base as it is, with a fifth of replayed English.

The added rows of `default` train at ten times its rate, so all recipes have as many trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEFAULT, PAPER, ALONE = "default", "paper", "no added tokens"
RECIPES = (DEFAULT, PAPER, ALONE)
REPLAYED = 0.2


@dataclass(frozen=True)
class Point:
    """A peak learning rate of the body, and the tokens of a step."""

    rate: float
    batch: int


def settings_at(recipe: str, point: Point, *, added: int, block: int) -> dict[str, Any]:
    """Return the settings in which the recipes differ, without texts and budget.

    `added` is how many tokens are added, and `block` the tokens of a sequence.
    """
    training: dict[str, Any] = {
        "batch_tokens": point.batch,
        "heldout_points": 0,
        "learning_rates": {"body": point.rate, "added_rows": 10 * point.rate},
        "packing": {"block_size": block},
    }
    if recipe != PAPER:
        size = added if recipe == DEFAULT else 0
        return {"replay.share": REPLAYED, "vocabulary": {"size": size}, "training": training}
    return {
        "replay.share": 0.0,
        "vocabulary": {"method": "append", "size": added, "pretokenizer": "keep"},
        "embeddings": "mean",
        "training": {
            **training,
            "strategy": "full",
            "learning_rates": point.rate,
            "schedule": {"cosine": {"warmup": 0.03}},
            "packing": {"layout": "documents", "block_size": block},
        },
    }
