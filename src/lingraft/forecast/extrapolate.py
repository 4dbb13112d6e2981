"""Extrapolate the saving of added tokens from a text to a larger text.

The share of tokens left is measured with tokens learned from half of the text and from all of it.
The difference is a step, and each doubling of the text subtracts a share q of the previous step:

    share(bytes) = share(text) - step * (q + q**2 + ... + q**doublings),   q = 0.55

A small text contains few useful tokens, that is, tokens that save anything. Two corrections follow:

- If half of the text had fewer useful tokens than a size, but all of it had enough, the step at
  this size is too large: it includes the saving of the additional tokens, which the next doubling
  does not repeat. The step is scaled from the largest size that half of the text reached.
- At sizes beyond the useful tokens of all of the text, nothing was measured. There the curve bends
  from the last size that was reached to the size at which the larger text has no more useful
  tokens. With t the share of the way there in the logarithm of the size, 1 - (1 - t)**2 of the gap
  between the values at the two sizes is closed.

The 95% interval resamples held-out groups, and draws q and the exponent from their ranges.
Suffixes: G groups of held-out documents, K sizes, B draws; draw 0 is the text without resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lingraft.vocabulary.auto_size import SIZES

TARGETS = (1_000, 5_000, 10_000, 30_000)
# With 5,000, 10,000 and 30,000 tokens learned from 0.25, 0.5, 1, 2 and 4 MB and compared with
# 12 MB, on Llama-2 (Hindi, Turkish) and Qwen2 (Arabic), the best q was between 0.36 and 0.8, with
# mean 0.56.
STEP_RATIO = 0.55
STEP_RATIO_RANGE = (0.35, 0.8)
BEND = 2.0
BEND_RANGE = (1.0, 3.5)
DRAWS = 1_000
CONFIDENCE = 0.95

Floats: TypeAlias = npt.NDArray[np.float64]


class ExtrapolatedShares(NamedTuple):
    """The share of tokens left at each size, with the bounds of its interval."""

    share: list[float]
    low: list[float]
    high: list[float]


def extrapolate(
    base_G: Floats,
    half_KG: Floats,
    full_KG: Floats,
    lower_bound_G: Floats,
    *,
    doublings: float,
    useful: tuple[int, int],
    sizes: Sequence[int] = SIZES,
) -> ExtrapolatedShares:
    """Return the share of tokens left at each size after `doublings` of the text.

    `base_G` are the tokens without added ones, `half_KG` and `full_KG` those with tokens learned
    from half and all of the text, `lower_bound_G` the pre-tokens. `useful` is the number of useful
    tokens in half and in all of the text.
    """
    groups, sizes_K = len(base_G), np.array(sizes[: len(full_KG)], dtype=np.float64)
    # A fixed seed: the same text gives the same interval.
    random = np.random.default_rng(0)
    # A draw of the bootstrap is the number of times that each group occurs in it.
    counts_BG = random.multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    weights_BG = np.concatenate([np.ones((1, groups)), counts_BG.astype(np.float64)])
    q_B = np.concatenate([[STEP_RATIO], random.uniform(*STEP_RATIO_RANGE, size=DRAWS)])
    bend_B = np.concatenate([[BEND], random.uniform(*BEND_RANGE, size=DRAWS)])
    total_B = weights_BG @ base_G
    half_BK = (weights_BG @ half_KG.T) / total_B[:, None]
    full_BK = (weights_BG @ full_KG.T) / total_B[:, None]
    later_steps_B = q_B * (1 - q_B**doublings) / (1 - q_B)  # q + q**2 + ... + q**doublings
    # By chance, tokens from all of the text can save less than those from half of it.
    step_BK = np.maximum(half_BK - full_BK, 0)
    exhausted_B = full_BK[:, -1] - step_BK[:, -1] * later_steps_B
    share_BK = full_BK - _repeating_step(step_BK, useful, sizes_K) * later_steps_B[:, None]
    # The useful tokens are assumed to grow by the same factor with each doubling.
    growth = (useful[1] / max(useful[0], 1)) ** doublings
    share_BK = _bend(
        share_BK, exhausted_B, bend_B, sizes_K, useful=useful[1], later=useful[1] * growth
    )
    # More tokens never cost tokens, and no token crosses the boundary of a pre-token.
    share_BK = np.maximum(share_BK, ((weights_BG @ lower_bound_G) / total_B)[:, None])
    share_BK = np.minimum.accumulate(share_BK, axis=1)
    tail = (1 - CONFIDENCE) / 2
    low_K, high_K = np.quantile(share_BK[1:], [tail, 1 - tail], axis=0)
    return ExtrapolatedShares(share_BK[0].tolist(), low_K.tolist(), high_K.tolist())


def _repeating_step(step_BK: Floats, useful: tuple[int, int], sizes_K: Floats) -> Floats:
    """Return the part of each step that a doubling repeats, if half of the text had few tokens."""
    in_half = int(np.searchsorted(sizes_K, useful[0], side="right"))
    # By chance, half of the text can have more useful tokens than all of it.
    in_full = max(int(np.searchsorted(sizes_K, useful[1], side="right")), in_half)
    if in_half == 0:
        return step_BK
    scaled_BK = step_BK[:, in_half - 1 : in_half] * sizes_K / sizes_K[in_half - 1]
    capped_BK = np.minimum(step_BK, scaled_BK)
    parts = [step_BK[:, :in_half], capped_BK[:, in_half:in_full], step_BK[:, in_full:]]
    return np.concatenate(parts, axis=1)


def _bend(
    share_BK: Floats,
    exhausted_B: Floats,
    bend_B: Floats,
    sizes_K: Floats,
    *,
    useful: int,
    later: float,
) -> Floats:
    """Bend the curve after the last size that the text reached towards its end at `later` tokens.

    `exhausted_B` is the share of tokens left at this end.
    """
    reached = int(np.searchsorted(sizes_K, useful, side="right"))
    if reached == 0 or reached == len(sizes_K):
        return share_BK
    last = sizes_K[reached - 1]
    way_K = np.minimum(np.log(sizes_K[reached:] / last) / max(math.log(later / last), 1e-9), 1)
    closed_BK = 1 - (1 - way_K) ** bend_B[:, None]
    last_BK = share_BK[:, reached - 1 : reached]
    beyond_BK = last_BK * (1 - closed_BK) + exhausted_B[:, None] * closed_BK
    return np.concatenate([share_BK[:, :reached], beyond_BK], axis=1)
