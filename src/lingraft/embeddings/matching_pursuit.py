"""Orthogonal matching pursuit (Pati et al. 1993): sparse linear combinations of given rows.

Each step takes the shared row that is most aligned with the residual, and solves for the weights of
all rows taken so far again. Importing this module imports torch. Suffixes: A added tokens, S shared
tokens, E width of the donor, D width of the source, K terms of a combination.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK_SCORES = 64 * 2**20
"""Scores in memory at a time: 256 MB in float32."""

RIDGE = 1e-9
"""Keeps the normal equations solvable if two shared rows are equal."""


def matching_pursuit(wanted_AE: Tensor, shared_SE: Tensor, max_terms: int) -> tuple[Tensor, Tensor]:
    """Approximate each wanted row by a combination of at most `max_terms` shared rows.

    No row may be all zeros: it has no direction, and the equations can become singular. Returns the
    indices of the shared rows and their weights in float64, [A, K] each.
    """
    terms = min(max_terms, len(shared_SE))
    block = max(1, BLOCK_SCORES // len(shared_SE))
    indices, weights = [], []
    for begin in range(0, len(wanted_AE), block):
        indices_AK, weights_AK = _pursue_block(wanted_AE[begin : begin + block], shared_SE, terms)
        indices.append(indices_AK)
        weights.append(weights_AK)
    return torch.cat(indices), torch.cat(weights)


def _pursue_block(wanted_AE: Tensor, shared_SE: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Return indices and weights, [A, K] each, of a block of rows whose scores fit into memory."""
    directions_SE = torch.nn.functional.normalize(shared_SE, dim=1)
    count = len(wanted_AE)
    target_AE, residual_AE = wanted_AE.double(), wanted_AE
    taken_AS = torch.zeros((count, len(shared_SE)), dtype=torch.bool)
    indices_AK = torch.empty((count, 0), dtype=torch.long)
    weights_AK = torch.empty((count, 0), dtype=torch.float64)
    for _ in range(terms):
        # Scores in float32 only choose a row; the weights are solved in float64.
        # Rounding can leave a row that is already taken as the best again; -1 excludes it.
        scores_AS = (residual_AE @ directions_SE.T).abs_().masked_fill_(taken_AS, -1)
        best_A = scores_AS.argmax(dim=1)
        taken_AS[torch.arange(count), best_A] = True
        indices_AK = torch.cat([indices_AK, best_A[:, None]], dim=1)
        chosen_AKE = shared_SE[indices_AK].double()
        gram_AKK = chosen_AKE @ chosen_AKE.mT
        mean_A = gram_AKK.diagonal(dim1=1, dim2=2).mean(dim=1)
        gram_AKK += RIDGE * mean_A[:, None, None] * torch.eye(indices_AK.shape[1])
        weights_AK = torch.linalg.solve(gram_AKK, (chosen_AKE @ target_AE[:, :, None]))[:, :, 0]
        residual_AE = (target_AE - (weights_AK[:, None, :] @ chosen_AKE)[:, 0]).float()
    return indices_AK, weights_AK


def combine_rows(
    matrix_VD: Tensor, shared: Sequence[int], terms_AK: Tensor, weights_AK: Tensor
) -> Tensor:
    """Return the combinations [A, D] in float32; term s is the row of the source id `shared[s]`."""
    source_S = torch.tensor(shared)
    combined_AD = torch.zeros((len(terms_AK), matrix_VD.shape[1]), dtype=torch.float64)
    # One term at a time: all K rows of every token at once would need K times the memory.
    for terms_A, weights_A in zip(terms_AK.T, weights_AK.T, strict=True):
        combined_AD += matrix_VD[source_S[terms_A]].double() * weights_A[:, None]
    return combined_AD.float()
