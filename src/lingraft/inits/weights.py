"""How much each piece of a token counts in a weighted mean of the pieces' rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from lingraft.errors import ModelError
from lingraft.vocabulary import AddedToken, Vocabulary

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
    if sum(sizes) != len(shares) or not all(sizes):  # a piece that is no text, or a normaliser that changed the surface
        return tuple(float(max(1, size)) for size in sizes)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(sum(shares[end - size:end]) for end, size in zip(ends, sizes, strict=True))


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
            nodes[i:i + 2], shares[i:i + 2] = [merged], [joined]
        return tuple(sum(column) / len(shares) for column in zip(*shares, strict=True)), nodes == [token.id]


def target_numbers(kept: Mapping[int, int], pieces: Sequence[AddedToken]) -> dict[int, int]:
    """Return target ids of the source ids that are pieces of added tokens."""
    wanted = {piece for token in pieces for piece in token.pieces}
    return {source: target for target, source in kept.items() if source in wanted}
