"""Whether attention stays within a document: `training.document_attention_mask`.

`auto` depends on the text and the model, never on the device or the precision, so that a recipe has
one result. Documents are kept apart where

- they share sequences (the layout `stream`),
- the token that separates them is nowhere within them, as a chat template may write it,
- the model masks them by their position ids, as most models of transformers do.

Whether a model does is tried: its first layers, made smaller, with random weights in float32 on the
CPU, read two sequences that differ in their first documents. Their second documents then have the
same logits.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingraft.checkpoint.load_model import build_model, meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.errors import ModelError, one_line
from lingraft.training.phase_steps import TrainingText
from lingraft.training.plan import TrainingPlan

ROUNDING = 1e-5
"""The largest change of logits by another document, as a part of the change without a mask.

Experts compute their tokens together, so that other documents change the rounding: by up to 5.7e-7
in 150 small models of transformers. Where a convolution alone reads across documents (LFM2), it is
1.0e-3 (benchmarks/document_masks.py).
"""
FIRST, SECOND = 150, 200
"""Tokens of the two documents of a trial. DeepSeek-V4 attends to summaries of 128 tokens."""
TRIAL_IDS, TRIAL_WIDTH = 8, 64
"""The ids of a trial, and the width of its feed-forward layers, which read each token alone."""
LARGEST_TRIAL = 10**9
"""Parameters of the largest model that is tried."""
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "depth", "encoder_layers")
"""What configurations call the number of layers."""
WIDTHS = ("intermediate_size", "moe_intermediate_size")
"""What they call the width of feed-forward layers."""


@dataclass(frozen=True)
class DocumentMask:
    """Whether documents are kept apart; `why_not` is the reason where `auto` does not."""

    on: bool
    why_not: str = ""

    @classmethod
    def of(cls, plan: TrainingPlan, text: TrainingText, folder: Path) -> DocumentMask:
        """Decide for the model in a folder; raise `ModelError` where `true` is not possible."""
        setting = plan.document_attention_mask
        if not plan.may_mask_documents:
            return cls(on=False)
        if setting is True:
            check_mask(folder)
            return cls(on=True)
        problem = text_problem(text) or mask_problem(folder)
        return cls(not problem, problem)

    @property
    def line(self) -> str:
        """What attention sees, as a phrase; "" where a mask is not asked for or not needed.

        >>> DocumentMask(False, "BloomForCausalLM does not mask attention").line
        'attention is not limited to documents: BloomForCausalLM does not mask attention'
        """
        if self.on:
            return "attention stays within documents"
        return f"attention is not limited to documents: {self.why_not}" if self.why_not else ""


def check_mask(folder: Path) -> None:
    """Raise `ModelError` where the model in a folder cannot keep documents apart."""
    if problem := mask_problem(folder):
        msg = (
            f"training.document_attention_mask: {problem}; leave the setting out, or use "
            f"training.packing.layout: documents"
        )
        raise ModelError(msg)


def text_problem(text: TrainingText) -> str:
    """Return why it is not known where documents begin; "" where it is."""
    for source in text.sources:
        if not source.blocks.marks_documents:
            return (
                f"the token between documents is also within them ({source.name}), as a chat "
                f"template may write it between turns, or a tokenizer for unknown characters"
            )
    return ""


def mask_problem(folder: Path) -> str:
    """Return why the model in a folder cannot keep documents apart; "" where it can."""
    config = read_model_config(folder)
    failure = ""
    # A whole model is tried if its configuration cannot be made smaller.
    for shrink in (_made_smaller, deepcopy):
        try:
            model = _random_model(shrink(config), folder)
            influence = masked_influence(model)
        except Exception as error:
            # Too little memory says nothing of the model; its code can fail in any other way.
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise
            failure = failure or f"{type(error).__name__}: {one_line(error)}"
            continue
        name = type(model).__name__
        if math.isnan(influence):
            return f"in a trial with random weights, {name} showed nothing"
        if influence > ROUNDING:
            return f"{name} does not mask attention between the documents of a sequence"
        return ""
    failure = failure.replace(f"{folder}: ", "")
    return f"a trial of a small {config.model_type} model failed ({failure})"


def _random_model(config: Any, folder: Path) -> Any:
    """Build a model with random weights; raises `ModelError` where that is not possible."""
    size = sum(parameter.numel() for parameter in meta_model(config, folder).parameters())
    if size > LARGEST_TRIAL:
        msg = f"{folder}: it has {size:,} parameters, more than the {LARGEST_TRIAL:,} of a trial"
        raise ModelError(msg)
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(config, folder, dtype=torch.float32).eval()
        # Layers that begin as zeros would hide the documents that they read.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@torch.no_grad()
def masked_influence(model: Any) -> float:
    """Return how much another document changes logits, as a part of the change without a mask.

    NaN where logits are not finite, or where nothing changes without a mask either.
    """
    changes = []
    first = trial_lengths(model)[0]
    for apart in (True, False):
        one, other = trial_logits(model, apart=apart)[:, first:]
        changes.append(float((one - other).abs().max()))
    masked, unmasked = changes
    return masked / unmasked if unmasked and math.isfinite(unmasked) else math.nan


def trial_lengths(model: Any) -> tuple[int, int]:
    """Return the tokens of both documents, of which the model's context has room."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(context, int) or not 1 < context < FIRST + SECOND:
        return FIRST, SECOND
    first = context * FIRST // (FIRST + SECOND)
    return first, context - first


def trial_logits(model: Any, *, apart: bool) -> Tensor:
    """Return the logits of two sequences that differ in each id of their first documents.

    `apart` says whether positions start again in the second document. In float32:
    [2, tokens, ids].
    """
    first, second = trial_lengths(model)
    ids = torch.randint(1, TRIAL_IDS, (first + second,), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:first] = ids[:first] % (TRIAL_IDS - 1) + 1
    places = torch.arange(first + second)
    if apart:
        places[first:] -= first
    logits: Tensor = model(
        input_ids=torch.stack([ids, other]).to(model.device),
        position_ids=places.repeat(2, 1).to(model.device),
        use_cache=False,
    ).logits
    return logits.float()


def _made_smaller(config: Any) -> Any:
    """Return a configuration with few ids, and as few layers of text as have all kinds of them.

    Encoders of images and sound, which read no text, have one layer.
    """
    config = deepcopy(config)
    text = config.get_text_config()
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None and part is not text:
            _cut(part, 1)
    kinds = list(getattr(text, "layer_types", None) or ())
    _cut(text, max((kinds.index(kind) + 1 for kind in set(kinds)), default=2))
    # Where it is no attribute, the configuration computes it from the number of layers.
    if "layer_types" in vars(text):
        text.layer_types = kinds[: text.num_hidden_layers]
    # The layers of Gemma 3n that share keys and values come last.
    if hasattr(text, "num_kv_shared_layers"):
        text.num_kv_shared_layers = 0
    # The id of padding is checked against the number of ids.
    text.vocab_size, text.pad_token_id = TRIAL_IDS, 0
    return config


def _cut(config: Any, layers: int) -> None:
    """Lower the number of layers, and the width of what reads each token alone."""
    for names, most in ((LAYERS, layers), (WIDTHS, TRIAL_WIDTH)):
        for name in names:
            size = getattr(config, name, None)
            if isinstance(size, int):
                setattr(config, name, min(size, most))
