"""Training plans that a recipe names instead of writing their phases, and the paper's rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lingraft.errors import did_you_mean
from lingraft.training.budget import Budget

PAPER_RATES = (
    ("xglm", 7.5e9, 3e-5),
    ("gemma", 2.5e9, 9e-5),
    ("gemma", 8.5e9, 3e-6),
    ("bloom", 7.1e9, 6e-5),
    ("phi", 2.8e9, 9e-5),
    ("mistral", 7.2e9, 3e-5),
    ("llama", 6.7e9, 6e-5),
)
"""Model type, parameters and learning rate of the seven bases of Tejaswi, Gupta and Choi 2024."""


def paper_rate(kind: str, parameters: int) -> float | None:
    """Return the paper's learning rate for a model, or None if the table has no such model.

    The model type must be the same, and the size may differ by a factor of up to 1.5.

    >>> paper_rate("gemma", 8_900_000_000), paper_rate("llama", 8_600_000)
    (3e-06, None)
    """
    for name, size, rate in PAPER_RATES:
        if name == kind and abs(math.log(parameters / size)) < math.log(1.5):
            return rate
    return None


def _paper(budget: Budget) -> dict[str, Any]:
    """Train all weights in one pass without replay, as arXiv 2406.14670 does.

    Documents are cut at 1,024 tokens, or at the context.
    """
    phase = {
        "strategy": "full",
        "learning_rates": "paper",
        "schedule": {"cosine": {"warmup": 0.03}},
        "weight_decay": 0.0,
        "budget": budget,
        "replay_share": 0.0,
    }
    return {"phases": [phase], "packing": {"layout": "documents"}}


def _learned_then_full(budget: Budget) -> dict[str, Any]:
    """Train the embeddings on a tenth (the paper's learned initialisation), then all weights."""
    tenth, rest = budget.split(0.1)
    return {
        "phases": [
            {
                "strategy": "embeddings",
                "learning_rates": {"added_rows": 1e-3},
                "budget": tenth,
            },
            {"strategy": "full", "learning_rates": "paper", "budget": rest},
        ]
    }


def _rows_then_differential(budget: Budget) -> dict[str, Any]:
    """Train the added rows on a tenth of the budget, then all weights, added rows faster."""
    tenth, rest = budget.split(0.1)
    return {
        "phases": [
            {"strategy": "rows", "budget": tenth},
            {"strategy": "differential", "budget": rest},
        ]
    }


def _branch_and_merge(budget: Budget) -> dict[str, Any]:
    """Train branches on slices of the text and merge them, as arXiv 2407.08699 does.

    A phase with the default settings of `branch_and_merge`. Other settings of a phase may be set.
    """
    return {"phases": [{"budget": budget, "branch_and_merge": {}}]}


PLANS: dict[str, Callable[[Budget], dict[str, Any]]] = {
    "paper": _paper,
    "learned_then_full": _learned_then_full,
    "rows_then_differential": _rows_then_differential,
    "branch_and_merge": _branch_and_merge,
}
"""The named plans: each function returns the settings of a plan for a budget."""


def named_plan(name: object, budget: object = None) -> dict[str, Any]:
    """Return the settings of a named plan; raises `ValueError` with the known names."""
    if not isinstance(name, str) or name not in PLANS:
        msg = f"there is no training plan called {name!r}; {did_you_mean(str(name), PLANS)}"
        raise ValueError(msg)
    return PLANS[name](Budget.model_validate({} if budget is None else budget))
