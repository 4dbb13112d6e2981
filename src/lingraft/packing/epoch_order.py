"""The order of the sequences of a text in each epoch.

Each epoch is a permutation that depends on the seed only. Where an epoch ends inside an optimizer
step, the next one begins in the same step. The first sequences of that epoch are then chosen so
that the step has no document twice. A long document is cut into several sequences, so two sequences
may not be in such a step if they have parts of the same document.

A step has at most `window` sequences of the text. The sequence at distance i from the end of an
epoch and the one at place j of the next can be in one step only if i + j + 2 <= window. So the
documents of the former are free from place window - 1 - i on. Each place takes the next free
sequence of the permutation, which finds an order wherever there is one for this end of an epoch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.packing.shards import Integers


class EpochOrder:
    """The order of the sequences of `blocks` in each epoch, for steps of at most `window` of them.

    With a window of 1, every epoch is a permutation that is independent of the others.
    """

    def __init__(self, blocks: Blocks, window: int, *seeds: int) -> None:
        self.blocks, self.window, self.seeds = blocks, window, seeds
        # A step reaches from one epoch into the next, so two of them are kept.
        self._kept: dict[int, Integers] = {}

    def sequences(self, numbers: Integers) -> Integers:
        """Return the sequence at each of these places of the text read again and again."""
        epochs, places = np.divmod(numbers, len(self.blocks))
        sequences = np.empty_like(places)
        for epoch in np.unique(epochs):
            selected = epochs == epoch
            sequences[selected] = self.order(int(epoch))[places[selected]]
        return sequences

    def order(self, epoch: int) -> Integers:
        """Return the order of an epoch; raises `RecipeError` if no order keeps documents apart."""
        order = self._order(epoch)
        if order is None:
            summary = self.blocks.summary
            msg = (
                f"training: a step of {self.window} sequences would read two epochs of one "
                f"document (the text has {summary.documents:,} in {len(self.blocks):,} sequences);"
                " set a smaller training.batch_tokens, or train for at most 1 epoch"
            )
            raise RecipeError(msg)
        return order

    def separates(self, epochs: int) -> bool:
        """Return whether the first so many epochs have an order that keeps documents apart."""
        return epochs <= 1 or self._order(epochs - 1) is not None

    def _order(self, epoch: int) -> Integers | None:
        if epoch not in self._kept:
            if self.window == 1:
                self._kept[epoch] = self._permutation(epoch)
            else:
                # The first sequences of an epoch depend on the last ones of the epoch before.
                first = max((known for known in self._kept if known < epoch), default=-1) + 1
                for number in range(first, epoch + 1):
                    order = self._permutation(number)
                    if number and not self._keep_apart(order, self._kept[number - 1]):
                        return None
                    self._keep(number, order)
            self._keep(epoch, self._kept[epoch])
        return self._kept[epoch]

    def _keep(self, epoch: int, order: Integers) -> None:
        self._kept[epoch] = order
        for stale in [known for known in self._kept if known < epoch - 1]:
            del self._kept[stale]

    def _permutation(self, epoch: int) -> Integers:
        return permutation(len(self.blocks), *self.seeds, epoch)

    def _keep_apart(self, order: Integers, previous: Integers) -> bool:
        """Move sequences of `order` so that its start fits the end of `previous`, if possible."""
        reach = self.window - 1
        if reach >= len(order):
            return False
        firsts, lasts = self.blocks.document_ranges
        free_documents = np.zeros(self.blocks.summary.documents + 1, dtype=np.int64)
        for place, sequence in enumerate(previous[len(previous) - reach :].tolist(), start=1):
            free_documents[firsts[sequence] : lasts[sequence] + 1] = place
        ranges = np.stack([firsts, lasts + 1], axis=1).ravel()
        free_from = np.maximum.reduceat(free_documents, ranges)[::2]
        for place in range(reach):
            if free_from[order[place]] > place:
                free = free_from[order[place:]] <= place
                found = place + int(free.argmax())
                if not free.any():
                    return False
                order[[place, found]] = order[[found, place]]
        return True


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
