"""The subtoken mean: a row is the weighted mean of the rows of the token's source subtokens.

The subtokens of an added token (`pieces`) are the ids that the source tokenizer gives for the
token's text. The weightings differ in how much each subtoken counts. Other methods use this module
for their fallback rows and for weighted means of rows. Suffixes: V source tokens, A added tokens, D
width of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, RowMixture
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Vocabulary
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.json_format import merges_of

if TYPE_CHECKING:
    from torch import Tensor


Weights = tuple[float, ...]
Weighting = Literal["uniform", "characters", "position", "first", "last", "merges"]

BLOCK_TOKENS = 4096
"""Added tokens whose subtoken rows are in memory at a time."""


@INITS.register
class SubtokenMean(EmbeddingInit):
    """The weighted mean of the rows of the token's source subtokens."""

    name: ClassVar[str] = "mean"
    reference: ClassVar[str] = (
        "Gee et al. 2022, Fast Vocabulary Transfer (arXiv 2402.09977); "
        "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 3.2"
    )

    weights: Weighting = Field(
        default="uniform",
        description="weight of a subtoken: 1 (uniform), its number of characters, 1/(i + 1) at "
        "position i, 1 for the first or the last only, or 2^-depth in the merge tree (merges)",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Average the rows of each token's subtokens, summed in float64."""
        pieces = [token.pieces for token in request.splice.added]
        weights, origins = piece_weights(request, self.weights)
        means_AD = weighted_means(request.matrix, pieces, weights)
        return InitRows(means_AD, origins, mixture=mean_mixture(pieces, weights))


def uniform_weights(token: AddedToken) -> Weights:
    """Give every subtoken the weight 1."""
    return (1.0,) * len(token.pieces)


def position_weights(token: AddedToken) -> Weights:
    """Give subtoken i the weight 1 / (i + 1): the first subtokens say most about the token."""
    return tuple(1 / (i + 1) for i in range(len(token.pieces)))


def first_weights(token: AddedToken) -> Weights:
    """Give the first subtoken the weight 1 and the others 0."""
    return (1.0, *(0.0,) * (len(token.pieces) - 1))


def last_weights(token: AddedToken) -> Weights:
    """Give the last subtoken the weight 1 and the others 0."""
    return (*(0.0,) * (len(token.pieces) - 1), 1.0)


def character_weights(token: AddedToken, source: Vocabulary) -> Weights:
    """Weigh each subtoken by its characters; a byte counts as its share of a multi-byte character.

    >>> vocabulary = Vocabulary((b"in", b"form", b" ", bytes([0xC3]), bytes([0xA9])))
    >>> character_weights(AddedToken(5, b"inform", (0, 1)), vocabulary)
    (2.0, 4.0)
    >>> character_weights(AddedToken(5, "é".encode(), (3, 4)), vocabulary)
    (0.5, 0.5)
    """
    shares = character_shares(token.surface)
    sizes = [len(source.surfaces[piece] or b"") for piece in token.pieces]
    # The bytes do not match if a subtoken has no text, or if a normalizer changed the surface.
    if sum(sizes) != len(shares) or not all(sizes):
        # Byte lengths instead of shares of characters; at least 1, so that no weight sum is 0.
        return tuple([float(max(1, size)) for size in sizes])
    weights = []
    begin = 0
    for size in sizes:
        weights.append(sum(shares[begin : begin + size]))
        begin += size
    return tuple(weights)


def character_shares(surface: bytes) -> list[float]:
    """Return for each byte 1 / the bytes of its character; an invalid UTF-8 byte counts 1/4."""
    shares: list[float] = []
    for character in surface.decode("utf-8", errors="surrogateescape"):
        if "\udc80" <= character <= "\udcff":  # surrogateescape's code for an invalid byte
            shares.append(0.25)  # a UTF-8 character has at most four bytes
        else:
            size = len(character.encode("utf-8"))
            shares.extend([1 / size] * size)
    return shares


class MergeTree:
    """The merges of a target tokenizer, which determine the weights of a token's subtokens.

    The row of a merged token is the mean of the rows of its two parts, which are source tokens or
    merged tokens themselves: a subtoken at depth d has the weight 2^-d. `ranks` maps a pair of
    target ids to the merge's rank and the id of the merged token.
    """

    def __init__(self, ranks: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        self.ranks = ranks

    @classmethod
    def of(cls, tokenizer: ModelTokenizer) -> MergeTree:
        """Return the merges of a tokenizer; raises `ModelError` if it has none."""
        family = tokenizer.family
        merges = merges_of(family.data)
        if not merges:
            msg = (
                f"{tokenizer.folder / 'tokenizer.json'}: a {family.name} tokenizer has no merges; "
                "choose other weights than 'merges'"
            )
            raise ModelError(msg)
        ids = family.pieces
        ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault((ids[left], ids[right]), (rank, ids[left + right]))
        return cls(ranks)

    def weights(self, token: AddedToken, target_of: Mapping[int, int]) -> tuple[Weights, bool]:
        """Return the weights of the token's subtokens, and whether the merges produce the token.

        `target_of` maps source ids to target ids. If the merges end with several tokens, these
        count equally.
        """
        count = len(token.pieces)
        # -1 stands for a source id that the target does not keep; no merge contains it.
        nodes = [target_of.get(piece, -1) for piece in token.pieces]
        # shares[k] are the weights of all subtokens in node k. At first, node k is subtoken k.
        shares = [(0.0,) * k + (1.0,) + (0.0,) * (count - 1 - k) for k in range(count)]
        while len(nodes) > 1:
            merges = []
            for i, pair in enumerate(pairwise(nodes)):
                if pair in self.ranks:
                    merges.append((self.ranks[pair], i))
            if not merges:
                break
            # As in BPE: the merge of the lowest rank first, at its leftmost place.
            (_, merged), i = min(merges)
            left, right = shares[i], shares[i + 1]
            mean = tuple([(a + b) / 2 for a, b in zip(left, right, strict=True)])
            nodes[i : i + 2], shares[i : i + 2] = [merged], [mean]
        weights = tuple([sum(column) / len(shares) for column in zip(*shares, strict=True)])
        return weights, nodes == [token.id]


def target_ids(kept: Mapping[int, int], tokens: Sequence[AddedToken]) -> dict[int, int]:
    """Map the source ids that are subtokens of added tokens to target ids."""
    wanted: set[int] = set()
    for token in tokens:
        wanted.update(token.pieces)
    return {source: target for target, source in kept.items() if source in wanted}


SIMPLE_WEIGHTINGS: dict[str, tuple[str, Callable[[AddedToken], Weights]]] = {
    "uniform": ("subtoken mean", uniform_weights),
    "position": ("subtoken mean by position", position_weights),
    "first": ("first subtoken", first_weights),
    "last": ("last subtoken", last_weights),
}
"""Origin and function of the weightings that need nothing but the token."""


def piece_weights(
    request: InitRequest, weighting: Weighting
) -> tuple[list[Weights], tuple[str, ...]]:
    """Return the weights of every added token's subtokens, and the origin of each token's row."""
    tokens = request.splice.added
    if weighting == "merges":
        return _merge_weights(request)
    if weighting == "characters":
        source = request.source_tokenizer.vocabulary
        weights = [character_weights(token, source) for token in tokens]
        return weights, ("subtoken mean by characters",) * len(tokens)
    origin, weigh = SIMPLE_WEIGHTINGS[weighting]
    return list(map(weigh, tokens)), (origin,) * len(tokens)


def _merge_weights(request: InitRequest) -> tuple[list[Weights], tuple[str, ...]]:
    """Return the weights by depth in the merge tree, and the origin of each row."""
    tree = MergeTree.of(request.target_tokenizer)
    target_of = target_ids(request.splice.kept, request.splice.added)
    all_weights, origins = [], []
    for token in request.splice.added:
        weights, is_complete = tree.weights(token, target_of)
        all_weights.append(weights)
        fallback = "fallback: mean of the tokens that the merges reach"
        origins.append("merge tree" if is_complete else fallback)
    return all_weights, tuple(origins)


def mean_mixture(
    pieces: Sequence[Sequence[int]],
    weights: Sequence[Sequence[float]],
    scales: Sequence[float] | None = None,
) -> RowMixture:
    """Return how weighted means follow from source rows; with `scales`, each is multiplied.

    >>> mean_mixture([(4, 7)], [(1, 3)], scales=[2]).weights
    [(0.5, 1.5)]
    """
    scaled = []
    for number, shares in enumerate(weights):
        factor = (scales[number] if scales is not None else 1.0) / sum(shares)
        scaled.append(tuple([factor * share for share in shares]))
    return RowMixture(pieces, scaled)


def weighted_means(
    matrix_VD: Tensor, pieces: Sequence[Sequence[int]], weights: Sequence[Sequence[float]]
) -> Tensor:
    """Return the weighted mean [A, D] of each list of rows in float32.

    Sums are in float64, in the order of the subtokens. The rows of 4,096 lists are in memory at a
    time.
    """
    import torch

    means_AD = torch.empty((len(pieces), matrix_VD.shape[1]), dtype=torch.float32)
    for begin in range(0, len(pieces), BLOCK_TOKENS):
        ids, shares = pieces[begin : begin + BLOCK_TOKENS], weights[begin : begin + BLOCK_TOKENS]
        # The lists differ in length: flatten them, and add each row to the sum of its owner.
        flat = torch.tensor(list(chain.from_iterable(ids)), dtype=torch.long)
        lengths = torch.tensor(list(map(len, ids)))
        owner = torch.repeat_interleave(torch.arange(len(ids)), lengths)
        share = torch.tensor(list(chain.from_iterable(shares)), dtype=torch.float64)
        sums = torch.zeros((len(ids), matrix_VD.shape[1]), dtype=torch.float64)
        sums.index_add_(0, owner, matrix_VD[flat].double() * share[:, None])
        total = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owner, share)
        means_AD[begin : begin + len(ids)] = (sums / total[:, None]).float()
    return means_AD
