"""What became of added tokens: whether text uses them, how often training showed them, and whether their rows turned.

*Under-trained* tokens are rows that training left as they were. Land and Bartolo (2024, arXiv 2405.05417) find them in
finished models by rows that resemble those of tokens never seen. Here the row before training is known, so the move
itself is the indicator: an added token is called under-trained where its input row turned by less than a tenth of the
median turn of all added rows. A turn is the sine of the angle between the row before and after: weight decay, which
shrinks rows that no text showed, turns none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.evaluation.bootstrap import Floats, ratio_row
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.text_scores import Integers, TextScores
from lingraft.measurement import Measurement

if TYPE_CHECKING:
    from torch import Tensor

RARE = 10
BARELY = 0.1
ROUNDING = 1e-6
"""Sine below which a row counts as never turned: what is left of decay in float32."""


@dataclass(frozen=True)
class AddedTokenUse:
    """The added ids of a model (A of them), their occurrences in training text, and how far their rows turned."""

    ids: Integers
    exposures: Integers | None = None
    turns: Floats | None = None


def use_rows(
    scores: TextScores,
    added: Sequence[int],
    language: str,
    subject: str,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the share of added tokens that a text uses, and the share of its tokens that are added."""
    chosen = frozenset(added)
    used = len(chosen & {*np.unique(scores.ids).tolist()})
    row = ratio_row(
        "tokens that are added",
        "share",
        scores.in_documents(chosen),
        scores.tokens,
        subject=subject,
        language=language,
        bootstrap=bootstrap,
    )
    in_use = Measurement(
        "added tokens in use",
        subject,
        used / len(chosen),
        "share",
        language,
        n=len(chosen),
        per="added token",
    )
    return [in_use, *([row] if row else [])]


def exposure_rows(use: AddedTokenUse, language: str, subject: str) -> list[Measurement]:
    """Measure how often the training text shows an added token, and how many of them it left under-trained."""
    common: dict[str, Any] = {
        "subject": subject,
        "language": language,
        "split": "train",
        "n": len(use.ids),
        "per": "added token",
    }
    rows = []
    if use.exposures is not None:
        tenth, median, ninth = np.quantile(use.exposures, [0.1, 0.5, 0.9])
        never = int((use.exposures == 0).sum())
        note = f"one pass over the text; a tenth has {tenth:,.0f} or fewer, a tenth {ninth:,.0f} or more, {never} none"
        rows += [
            Measurement(
                "exposures of an added token",
                value=float(median),
                unit="occurrences (median)",
                note=note,
                **common,
            ),
            Measurement(
                "rarely seen added tokens",
                value=float((use.exposures < RARE).mean()),
                unit="share",
                note=f"fewer than {RARE} occurrences in one pass",
                **common,
            ),
        ]
    if use.turns is not None:
        rows.append(
            Measurement(
                "under-trained added tokens",
                value=float(undertrained(use.turns).mean()),
                unit="share",
                note="input row turned less than a tenth of the median of added rows",
                **common,
            )
        )
    return rows


def undertrained(turns: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Say of each added token whether its row barely turned; one that did not turn at all never counts as trained.

    >>> undertrained(np.array([0.0, 0.01, 0.2, 0.4])).tolist()
    [True, True, False, False]
    """
    barely: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = turns < BARELY * np.median(turns)
    return barely | (turns < ROUNDING)


def turns_of(before: Path, after: Path, ids: Integers) -> Floats:
    """Return the sine of the angle between each input row before and after training."""
    import torch

    first, last = (input_rows(folder)[torch.from_numpy(ids)].double() for folder in (before, after))
    along = (first * last).sum(dim=1) / first.square().sum(dim=1).clamp_min(1e-300)
    across = last - along[:, None] * first
    turns: Floats = (across.norm(dim=1) / last.norm(dim=1).clamp_min(1e-300)).numpy()
    return turns


def input_rows(folder: Path) -> Tensor:
    """Map the input embedding of a model folder into memory."""
    checkpoint = Checkpoint.open(folder)
    return checkpoint.tensor(embedding_names(checkpoint).input[0])
