"""From the output of a model's head to its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def finish_logits(model: Any) -> Callable[[Tensor], Tensor]:
    """Return what a model does to the output of its head.

    Gemma 2 caps it, Cohere and Falcon H1 multiply and Granite divides it. Other changes are not
    known here: compare the result with the logits of the model.
    """
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = 1.0
    for name in ("logit_scale", "lm_head_multiplier"):
        # MPT has the first setting, and does not use it.
        if config.model_type != "mpt":
            scale *= getattr(config, name, None) or 1.0
    scale /= getattr(config, "logits_scaling", None) or 1.0

    def finish(output: Tensor) -> Tensor:
        logits = output.float()
        # Blocks of logits are large: no product where nothing changes.
        if scale != 1.0:
            logits = logits * scale
        return (logits / cap).tanh() * cap if cap else logits

    return finish
