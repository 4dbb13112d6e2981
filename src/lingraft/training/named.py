"""Plans with a name, and the learning rates of the paper's table.

Each takes the whole budget and shares it out over its phases. P is Tejaswi, Gupta and Choi 2024, arXiv 2406.14670.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lingraft.errors import did_you_mean
from lingraft.training.budget import Budget

PAPER_RATES = (("xglm", 7.5e9, 3e-5), ("gemma", 2.5e9, 9e-5), ("gemma", 8.5e9, 3e-6), ("bloom", 7.1e9, 6e-5),
               ("phi", 2.8e9, 9e-5), ("mistral", 7.2e9, 3e-5), ("llama", 6.7e9, 6e-5))
"""Model type, parameters and learning rate of the seven bases of P."""


def paper_rate(kind: str, parameters: int) -> float | None:
    """Return the learning rate of P for a model of this type and, within half as much again, this size.

    >>> paper_rate("gemma", 8_900_000_000), paper_rate("llama", 8_600_000)
    (3e-06, None)
    """
    for name, size, rate in PAPER_RATES:
        if name == kind and abs(math.log(parameters / size)) < math.log(1.5):
            return rate
    return None


def _paper(budget: Budget) -> dict[str, Any]:
    """Train every weight over one pass, documents cut at 1,024 tokens (or the context), no replay: as P does."""
    phase = {"strategy": "full", "rates": "paper", "schedule": {"cosine": {"warmup": 0.03}}, "weight_decay": 0.0,
             "budget": budget, "replay": 0.0}
    return {"phases": [phase], "packing": {"pack": "documents"}}


def _learned_then_full(budget: Budget) -> dict[str, Any]:
    """Learn the embeddings on a tenth at 1e-3 with the body frozen, P's learned initialisation, then all weights."""
    return {"phases": [{"strategy": "embeddings", "rates": {"embeddings": 1e-3}, "budget": budget.part(0.1)},
                       {"strategy": "full", "rates": "paper", "budget": budget.part(0.9)}]}


def _rows_then_differential(budget: Budget) -> dict[str, Any]:
    """Settle the added rows on a tenth, then train all weights, the embeddings faster."""
    return {"phases": [{"strategy": "rows", "budget": budget.part(0.1)},
                       {"strategy": "differential", "budget": budget.part(0.9)}]}


PLANS: dict[str, Callable[[Budget], dict[str, Any]]] = {
    "paper": _paper, "learned_then_full": _learned_then_full, "rows_then_differential": _rows_then_differential}
"""Plans by name."""


def named_plan(name: object, budget: object = None) -> dict[str, Any]:
    """Return the settings of a named plan; raises `ValueError` with the known names."""
    if not isinstance(name, str) or name not in PLANS:
        msg = f"there is no training plan called {name!r}; {did_you_mean(str(name), PLANS)}"
        raise ValueError(msg)
    return PLANS[name](Budget.model_validate({} if budget is None else budget))
