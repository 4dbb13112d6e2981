"""The order of the sequences in training, computed from the seed for each position.

Several texts are mixed: target texts, one for each language, and replay text. A text has the
configured share of the *bytes*, and its sequences are spread evenly. A share p of the sequences has
the share s of the bytes if p * b = s * (p * b + (1 - p) * o), where b and o are the mean bytes of a
sequence of the text and of the others. Position k belongs to the text if
floor((k + 1) p) > floor(k p). Replay text is split off first, then each target text but the first
from the positions that are left.

Each text is read in epochs of its own order (`epoch_order`). A position does not depend on those
before it. A resumed run and any number of processes therefore see the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import add, truediv
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingraft.packing.blocks import Blocks
from lingraft.packing.epoch_order import EpochOrder
from lingraft.packing.shards import Integers

# The share p is rounded to a whole number of 2^20 parts, because integer arithmetic gives the same
# order on every machine.
PARTS = 1 << 20
# The label that cross entropy ignores in PyTorch and transformers.
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """The sequences of a step, padded to the longest: `inputs` and `labels` [sequences, tokens].

    `labels` are IGNORED where nothing is predicted. `texts` [sequences] is the number of the text
    of each sequence: the targets, of which there are `target_count`, then replay. `tokens` counts
    the predicted tokens, `text_bytes` their bytes in each text, and `target_documents` the
    documents of the targets.
    """

    inputs: Integers
    labels: Integers
    texts: Integers
    tokens: int
    text_bytes: tuple[int, ...]
    target_count: int
    target_documents: int

    @property
    def replayed(self) -> NDArray[np.bool_]:
        """Whether each sequence is replay: [sequences]."""
        return self.texts >= self.target_count

    @property
    def bytes(self) -> int:
        """The bytes of all text."""
        return sum(self.text_bytes)

    @property
    def target_bytes(self) -> int:
        """The bytes of the target texts."""
        return sum(self.text_bytes[: self.target_count])


@dataclass(frozen=True)
class MixedText:
    """A text of a mixture, and the order in which its sequences are read.

    `share` is its share of the bytes: of all target texts, or of all text for replay.
    """

    order: EpochOrder
    share: float = 1.0

    @property
    def blocks(self) -> Blocks:
        """The packed text."""
        return self.order.blocks


@dataclass(frozen=True)
class Mixture:
    """The order of the sequences of target texts and of replay text.

    `offsets` are the sequences of each text that earlier phases have used: the targets, then
    replay. A phase starts there.
    """

    targets: tuple[MixedText, ...]
    replay: MixedText | None = None
    offsets: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        targets: Sequence[tuple[Blocks, float]],
        replay: Blocks | None = None,
        share: float = 0.0,
        seed: int = 0,
    ) -> Mixture:
        """Return a mixture of target texts with their shares and of replay text.

        The orders of epochs are independent of each other; see `with_windows`.
        """
        mixed = []
        for index, (blocks, part) in enumerate(targets):
            # The number of a text is part of the seed of its order, so orders are independent.
            # Replay has the number 1.
            number = index + 1 if index else 0
            mixed.append(MixedText(EpochOrder(blocks, 1, seed, number), part))
        replayed = MixedText(EpochOrder(replay, 1, seed, 1), share) if replay is not None else None
        return cls(tuple(mixed), replayed)

    @property
    def texts(self) -> tuple[MixedText, ...]:
        """All texts: the targets, then replay."""
        return (*self.targets, *([self.replay] if self.replay else []))

    @property
    def used(self) -> tuple[int, ...]:
        """The sequences of each text before this phase."""
        return self.offsets or (0,) * len(self.texts)

    @cached_property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """The texts that are split off one after another, and their share p in parts of 2^20.

        The share is one of the positions that are left. The first target has the rest.
        """
        splits = []
        if self.replay is not None:
            splits.append((len(self.targets), _parts(self.replay, self.targets, self.replay.share)))
        for index in range(len(self.targets) - 1, 0, -1):
            text, others = self.targets[index], self.targets[:index]
            share = text.share / (text.share + sum(other.share for other in others))
            splits.append((index, _parts(text, others, share)))
        return tuple(splits)

    @property
    def rates(self) -> tuple[float, ...]:
        """The share of the sequences that each text has."""
        rates, left = [0.0] * len(self.texts), 1.0
        for index, parts in self.parts:
            rates[index] = left * parts / PARTS
            left -= rates[index]
        rates[0] = left
        return tuple(rates)

    def draw(self, first: int, count: int) -> tuple[Integers, Integers]:
        """Return the text of each of `count` positions from `first` on, and its sequence.

        A text is an index into `texts`, a sequence an index into its blocks.
        """
        positions = np.arange(first, first + count, dtype=np.int64)
        drawn, numbers = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        left = np.arange(count)
        for index, parts in self.parts:
            before = positions * parts // PARTS
            taken = (positions + 1) * parts // PARTS > before
            drawn[left[taken]], numbers[left[taken]] = index, before[taken]
            positions, left = (positions - before)[~taken], left[~taken]
        numbers[left] = positions
        sequences = np.empty(count, dtype=np.int64)
        for index, text in enumerate(self.texts):
            selected = drawn == index
            if selected.any():
                sequences[selected] = text.order.sequences(self.used[index] + numbers[selected])
        return drawn, sequences

    def counts(self, count: int) -> tuple[int, ...]:
        """Return how many of the first `count` positions each text has."""
        counts, left = [0] * len(self.texts), count
        for index, parts in self.parts:
            counts[index] = left * parts // PARTS
            left -= counts[index]
        counts[0] = left
        return tuple(counts)

    def offsets_after(self, count: int) -> tuple[int, ...]:
        """Return the offsets for a phase that follows `count` positions of this one."""
        return tuple(map(add, self.used, self.counts(count)))

    def windows(self, count: int) -> tuple[int, ...]:
        """Return how many of `count` positions one after another each text has at most."""
        windows, left = [0] * len(self.texts), count
        for index, parts in self.parts:
            fewest = left * parts // PARTS
            windows[index] = min(fewest + 1, left) if parts else 0
            left -= fewest
        windows[0] = left
        return tuple(max(window, 1) for window in windows)

    def with_windows(self, windows: Sequence[int]) -> Mixture:
        """Return the mixture in which steps with so many sequences of each text keep epochs apart.

        No step then has two epochs of a document.
        """
        texts = []
        for text, window in zip(self.texts, windows, strict=True):
            order = EpochOrder(text.blocks, window, *text.order.seeds)
            texts.append(replace(text, order=order))
        targets = len(self.targets)
        return replace(
            self, targets=tuple(texts[:targets]), replay=texts[targets] if self.replay else None
        )

    def with_replay(self, share: float, offsets: Sequence[int]) -> Mixture:
        """Return the mixture of another phase: its share of replay, and where it starts."""
        replay = replace(self.replay, share=share) if self.replay else None
        return replace(self, replay=replay, offsets=tuple(offsets))

    def identity(self) -> list[Any]:
        """Return what the order depends on, except for the texts, the seed and the steps."""
        return [list(parts) for parts in self.parts]

    def measures(self, first: int, count: int) -> Integers:
        """Return text, tokens, bytes and documents of each position: [count, 4]."""
        drawn, sequences = self.draw(first, count)
        measures = np.empty((count, 4), dtype=np.int64)
        measures[:, 0] = drawn
        for index, text in enumerate(self.texts):
            selected = drawn == index
            measures[selected, 1:] = text.blocks.spans[sequences[selected], 1:]
        return measures

    def is_target(self, drawn: Integers) -> NDArray[np.bool_]:
        """Return whether each of these texts is a target."""
        return drawn < len(self.targets)

    def sequences(self, first: int, count: int) -> Iterator[tuple[Blocks, Integers]]:
        """Yield the blocks and the ids of the sequence at each of `count` positions."""
        drawn, indexes = self.draw(first, count)
        for text, index in zip(drawn.tolist(), indexes.tolist(), strict=True):
            blocks = self.texts[text].blocks
            yield blocks, blocks.sequence(index)

    def batch(self, first: int, count: int) -> Batch:
        """Return the sequences of `count` positions from `first` on."""
        sequences = list(self.sequences(first, count))
        ids = [sequence for _blocks, sequence in sequences]
        # A sequence of L + 1 ids has L inputs and L labels, shifted by one.
        width = max(map(len, ids)) - 1
        # Padding is on the right and has no labels, so causal models are not affected by its id.
        padding = self.targets[0].blocks.separators[-1]
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
        texts = measures[:, 0]
        return Batch(
            inputs,
            labels,
            texts,
            tokens=int(measures[:, 1].sum()),
            text_bytes=tuple(
                int(measures[texts == text, 2].sum()) for text in range(len(self.texts))
            ),
            target_count=len(self.targets),
            target_documents=int(measures[self.is_target(texts), 3].sum()),
        )


def _parts(text: MixedText, others: Sequence[MixedText], share: float) -> int:
    """Return the share of the sequences with which a text has a share of the bytes, in parts."""
    if not share:
        return 0
    own, other = _mean_bytes([text]), _mean_bytes(others)
    return round(PARTS * share * other / (share * other + (1 - share) * own))


def _mean_bytes(texts: Sequence[MixedText]) -> float:
    """Return the mean bytes of a sequence of texts that are mixed by their shares."""
    means = [text.blocks.summary.bytes / len(text.blocks) for text in texts]
    if len(means) == 1:  # exact, where the general formula rounds
        return means[0]
    shares = [text.share for text in texts]
    return float(sum(shares) / sum(map(truediv, shares, means)))


def document_positions(inputs: Integers, document_start: int) -> Integers:
    """Return the position of each token in its document; the id `document_start` begins one.

    >>> document_positions(np.array([[5, 6, 1, 7, 8, 1, 9]]), document_start=1).tolist()
    [[0, 1, 0, 1, 2, 0, 1]]
    """
    columns = np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape)
    starts = np.where(inputs == document_start, columns, 0)
    positions: Integers = columns - np.maximum.accumulate(starts, axis=1)
    return positions
