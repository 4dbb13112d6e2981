"""Make a multimodal model read text without images, and check that it does so causally.

Most multimodal models read text without an image like a causal language model. PaliGemma attends in
both directions unless the call marks the text as text to be predicted. Without this mark, each
token is predicted by a model that has seen it, and the loss and the bits per byte are too low. This
module therefore runs the model on a few tokens and compares the logits.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from lingraft.checkpoint.model_class import is_multimodal
from lingraft.errors import ModelError, one_line

LENGTH, FIRST_CHANGED = 8, 5
"""Tokens of the test input, and the position of the first token that differs."""

TOLERANCE = 1e-3
"""Largest allowed change, relative to the largest logit.

A different order of sums changes less than that, in 16 bits too; a token that is seen changes the
logits far more.
"""

# What the code of an architecture may raise if it is called without images.
FAILURES = (ValueError, TypeError, AttributeError, RuntimeError, IndexError)


def read_text_alone(model: Any, folder: Path) -> Any:
    """Make a multimodal model read text causally, and return it.

    A model that needs it gets `token_type_ids` of 1 (text to be predicted) in every call without
    images. Raises `ModelError` for a model that does not read text causally.
    """
    # A model on the meta device has no weights to run. A text-only model is causal (`model_class`).
    on_meta_device = any(parameter.is_meta for parameter in model.parameters())
    if on_meta_device or not is_multimodal(model.config):
        return model
    training = model.training
    model.eval()
    try:
        causal = _is_causal(model)
        if not causal and "token_type_ids" in inspect.signature(model.forward).parameters:
            _mark_text_as_predicted(model)
            causal = _is_causal(model)
    except FAILURES as error:
        msg = (
            f"{folder}: {type(model).__name__} does not run on text alone ({one_line(error)}); "
            "choose a base whose language model does"
        )
        raise ModelError(msg) from error
    model.train(training)
    if not causal:
        msg = (
            f"{folder}: {type(model).__name__} reads text in both directions: the logits of a "
            f"token change with the tokens after it, so its loss and its bits per byte are not "
            f"valid; choose another base"
        )
        raise ModelError(msg)
    return model


def _is_causal(model: Any) -> bool:
    """Whether the logits of the first tokens are the same for different continuations."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    # Two different sequences of ordinary ids, then the second gets the beginning of the first.
    numbers = torch.arange(2 * LENGTH, device=model.device).reshape(2, LENGTH)
    ids = (numbers * 7 + 11) % min(rows, 256)
    ids[1, :FIRST_CHANGED] = ids[0, :FIRST_CHANGED]
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    first, second = logits[:, :FIRST_CHANGED].float()
    largest = max(float(first.abs().max()), 1e-6)
    return float((first - second).abs().max()) <= TOLERANCE * largest


def _mark_text_as_predicted(model: Any) -> None:
    """Add `token_type_ids` of 1 to every call without images."""
    model.register_forward_pre_hook(_add_token_types, with_kwargs=True)
    # lingraft also calls the body directly, to compute logits of some positions only.
    if model.base_model is not model:
        model.base_model.register_forward_pre_hook(_add_token_types, with_kwargs=True)


def _add_token_types(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    import torch

    ids = named.get("input_ids", arguments[0] if arguments else None)
    has_types = named.get("token_type_ids") is not None
    has_images = named.get("pixel_values") is not None
    if ids is None or has_types or has_images:
        return None
    return arguments, {**named, "token_type_ids": torch.ones_like(ids)}
