"""Whether attention stays within a document: `training.document_attention_mask`.

`auto` depends on the text and the model, never on the device or the precision, so that a recipe has
one result. Documents are kept apart where

- they share sequences (the layout `stream`),
- the token that separates them is not written within them, by a chat template for example,
- the model masks them by their position ids, as most models of transformers do.

Whether a model does is tried: its first layers, with random weights in float32 on the CPU, read two
sequences that differ in their first documents. Their second documents then have the same logits.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingraft.checkpoint.load_model import build_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.errors import ModelError, one_line
from lingraft.training.phase_steps import TrainingText
from lingraft.training.plan import TrainingPlan

ROUNDING = 1e-5
"""The largest change of logits by another document, as a part of the change without a mask.

Experts compute their tokens together, so that other documents change the rounding: by up to 1.9e-6
in 150 small models of transformers. Where a convolution alone reads across documents (LFM2), it is
9.4e-4 (benchmarks/document_masks.py).
"""
TRIAL = ((1, 2, 3, 1, 4, 5), (1, 6, 7, 1, 4, 5))
"""Two sequences of two documents, of which the second ones are the same."""
APART, ACROSS = (0, 1, 2, 0, 1, 2), (0, 1, 2, 3, 4, 5)
"""Positions that start again in each document, and positions that do not."""
TRIAL_IDS, TRIAL_WIDTH = 8, 64


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
                f"the chat template writes the separator of documents between turns ({source.name})"
            )
    return ""


def mask_problem(folder: Path) -> str:
    """Return why the model in a folder cannot keep documents apart; "" where it can."""
    config = read_model_config(folder)
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = build_model(_first_layers(config), folder, dtype=torch.float32).eval()
        mixes = masked_influence(model) > ROUNDING
    except Exception as error:  # noqa: BLE001 - the code of a model can fail in any way
        reason = f"{type(error).__name__}: {one_line(error)}"
        return (
            f"masks were tried on two layers of a {config.model_type} model, and failed ({reason})"
        )
    if mixes:
        return f"{type(model).__name__} does not mask attention between the documents of a sequence"
    return ""


@torch.no_grad()
def masked_influence(model: Any) -> float:
    """Return how much another document changes logits, as a part of the change without a mask."""
    changes = []
    for positions in (APART, ACROSS):
        one, other = trial_logits(model, positions)[:, 3:]
        changes.append(float((one - other).abs().max()))
    masked, unmasked = changes
    return masked / unmasked if masked else 0.0


def trial_logits(model: Any, positions: tuple[int, ...]) -> Tensor:
    """Return the logits of the two sequences of the trial, in float32: [2, 6, ids]."""
    ids = torch.tensor(TRIAL, device=model.device)
    places = torch.tensor([positions] * len(TRIAL), device=model.device)
    logits: Tensor = model(input_ids=ids, position_ids=places, use_cache=False).logits
    return logits.float()


def _first_layers(config: Any) -> Any:
    """Return a configuration with few ids, and with as few layers as have all kinds of layers."""
    config = deepcopy(config)
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or ())
    layers = max((kinds.index(kind) + 1 for kind in set(kinds)), default=2)
    text.num_hidden_layers = min(layers, text.num_hidden_layers)
    # Where it is no attribute, the configuration computes it from the number of layers.
    if "layer_types" in vars(text):
        text.layer_types = kinds[: text.num_hidden_layers]
    # The id of padding is checked against the number of ids.
    text.vocab_size, text.pad_token_id = TRIAL_IDS, 0
    # Feed-forward layers read each token alone, and are most of the time that a trial takes.
    for name in ("intermediate_size", "moe_intermediate_size"):
        size = getattr(text, name, None)
        if isinstance(size, int):
            setattr(text, name, min(size, TRIAL_WIDTH))
    return config
