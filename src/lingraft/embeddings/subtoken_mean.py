"""How much each piece of a token counts in a weighted mean of the pieces' rows.

Rows from the source rows of the pieces that spelled the token before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor


Weights = tuple[float, ...]


def uniform(token: AddedToken) -> Weights:
    """Every piece counts the same."""
    return (1.0,) * len(token.pieces)


def by_position(token: AddedToken) -> Weights:
    """Piece i counts 1 / (i + 1): what begins a token says most about it."""
    return tuple(1 / (i + 1) for i in range(len(token.pieces)))


def first(token: AddedToken) -> Weights:
    """Only the first piece counts."""
    return (1.0, *(0.0,) * (len(token.pieces) - 1))


def last(token: AddedToken) -> Weights:
    """Only the last piece counts."""
    return (*(0.0,) * (len(token.pieces) - 1), 1.0)


def by_characters(token: AddedToken, source: Vocabulary) -> Weights:
    """Each piece counts as many characters as it spells; a byte of a longer character counts its share of it.

    >>> vocabulary = Vocabulary((b"in", b"form", b" ", bytes([0xC3]), bytes([0xA9])))
    >>> by_characters(AddedToken(5, b"inform", (0, 1)), vocabulary)
    (2.0, 4.0)
    >>> by_characters(AddedToken(5, "é".encode(), (3, 4)), vocabulary)
    (0.5, 0.5)
    """
    shares = character_shares(token.surface)
    sizes = [len(source.surfaces[piece] or b"") for piece in token.pieces]
    if sum(sizes) != len(shares) or not all(
        sizes
    ):  # a piece that is no text, or a normaliser that changed the surface
        return tuple(float(max(1, size)) for size in sizes)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(sum(shares[end - size : end]) for end, size in zip(ends, sizes, strict=True))


def character_shares(surface: bytes) -> list[float]:
    """Return for each byte what part of a character it is; bytes that are no UTF-8 count as a quarter."""
    shares: list[float] = []
    for character in surface.decode("utf-8", errors="surrogateescape"):
        size = len(character.encode("utf-8", errors="surrogateescape"))
        shares.extend([0.25] if "\udc80" <= character <= "\udcff" else [1 / size] * size)
    return shares


class MergeTree:
    """The merges of a target tokenizer: which two tokens make a third, and before which others.

    A token's row is the mean of the rows of the two that it is merged from, and theirs likewise, down to source
    tokens: a piece at depth d counts 2^-d.
    """

    def __init__(self, ranks: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        self.ranks = ranks

    @classmethod
    def read(cls, folder: Path) -> MergeTree:
        """Read the merges of a tokenizer.json; raises `ModelError` where there are none."""
        path = folder / "tokenizer.json"
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        if not model.get("merges"):
            msg = f"{path}: a {model.get('type')} tokenizer has no merges; choose other weights than 'merges'"
            raise ModelError(msg)
        vocab = model["vocab"]
        ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge if isinstance(merge, list) else merge.split(" ")
            ranks.setdefault((vocab[left], vocab[right]), (rank, vocab[left + right]))
        return cls(ranks)

    def weights(self, token: AddedToken, target_of: Mapping[int, int]) -> tuple[Weights, bool]:
        """Return the weights of the token's pieces, and whether its merges lead to the token itself.

        `target_of` gives a source id's number in the target; where the merges stop early, the tokens reached count
        alike.
        """
        count = len(token.pieces)
        nodes = [target_of.get(piece, -1) for piece in token.pieces]
        shares: list[Weights] = [tuple(float(i == j) for j in range(count)) for i in range(count)]
        while len(nodes) > 1:
            pairs = enumerate(pairwise(nodes))
            found = [(self.ranks[pair], i) for i, pair in pairs if pair in self.ranks]
            if not found:
                break
            (_, merged), i = min(found)
            joined = tuple((a + b) / 2 for a, b in zip(shares[i], shares[i + 1], strict=True))
            nodes[i : i + 2], shares[i : i + 2] = [merged], [joined]
        return tuple(sum(column) / len(shares) for column in zip(*shares, strict=True)), nodes == [
            token.id
        ]


def target_numbers(kept: Mapping[int, int], pieces: Sequence[AddedToken]) -> dict[int, int]:
    """Return target ids of the source ids that are pieces of added tokens."""
    wanted = {piece for token in pieces for piece in token.pieces}
    return {source: target for target, source in kept.items() if source in wanted}


BLOCK_TOKENS = 4096
Weighting = Literal["uniform", "characters", "position", "first", "last", "merges"]


@INITS.register
class SubtokenMean(EmbeddingInit):
    """The weighted mean of the rows of the token's source pieces."""

    name: ClassVar[str] = "mean"
    reference: ClassVar[str] = (
        "Gee et al. 2022, Fast Vocabulary Transfer (arXiv 2402.09977); "
        "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 3.2"
    )

    weights: Weighting = Field(
        default="uniform",
        description="what a piece counts: the same each (uniform), its characters, 1/(i + 1) at "
        "position i, only the first or the last, or half as much at each level of the "
        "merge tree (merges)",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Average the rows of each token's pieces, summed in float64."""
        pieces = [token.pieces for token in request.splice.added]
        shares, origins = piece_weights(request, self.weights)
        return InitRows(weighted_means(request.matrix, pieces, shares), origins)


def piece_weights(
    request: InitRequest, weighting: Weighting
) -> tuple[list[tuple[float, ...]], tuple[str, ...]]:
    """Return the weight of every piece of every added token, and how it came about."""
    tokens = request.splice.added
    label = {
        "uniform": "subtoken mean",
        "characters": "subtoken mean by characters",
        "position": "subtoken mean by position",
        "first": "first subtoken",
        "last": "last subtoken",
        "merges": "merge tree",
    }[weighting]
    if weighting == "merges":
        tree = MergeTree.read(request.tokenizer_folder)
        numbers = target_numbers(request.splice.kept, tokens)
        found = [tree.weights(token, numbers) for token in tokens]
        fallback = "fallback: mean of the tokens that the merges reach"
        return [shares for shares, _ in found], tuple(
            label if whole else fallback for _, whole in found
        )
    if weighting == "characters":
        source = request.source_tokenizer.vocabulary
        return [by_characters(token, source) for token in tokens], (label,) * len(tokens)
    weigh = {
        "uniform": uniform,
        "position": by_position,
        "first": first,
        "last": last,
    }[weighting]
    return [weigh(token) for token in tokens], (label,) * len(tokens)


def weighted_means(
    matrix_VD: Tensor, pieces: Sequence[Sequence[int]], weights: Sequence[Sequence[float]]
) -> Tensor:
    """Return the weighted mean of each list of rows, [A, D] in float32, summed in float64 in the order of the pieces.

    Memory: the rows of 4,096 lists at a time.
    """
    import torch

    means_AD = torch.empty((len(pieces), matrix_VD.shape[1]), dtype=torch.float32)
    for begin in range(0, len(pieces), BLOCK_TOKENS):
        ids, shares = pieces[begin : begin + BLOCK_TOKENS], weights[begin : begin + BLOCK_TOKENS]
        flat = torch.tensor([i for group in ids for i in group], dtype=torch.long)
        owner = torch.repeat_interleave(
            torch.arange(len(ids)), torch.tensor([len(group) for group in ids])
        )
        share = torch.tensor([value for group in shares for value in group], dtype=torch.float64)
        sums = torch.zeros((len(ids), matrix_VD.shape[1]), dtype=torch.float64)
        sums.index_add_(0, owner, matrix_VD[flat].double() * share[:, None])
        total = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owner, share)
        means_AD[begin : begin + len(ids)] = (sums / total[:, None]).float()
    return means_AD
