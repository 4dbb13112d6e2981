"""The order of the sequences in training, computed from the seed for each position.

Target sequences are shuffled again in each epoch. Replay sequences are interleaved evenly, in such
a number that they have the configured share of the *bytes*. A share p of the sequences has the
share s of the bytes if p * r = s * (p * r + (1 - p) * t), where t and r are the mean bytes of a
target and a replay sequence. Position k is a replay sequence if floor((k + 1) p) > floor(k p).

A position does not depend on those before it. A resumed run and any number of processes therefore
see the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lingraft.packing.blocks import Blocks
from lingraft.packing.shards import Integers

# The share p is rounded to a whole number of 2^20 parts, because integer arithmetic gives the same
# order on every machine.
PARTS = 1 << 20
# The label that cross entropy ignores in PyTorch and transformers.
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """The sequences of a step, padded to the longest: `inputs` and `labels` [sequences, tokens].

    `labels` are IGNORED where nothing is predicted. `replayed` [sequences] marks the replay
    sequences. `tokens` and `bytes` count all predicted text, `target_bytes` and `target_documents`
    the part without replay.
    """

    inputs: Integers
    labels: Integers
    replayed: NDArray[np.bool_]
    tokens: int
    bytes: int
    target_bytes: int
    target_documents: int


@dataclass(frozen=True)
class StreamOffsets:
    """The number of sequences of each stream that earlier phases used; a phase starts there."""

    target: int = 0
    replay: int = 0


@dataclass(frozen=True)
class Mixture:
    """The order of target and replay sequences; `share` is the share of replayed bytes."""

    target: Blocks
    replay: Blocks | None = None
    share: float = 0.0
    seed: int = 0
    offsets: StreamOffsets = StreamOffsets()
    _orders: dict[tuple[int, int], Integers] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def replay_parts(self) -> int:
        """The share p of the module docstring, in parts of 2^20."""
        if self.replay is None or not self.share:
            return 0
        target = self.target.summary.bytes / len(self.target)
        replay = self.replay.summary.bytes / len(self.replay)
        return round(
            PARTS * self.share * target / (self.share * target + (1 - self.share) * replay)
        )

    def draw(self, first: int, count: int) -> tuple[NDArray[np.bool_], Integers]:
        """Return whether each of `count` positions from `first` on is replay, and its sequence.

        A sequence is an index into the target blocks or, for replay, into the replay blocks.
        """
        positions = np.arange(first, first + count, dtype=np.int64)
        replayed_before = positions * self.replay_parts // PARTS
        replayed = (positions + 1) * self.replay_parts // PARTS > replayed_before
        in_stream = np.where(
            replayed,
            self.offsets.replay + replayed_before,
            self.offsets.target + positions - replayed_before,
        )
        sequences = np.empty(count, dtype=np.int64)
        streams = ((0, ~replayed, self.target), (1, replayed, self.replay))
        # The number of a stream is part of the seed of its order, so the orders are independent.
        for stream, selected, blocks in streams:
            if blocks is not None and selected.any():
                sequences[selected] = self._shuffle(stream, in_stream[selected], len(blocks))
        return replayed, sequences

    def offsets_after(self, count: int) -> StreamOffsets:
        """Return the offsets for a phase that follows `count` positions of this one."""
        replayed = count * self.replay_parts // PARTS
        return StreamOffsets(self.offsets.target + count - replayed, self.offsets.replay + replayed)

    def measures(self, first: int, count: int) -> Integers:
        """Return replayed (0 or 1), tokens, bytes and documents of each position: [count, 4]."""
        replayed, sequences = self.draw(first, count)
        measures = np.empty((count, 4), dtype=np.int64)
        measures[:, 0] = replayed
        measures[~replayed, 1:] = self.target.spans[sequences[~replayed], 1:]
        if self.replay is not None and replayed.any():
            measures[replayed, 1:] = self.replay.spans[sequences[replayed], 1:]
        return measures

    def sequences(self, first: int, count: int) -> Iterator[tuple[Blocks, Integers]]:
        """Yield the blocks and the ids of the sequence at each of `count` positions."""
        replayed, indexes = self.draw(first, count)
        for is_replay, index in zip(replayed.tolist(), indexes.tolist(), strict=True):
            blocks = self.replay if is_replay and self.replay else self.target
            yield blocks, blocks.sequence(index)

    def batch(self, first: int, count: int) -> Batch:
        """Return the sequences of `count` positions from `first` on."""
        sequences = list(self.sequences(first, count))
        ids = [sequence for _blocks, sequence in sequences]
        # A sequence of L + 1 ids has L inputs and L labels, shifted by one.
        width = max(map(len, ids)) - 1
        # Padding is on the right and has no labels, so causal models are not affected by its id.
        padding = self.target.separators[-1]
        inputs = np.full((count, width), padding, dtype=np.int64)
        labels = np.full((count, width), IGNORED, dtype=np.int64)
        for i, (blocks, sequence) in enumerate(sequences):
            length, bos = len(sequence) - 1, blocks.summary.before
            inputs[i, :length] = sequence[:-1]
            labels[i, :length] = sequence[1:]
            # A user of the model always gives BOS, so the model need not predict it.
            if bos is not None:
                labels[i, labels[i] == bos] = IGNORED
        measures = self.measures(first, count)
        replayed = measures[:, 0] == 1
        of_target = measures[~replayed]
        return Batch(
            inputs,
            labels,
            replayed,
            tokens=int(measures[:, 1].sum()),
            bytes=int(measures[:, 2].sum()),
            target_bytes=int(of_target[:, 2].sum()),
            target_documents=int(of_target[:, 3].sum()),
        )

    def _shuffle(self, stream: int, in_stream: Integers, size: int) -> Integers:
        """Return the sequence at each position of a stream, in the order of its epoch."""
        epochs, positions = in_stream // size, in_stream % size
        sequences = np.empty_like(positions)
        for epoch in np.unique(epochs):
            selected = epochs == epoch
            order = self._order(stream, int(epoch), size)
            sequences[selected] = order[positions[selected]]
        return sequences

    def _order(self, stream: int, epoch: int, size: int) -> Integers:
        """Return the order of an epoch; older ones than the previous epoch leave the cache."""
        if (stream, epoch) not in self._orders:
            # A batch can reach from one epoch into the next, so the previous order stays cached.
            for stale in [key for key in self._orders if key[0] == stream and key[1] < epoch - 1]:
                del self._orders[stale]
            self._orders[stream, epoch] = permutation(size, self.seed, stream, epoch)
        return self._orders[stream, epoch]


def document_positions(inputs: Integers, document_start: int) -> Integers:
    """Return the position of each token in its document; the id `document_start` begins one.

    >>> document_positions(np.array([[5, 6, 1, 7, 8, 1, 9]]), document_start=1).tolist()
    [[0, 1, 0, 1, 2, 0, 1]]
    """
    columns = np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape)
    starts = np.where(inputs == document_start, columns, 0)
    positions: Integers = columns - np.maximum.accumulate(starts, axis=1)
    return positions


def permutation(size: int, *seeds: int) -> Integers:
    """Return a permutation of 0 to size - 1 that depends on the seeds only.

    It is the same on every platform and with every version of numpy.

    >>> permutation(5, 0, 0).tolist() == permutation(5, 0, 0).tolist()
    True
    >>> sorted(permutation(5, 1, 2).tolist())
    [0, 1, 2, 3, 4]
    """
    # Not numpy's generators, because their streams may change between versions.
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for seed in seeds:
            state = _splitmix64(np.array([state + np.uint64(seed % 2**64)]))[0]
        keys = _splitmix64(np.arange(size, dtype=np.uint64) + state)
        return np.argsort(keys, kind="stable")


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit numbers that looks random."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
