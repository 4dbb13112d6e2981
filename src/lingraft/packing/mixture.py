"""The order of training: which row comes at which place, a pure function of (seed, place).

Target rows come in a shuffled order, a new one each epoch. Replay rows are interleaved evenly, so that their share of
the *bytes* is the stated one: of the rows, a share p with p * r = share * (p * r + (1 - p) * t), where t and r are the
mean bytes of a target and a replay row. Place k is a replay row where floor((k + 1) p) > floor(k p). Nothing depends on
what was drawn before, so that a resumed run, and any number of workers, sees the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lingraft.packing.blocks import Blocks
from lingraft.packing.shards import Integers

PARTS = 1 << 20
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Rows side by side, padded to the longest: `labels` hold IGNORED where nothing is to be predicted.

    `bytes` and `documents` count the text taught, of which `target_bytes` and `target_documents` are the target's;
    `replayed` says of each row whether it is replay.
    """

    inputs: Integers
    labels: Integers
    replayed: NDArray[np.bool_]
    tokens: int
    bytes: int
    target_bytes: int
    target_documents: int


@dataclass(frozen=True)
class Start:
    """How many rows of each stream were used before: a later phase goes on from there."""

    target: int = 0
    replay: int = 0


@dataclass(frozen=True)
class Mixture:
    """Two streams as one. `share` is the share of replayed bytes."""

    target: Blocks
    replay: Blocks | None = None
    share: float = 0.0
    seed: int = 0
    start: Start = Start()
    _orders: dict[tuple[int, int], Integers] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def replay_parts(self) -> int:
        """How many of 2^20 rows are replayed."""
        if self.replay is None or not self.share:
            return 0
        target = self.target.summary.bytes / len(self.target)
        replay = self.replay.summary.bytes / len(self.replay)
        return round(
            PARTS * self.share * target / (self.share * target + (1 - self.share) * replay)
        )

    def places(self, first: int, count: int) -> tuple[NDArray[np.bool_], Integers]:
        """Return for `count` places from `first` on whether each is replayed, and its row in its stream."""
        places = np.arange(first, first + count, dtype=np.int64)
        replayed_before = places * self.replay_parts // PARTS
        replayed = (places + 1) * self.replay_parts // PARTS > replayed_before
        drawn = np.where(
            replayed,
            self.start.replay + replayed_before,
            self.start.target + places - replayed_before,
        )
        rows = np.empty(count, dtype=np.int64)
        for stream, chosen, blocks in ((0, ~replayed, self.target), (1, replayed, self.replay)):
            if blocks is not None and chosen.any():
                rows[chosen] = self._rows(stream, drawn[chosen], len(blocks))
        return replayed, rows

    def used(self, places: int) -> Start:
        """Return how many rows of each stream are used up after so many places, earlier phases included."""
        replayed = places * self.replay_parts // PARTS
        return Start(self.start.target + places - replayed, self.start.replay + replayed)

    def measures(self, first: int, count: int) -> Integers:
        """Return for each place: replayed (0 or 1), tokens, bytes, documents: [count, 4]."""
        replayed, rows = self.places(first, count)
        found = np.empty((count, 4), dtype=np.int64)
        found[:, 0] = replayed
        found[~replayed, 1:] = self.target.rows[rows[~replayed], 1:]
        if self.replay is not None and replayed.any():
            found[replayed, 1:] = self.replay.rows[rows[replayed], 1:]
        return found

    def batch(self, first: int, count: int) -> Batch:
        """Return the rows of `count` places from `first` on."""
        replayed, rows = self.places(first, count)
        streams = [self.replay if other and self.replay else self.target for other in replayed]
        taken = [blocks.row(int(row)) for blocks, row in zip(streams, rows, strict=True)]
        width = max(len(row) for row in taken) - 1
        filler = self.target.separators[-1]
        inputs = np.full((count, width), filler, dtype=np.int64)
        labels = np.full((count, width), IGNORED, dtype=np.int64)
        for i, (blocks, row) in enumerate(zip(streams, taken, strict=True)):
            inputs[i, : len(row) - 1] = row[:-1]
            given = blocks.summary.before
            labels[i, : len(row) - 1] = (
                row[1:] if given is None else np.where(row[1:] == given, IGNORED, row[1:])
            )
        found = self.measures(first, count)
        own = found[~replayed]
        return Batch(
            inputs,
            labels,
            replayed,
            int(found[:, 1].sum()),
            int(found[:, 2].sum()),
            int(own[:, 2].sum()),
            int(own[:, 3].sum()),
        )

    def _rows(self, stream: int, drawn: Integers, size: int) -> Integers:
        epochs, positions = drawn // size, drawn % size
        rows = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = self._order(stream, int(epoch), size)[positions[chosen]]
        return rows

    def _order(self, stream: int, epoch: int, size: int) -> Integers:
        if (stream, epoch) not in self._orders:
            for stale in [key for key in self._orders if key[0] == stream and key[1] < epoch - 1]:
                del self._orders[stale]
            self._orders[stream, epoch] = shuffled(size, self.seed, stream, epoch)
        return self._orders[stream, epoch]


def positions_of(inputs: Integers, opening: int) -> Integers:
    """Return the position of each token in its own document, which begins at `opening`.

    >>> positions_of(np.array([[5, 6, 1, 7, 8, 1, 9]]), opening=1).tolist()
    [[0, 1, 0, 1, 2, 0, 1]]
    """
    places = np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape)
    positions: Integers = places - np.maximum.accumulate(
        np.where(inputs == opening, places, 0), axis=1
    )
    return positions


def shuffled(size: int, *seeds: int) -> Integers:
    """Return a permutation that depends on the seeds alone, on every platform and numpy version.

    >>> shuffled(5, 0, 0).tolist() == shuffled(5, 0, 0).tolist(), sorted(shuffled(5, 1, 2).tolist())
    (True, [0, 1, 2, 3, 4])
    """
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for seed in seeds:
            state = _mixed(np.array([state + np.uint64(seed % 2**64)]))[0]
        return np.argsort(_mixed(np.arange(size, dtype=np.uint64) + state), kind="stable")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits that looks random."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
