"""Mixtures of experts: which parameters are experts, and how many of them a token goes through.

Experts that every token goes through (`shared_experts`) count as any other layer does.
"""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

# The settings of architectures for the number of experts of a layer, and for those of a token.
EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_k",
    "moe_top_k",
    "top_k_experts",
)


def experts_per_token(config: Any) -> float | None:
    """Return how many experts process a token, on average over the layers.

    `None` if a text configuration does not say it.
    """
    return _first_number(config, EXPERTS_PER_TOKEN)


def is_expert(name: str) -> bool:
    """Whether a parameter belongs to the experts of a layer, by its name in the model.

    JetMoE has those of its MLP in `input_linear` and `output_linear`.

    >>> is_expert("model.layers.0.mlp.experts.gate_up_proj"), is_expert("mlp.experts.3.w1.weight")
    (True, True)
    >>> is_expert("model.layers.0.mlp.shared_experts.up_proj.weight"), is_expert("mlp.gate.weight")
    (False, False)
    """
    return re.search(r"(^|\.)(experts|mlp\.(in|out)put_linear)\.", name) is not None


def active_share(model: Any) -> float:
    """Return the share of a layer's experts that a token goes through, 1.0 if it is not known."""
    config = model.config.get_text_config()
    experts, active = _first_number(config, EXPERT_COUNTS), experts_per_token(config)
    return min(1.0, active / experts) if experts and active else 1.0


def _first_number(config: Any, names: tuple[str, ...]) -> float | None:
    """Return the first of these settings that is a number, or the mean of one for each layer."""
    # DBRX has them in a part of their own.
    for part in (config, getattr(config, "ffn_config", None)):
        for name in names:
            value = getattr(part, name, None)
            numbers: list[Any] = value if isinstance(value, list) else [value]
            if numbers and all(isinstance(number, int) and number > 0 for number in numbers):
                return fmean(numbers)
    return None
