"""Rows from the source rows of the pieces that spelled the token before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.inits import weights as weighing
from lingraft.inits.base import INITS, EmbeddingInit, InitRequest, InitRows

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_TOKENS = 4096
Weighting = Literal["uniform", "characters", "position", "first", "last", "merges"]


@INITS.register
class SubtokenMean(EmbeddingInit):
    """The weighted mean of the rows of the token's source pieces."""

    name: ClassVar[str] = "mean"
    reference: ClassVar[str] = ("Gee et al. 2022, Fast Vocabulary Transfer (arXiv 2402.09977); "
                                "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 3.2")

    weights: Weighting = Field(
        default="uniform",
        description="what a piece counts: the same each (uniform), its characters, 1/(i + 1) at "
                    "position i, only the first or the last, or half as much at each level of the "
                    "merge tree (merges)")

    def rows(self, request: InitRequest) -> InitRows:
        """Average the rows of each token's pieces, summed in float64."""
        pieces = [token.pieces for token in request.splice.added]
        shares, origins = piece_weights(request, self.weights)
        return InitRows(weighted_means(request.matrix, pieces, shares), origins)


def piece_weights(request: InitRequest, weighting: Weighting) -> tuple[list[tuple[float, ...]], tuple[str, ...]]:
    """Return the weight of every piece of every added token, and how it came about."""
    tokens = request.splice.added
    label = {"uniform": "subtoken mean", "characters": "subtoken mean by characters",
             "position": "subtoken mean by position", "first": "first subtoken", "last": "last subtoken",
             "merges": "merge tree"}[weighting]
    if weighting == "merges":
        tree = weighing.MergeTree.read(request.tokenizer_folder)
        numbers = weighing.target_numbers(request.splice.kept, tokens)
        found = [tree.weights(token, numbers) for token in tokens]
        fallback = "fallback: mean of the tokens that the merges reach"
        return [shares for shares, _ in found], tuple(label if whole else fallback for _, whole in found)
    if weighting == "characters":
        source = request.source_tokenizer.vocabulary
        return [weighing.by_characters(token, source) for token in tokens], (label,) * len(tokens)
    weigh = {"uniform": weighing.uniform, "position": weighing.by_position, "first": weighing.first,
             "last": weighing.last}[weighting]
    return [weigh(token) for token in tokens], (label,) * len(tokens)


def weighted_means(matrix_VD: Tensor, pieces: Sequence[Sequence[int]], weights: Sequence[Sequence[float]]) -> Tensor:
    """Return the weighted mean of each list of rows, [A, D] in float32, summed in float64 in the order of the pieces.

    Memory: the rows of 4,096 lists at a time.
    """
    import torch

    means_AD = torch.empty((len(pieces), matrix_VD.shape[1]), dtype=torch.float32)
    for begin in range(0, len(pieces), BLOCK_TOKENS):
        ids, shares = pieces[begin:begin + BLOCK_TOKENS], weights[begin:begin + BLOCK_TOKENS]
        flat = torch.tensor([i for group in ids for i in group], dtype=torch.long)
        owner = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor([len(group) for group in ids]))
        share = torch.tensor([value for group in shares for value in group], dtype=torch.float64)
        sums = torch.zeros((len(ids), matrix_VD.shape[1]), dtype=torch.float64)
        sums.index_add_(0, owner, matrix_VD[flat].double() * share[:, None])
        total = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owner, share)
        means_AD[begin:begin + len(ids)] = (sums / total[:, None]).float()
    return means_AD
