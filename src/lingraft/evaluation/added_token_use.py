"""The use of added tokens: whether text uses them, and whether training changed their rows.

*Under-trained* tokens have rows that training hardly changed. Land and Bartolo (2024, arXiv
2405.05417) find them in finished models by rows that resemble those of tokens never seen. Here the
row before training is known, so its rotation is measured: the sine of the angle between the input
row before and after training. An added token is under-trained if its rotation is less than a tenth
of the median over all added rows. Weight decay, which shrinks rows that no text used, does not
rotate a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.evaluation.bootstrap import Floats, measure_ratio
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.text_scores import Integers, TextScores
from lingraft.measurement import Measurement

if TYPE_CHECKING:
    from torch import Tensor

FREQUENT = 10
"""Occurrences in the held-out text from which an added token is in frequent use."""
RARE = 10
"""Occurrences in the training text below which an added token counts as rarely seen."""
MIN_ROTATION_SHARE = 0.1
"""Share of the median rotation below which a row counts as under-trained."""
ROUNDING = 1e-6
"""Sine below which a row counts as not rotated: rounding of weight decay in float32."""


@dataclass(frozen=True)
class AddedTokenUse:
    """The added ids of a model, their counts in training text, and the rotations of their rows.

    `exposures` is `None` if nothing was trained.
    """

    ids: Integers
    exposures: Integers | None
    rotations: Floats


def measure_use(
    scores: TextScores,
    added: Sequence[int],
    language: str,
    subject: str,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure how many added tokens occur in a text, once and often, and their share of it."""
    added_set = frozenset(added)
    counts = np.bincount(scores.ids, minlength=max(added_set) + 1)[sorted(added_set)]
    share = measure_ratio(
        "tokens that are added",
        "share",
        scores.count_in_documents(added_set),
        scores.tokens,
        subject=subject,
        language=language,
        bootstrap=bootstrap,
    )
    measurements = []
    for metric, least in (("added tokens in use", 1), ("added tokens in frequent use", FREQUENT)):
        measurements.append(
            Measurement(
                metric,
                subject,
                float((counts >= least).mean()),
                "share",
                language,
                n=len(added_set),
                per="added token",
                note=f"{least} or more occurrences" if least > 1 else "",
            )
        )
    return [*measurements, *share]


def measure_exposure(use: AddedTokenUse, language: str, subject: str) -> list[Measurement]:
    """Measure how often added tokens occur in training text, and how many are under-trained."""
    common: dict[str, Any] = {
        "subject": subject,
        "language": language,
        "split": "train",
        "n": len(use.ids),
        "per": "added token",
    }
    measurements = []
    if use.exposures is not None:
        # Counts are very skewed (Zipf), so quantiles are reported and no mean.
        tenth, median, ninth = np.quantile(use.exposures, [0.1, 0.5, 0.9])
        never = int((use.exposures == 0).sum())
        note = (
            f"one pass over the text; a tenth has {tenth:,.0f} or fewer, "
            f"a tenth {ninth:,.0f} or more, {never} none"
        )
        measurements += [
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
    undertrained = Measurement(
        "under-trained added tokens",
        value=float(find_undertrained(use.rotations).mean()),
        unit="share",
        note="input row turned less than a tenth of the median of added rows",
        **common,
    )
    return [*measurements, undertrained]


def find_undertrained(rotations: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return for each added token whether it is under-trained.

    >>> find_undertrained(np.array([0.0, 0.01, 0.2, 0.4])).tolist()
    [True, True, False, False]
    """
    is_small: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (
        rotations < MIN_ROTATION_SHARE * np.median(rotations)
    )
    # If most rows did not rotate, the median is 0, and no row is below a tenth of it. So a row that
    # did not rotate always counts.
    return is_small | (rotations < ROUNDING)


def measure_rotation(before: Tensor, after: Tensor, ids: Integers) -> Floats:
    """Return the sine of the angle between the input rows of these ids before and after training.

    `before` and `after` are input embeddings, [rows, width].
    """
    import torch

    rows = torch.from_numpy(ids)
    first = before[rows].double()
    last = after[rows].double()
    # The sine is the length of the component perpendicular to the old row, over the whole length.
    # The root of 1 - cosine^2 would lose angles near 0 to rounding.
    parallel = (first * last).sum(dim=1) / first.square().sum(dim=1).clamp_min(1e-300)
    perpendicular = last - parallel[:, None] * first
    rotations: Floats = (perpendicular.norm(dim=1) / last.norm(dim=1).clamp_min(1e-300)).numpy()
    return rotations
