"""Sparsemax: the projection of scores onto the probability simplex (Martins & Astudillo 2016).

Only scores within 1 of the highest can get a weight above 0, and usually few of them do. So the
64 highest scores of a row are tried first. Rows where all of them get weight are tried again with
four times as many, and so on. Usually no row needs a full sort. Importing this module imports
torch. Suffixes: A rows of scores, N scores, K highest scores, E size of the static vectors, D
width of the matrix, V source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize, pad

FIRST_CANDIDATES = 64
BLOCK_SCORES = 64 * 2**20
"""Scores in memory at a time: 256 MB in float32."""


def sparsemax(scores_AN: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of each row's K highest scores and their indices, [A, K] each.

    Weights sum to 1. A row's support is the set of its weights above 0; its other weights are 0. K
    is 64, or 64 times a power of 4 if the support of a row is larger, and at most N.

    >>> weights, indices = sparsemax(torch.tensor([[0.1, 1.2, 0.6]]))
    >>> [round(w, 6) for w in weights[0].tolist()], indices[0].tolist()
    ([0.8, 0.2, 0.0], [1, 2, 0])
    """
    size = min(FIRST_CANDIDATES, scores_AN.shape[1])
    highest_AK, indices_AK = scores_AN.topk(size, dim=1)
    weights_AK = _weights(highest_AK)
    # If even the lowest candidate of a row got weight, its support may be larger than K.
    incomplete = (weights_AK[:, -1] > 0).nonzero()[:, 0]
    while len(incomplete) and size < scores_AN.shape[1]:
        size = min(4 * size, scores_AN.shape[1])
        highest, indices = scores_AN[incomplete].topk(size, dim=1)
        padding = size - weights_AK.shape[1]
        weights_AK, indices_AK = pad(weights_AK, (0, padding)), pad(indices_AK, (0, padding))
        weights_AK[incomplete], indices_AK[incomplete] = _weights(highest), indices
        incomplete = incomplete[weights_AK[incomplete, -1] > 0]
    return weights_AK, indices_AK


def _weights(sorted_AK: Tensor) -> Tensor:
    """Return the sparsemax of rows sorted from high to low; exact if the support is below K.

    Martins & Astudillo 2016, algorithm 1.
    """
    counts_K = torch.arange(1, sorted_AK.shape[1] + 1, dtype=sorted_AK.dtype)
    excess_AK = sorted_AK.cumsum(dim=1) - 1
    support_A = (counts_K * sorted_AK > excess_AK).sum(dim=1, keepdim=True)
    threshold_A = excess_AK.gather(1, support_A - 1) / support_A
    return (sorted_AK - threshold_A).clamp(min=0)


def mix_rows(
    added_AE: Tensor, anchors_NE: Tensor, matrix_VD: Tensor, sources_N: Sequence[int]
) -> Tensor:
    """Return the mixtures [A, D] of the anchors' source rows.

    The weights are the sparsemax of the cosine similarities between the static vectors of added
    tokens and anchors. `sources_N` are the source ids of the anchors.
    """
    added_AE, anchors_NE = normalize(added_AE, dim=1), normalize(anchors_NE, dim=1)
    rows_ND = matrix_VD[torch.tensor(sources_N)].float()
    block = max(1, BLOCK_SCORES // max(1, len(anchors_NE)))
    mixed = []
    # In blocks: the scores of all added tokens and all anchors would not fit into memory.
    for begin in range(0, len(added_AE), block):
        weights_AK, indices_AK = sparsemax(added_AE[begin : begin + block] @ anchors_NE.T)
        mixed.append(embedding_bag(indices_AK, rows_ND, per_sample_weights=weights_AK, mode="sum"))
    return torch.cat(mixed)
