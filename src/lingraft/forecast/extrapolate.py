"""Extrapolate the saving of added tokens from half of a text and all of it to a larger text.

From half the text to all of it the saving grows by a step; every further doubling adds a share q of
the step before:

    share(bytes) = share(text) - step * (q + q**2 + ... + q**doublings),   q = 0.55

Measured with 5,000, 10,000 and 30,000 tokens learned from 0.25, 0.5, 1, 2 and 4 MB against 12 MB,
on Llama-2 (Hindi, Turkish) and Qwen2 (Arabic), the best q was between 0.36 and 0.8, with the mean
0.56.

A small text runs out of tokens that save anything. Where half of it did, the step includes the
saving of further tokens, which no doubling repeats. The step is then scaled from the largest size
that half the text reached. Beyond the number of tokens found in all of the text, the curve bends
towards the point where the tokens of the larger text run out: with t the share of the way there in
the logarithm of the size, 1 - (1 - t)**2 of the gap is closed.

The 95% interval resamples held-out groups, and draws q and the exponent from their ranges.
Suffixes: G groups of held-out documents, K sizes, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

TARGETS = (1_000, 5_000, 10_000, 30_000)
SIZES = (250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000)
SHRINKING = 0.55
SHRINKING_RANGE = (0.35, 0.8)
BEND = 2.0
BEND_RANGE = (1.0, 3.5)
DRAWS = 1_000
CONFIDENCE = 0.95

Floats: TypeAlias = npt.NDArray[np.float64]


def extrapolate(
    base_G: Floats,
    half_KG: Floats,
    full_KG: Floats,
    floor_G: Floats,
    *,
    doublings: float,
    found: tuple[int, int],
    sizes: Sequence[int] = SIZES,
) -> tuple[list[float], list[float], list[float]]:
    """Return the share of tokens left at each size, with its interval, after `doublings`.

    `found` is how many tokens that save anything were found in half of the text and in all of it.
    """
    groups, sizes_K = len(base_G), np.array(sizes[: len(full_KG)], dtype=np.float64)
    random = np.random.default_rng(0)
    drawn_BG = random.multinomial(groups, np.full(groups, 1 / groups), size=DRAWS).astype(
        np.float64
    )
    weights_BG = np.concatenate(
        [np.ones((1, groups)), drawn_BG]
    )  # the first row is the text as it is
    q_B = np.concatenate([[SHRINKING], random.uniform(*SHRINKING_RANGE, size=DRAWS)])
    bend_B = np.concatenate([[BEND], random.uniform(*BEND_RANGE, size=DRAWS)])
    total_B = weights_BG @ base_G
    half_BK, full_BK = (
        (weights_BG @ tokens_KG.T) / total_B[:, None] for tokens_KG in (half_KG, full_KG)
    )
    further_B = q_B * (1 - q_B**doublings) / (1 - q_B)
    step_BK = np.maximum(half_BK - full_BK, 0)
    used_up_B = full_BK[:, -1] - step_BK[:, -1] * further_B
    share_BK = full_BK - _repeated(step_BK, found, sizes_K) * further_B[:, None]
    growth = (found[1] / max(found[0], 1)) ** doublings
    share_BK = _bent(share_BK, used_up_B, bend_B, sizes_K, found=found[1], later=found[1] * growth)
    share_BK = np.maximum(share_BK, ((weights_BG @ floor_G) / total_B)[:, None])
    share_BK = np.minimum.accumulate(share_BK, axis=1)
    tail = (1 - CONFIDENCE) / 2
    low_K, high_K = np.quantile(share_BK[1:], [tail, 1 - tail], axis=0)
    return share_BK[0].tolist(), low_K.tolist(), high_K.tolist()


def _repeated(step_BK: Floats, found: tuple[int, int], sizes_K: Floats) -> Floats:
    """Return the part of each step that repeats, where half the text ran out of tokens."""
    in_half, in_full = (int(np.searchsorted(sizes_K, number, side="right")) for number in found)
    if in_half == 0:
        return step_BK
    capped_BK = np.minimum(
        step_BK, step_BK[:, in_half - 1 : in_half] * sizes_K / sizes_K[in_half - 1]
    )
    return np.concatenate(
        [step_BK[:, :in_half], capped_BK[:, in_half:in_full], step_BK[:, in_full:]], axis=1
    )


def _bent(
    share_BK: Floats,
    used_up_B: Floats,
    bend_B: Floats,
    sizes_K: Floats,
    *,
    found: int,
    later: float,
) -> Floats:
    """Bend the curve beyond the last size that the text reached towards `later` tokens."""
    filled = int(np.searchsorted(sizes_K, found, side="right"))
    if filled == 0 or filled == len(sizes_K):
        return share_BK
    last = sizes_K[filled - 1]
    part_K = np.minimum(np.log(sizes_K[filled:] / last) / max(math.log(later / last), 1e-9), 1)
    gone_BK = 1 - (1 - part_K) ** bend_B[:, None]
    beyond_BK = share_BK[:, filled - 1 : filled] * (1 - gone_BK) + used_up_B[:, None] * gone_BK
    return np.concatenate([share_BK[:, :filled], beyond_BK], axis=1)
