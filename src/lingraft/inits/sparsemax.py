"""Sparsemax: the point of the probability simplex nearest to a vector of scores (Martins & Astudillo 2016).

Only scores within 1 of the highest can get weight, and few of those do, so the highest are looked at first: 64 of them,
and four times as many for the rows where all had weight. A full sort of 100,000 scores a row is never needed.
Suffixes: A rows, N scores, K highest scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FIRST_LOOK = 64


def sparsemax(scores_AN: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the K highest scores of each row and their places, [A, K] each; weights sum to 1.

    K is the largest support of all rows, rounded up to a power of four times 64; weights outside a row's support are 0.

    >>> import torch
    >>> weights, places = sparsemax(torch.tensor([[0.1, 1.2, 0.6]]))
    >>> [round(w, 6) for w in weights[0].tolist()], places[0].tolist()
    ([0.8, 0.2, 0.0], [1, 2, 0])
    """
    import torch

    size = min(FIRST_LOOK, scores_AN.shape[1])
    highest_AK, places_AK = scores_AN.topk(size, dim=1)
    weights_AK = _weights(highest_AK)
    full = (weights_AK[:, -1] > 0).nonzero()[:, 0]
    while len(full) and size < scores_AN.shape[1]:
        size = min(4 * size, scores_AN.shape[1])
        more, where = scores_AN[full].topk(size, dim=1)
        padding = size - weights_AK.shape[1]
        weights_AK = torch.nn.functional.pad(weights_AK, (0, padding))
        places_AK = torch.nn.functional.pad(places_AK, (0, padding))
        weights_AK[full], places_AK[full] = _weights(more), where
        full = full[weights_AK[full, -1] > 0]
    return weights_AK, places_AK


def _weights(sorted_AK: Tensor) -> Tensor:
    """Return the sparsemax of rows sorted from high to low, exact where the support is smaller than K."""
    import torch

    counts_K = torch.arange(1, sorted_AK.shape[1] + 1, dtype=sorted_AK.dtype)
    excess_AK = sorted_AK.cumsum(dim=1) - 1
    support_A = (counts_K * sorted_AK > excess_AK).sum(dim=1, keepdim=True)
    threshold_A = excess_AK.gather(1, support_A - 1) / support_A
    return (sorted_AK - threshold_A).clamp(min=0)
