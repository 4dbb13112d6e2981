"""Reading text alone with a model that also reads images or sound, each token from those before it.

Most multimodal models read text without an image as a causal language model does. PaliGemma reads a prompt in both
directions unless the call says that it is text to be predicted; without that, every loss and every bit per byte
would be of a model that has seen the answer. So it is tried out on a few tokens.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from lingraft.checkpoint.model_class import is_multimodal
from lingraft.errors import ModelError

LENGTH, FROM = 8, 5
"""Tokens of the trial, and the first one that is changed."""

TOLERANCE = 1e-3
"""Share of the largest logit: rounding of another order of sums, in 16 bits too; a seen token moves far more."""

FAILURES = (ValueError, TypeError, AttributeError, RuntimeError, IndexError)


def read_text_alone(model: Any, folder: Path) -> Any:
    """Have a multimodal model read text causally, and return it; raises `ModelError` for one that cannot.

    A model that needs to be told gets `token_type_ids` of 1 (text to be predicted) in every call without images.
    """
    if not is_multimodal(model.config) or any(
        parameter.is_meta for parameter in model.parameters()
    ):
        return model
    training = model.training
    model.eval()
    try:
        causal = _is_causal(model)
        if not causal and "token_type_ids" in inspect.signature(model.forward).parameters:
            for part in {id(module): module for module in (model, model.base_model)}.values():
                part.register_forward_pre_hook(_as_predicted_text, with_kwargs=True)
            causal = _is_causal(model)
    except FAILURES as error:
        msg = (
            f"{folder}: {type(model).__name__} does not run on text alone "
            f"({' '.join(str(error).split())[:160]}); choose a base whose language model does"
        )
        raise ModelError(msg) from error
    model.train(training)
    if not causal:
        msg = (
            f"{folder}: {type(model).__name__} reads text in both directions: the logits of a token change with the "
            f"tokens after it, so that neither training nor bits per byte would mean anything; choose another base"
        )
        raise ModelError(msg)
    return model


def _is_causal(model: Any) -> bool:
    """Say whether the logits of the first tokens are the same whatever follows."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(2 * LENGTH, device=model.device).reshape(2, LENGTH) * 7 + 11) % min(
        rows, 256
    )
    ids[1, :FROM] = ids[0, :FROM]
    with torch.no_grad():
        first, second = model(input_ids=ids, use_cache=False).logits[:, :FROM].float()
    return float((first - second).abs().max()) <= TOLERANCE * max(float(first.abs().max()), 1e-6)


def _as_predicted_text(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    import torch

    ids = named.get("input_ids", arguments[0] if arguments else None)
    if (
        ids is None
        or named.get("token_type_ids") is not None
        or named.get("pixel_values") is not None
    ):
        return None
    return arguments, {**named, "token_type_ids": torch.ones_like(ids)}
