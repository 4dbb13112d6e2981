"""Assign documents to splits and shuffle them, by hashes of their content.

Each document has three numbers from the hash of its content, which are uniform and independent:

- `split`: the documents with the lowest numbers are held out. Copies of a text are never in both
  splits, and a bound on the held-out bytes only lowers the threshold.
- `select`: of a source with more than its share, the documents with the lowest numbers are used.
- `order`: the order of the corpus, in which any prefix is a fair sample of the mixture. The copies
  of a document with a weight are at equal distances, so that this holds for the weighted text.

Shares are shares of bytes: with weights w and usable bytes B, the mixture has T = min(B_i / p_i)
bytes, p = w / sum(w), of which source i provides p_i T, to within one document. The source that is
used up first determines the size.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lingraft.corpus.cleaning import DIGEST_BYTES
from lingraft.errors import CorpusError

HASH_RANGE = 2**64
"""Upper bound of the hash numbers: a threshold of this value selects every document."""
BUCKETS = 128
"""Files of a shuffle. Memory holds one at a time, about 1/128 of the text."""
_HEADER = struct.Struct(f"<QHB{DIGEST_BYTES}sI")


@dataclass(frozen=True)
class DocumentHashes:
    """The three numbers of a document, each below `HASH_RANGE`."""

    split: int
    select: int
    order: int

    @classmethod
    def of(cls, digest: bytes, seed: int) -> DocumentHashes:
        """Derive the numbers from the digest of a document."""
        # `split` does not depend on the seed: everyone who holds out 1% of a text holds out the
        # same documents, and runs with different seeds are compared on the same text.
        keyed = blake2b(digest, digest_size=16, key=str(seed).encode()).digest()
        select, order = struct.unpack("<QQ", keyed)
        return cls(struct.unpack_from("<Q", digest)[0], select, order)


def copy_orders(order: int, copies: int) -> list[int]:
    """Return the order numbers of the copies of a document, its own among them.

    They are at equal distances.

    >>> copy_orders(2**63, 2) == [0, 2**63], copy_orders(7, 1)
    (True, [7])
    """
    distance = HASH_RANGE // copies
    return sorted((order + number * distance) % HASH_RANGE for number in range(copies))


class SplitTable:
    """The hashes, sizes and copies of all kept documents, about 27 bytes of memory for each."""

    def __init__(self) -> None:
        self._split = array("Q")
        self._select = array("Q")
        self._size = array("Q")
        self._copies = array("B")
        self._source = array("H")

    def add(self, source: int, hashes: DocumentHashes, size: int, copies: int = 1) -> None:
        """Add a document, which occurs this often if it is not held out."""
        self._split.append(hashes.split)
        self._select.append(hashes.select)
        self._size.append(size)
        self._copies.append(copies)
        self._source.append(source)

    def __len__(self) -> int:
        return len(self._size)

    def heldout_threshold(self, share: float, max_bytes: int | None) -> int:
        """Return the `split` number below which documents are held out: at least one, never all.

        If no document of a small corpus is within the share, the one with the lowest number is held
        out.
        """
        split = np.frombuffer(self._split, np.uint64)
        size = np.frombuffer(self._size, np.uint64)
        ranked = np.argsort(split, kind="stable")
        threshold = int(share * HASH_RANGE)
        # As uint64: numpy would compare a Python integer as a float64, which rounds 64-bit numbers.
        count = max(1, int(np.searchsorted(split[ranked], np.uint64(threshold))))
        if max_bytes is not None:
            sums = np.cumsum(size[ranked])
            within = int(np.searchsorted(sums, np.uint64(max_bytes), side="right"))
            if not within:
                msg = (
                    f"heldout_bytes: {max_bytes} is less than the size of the first held-out "
                    f"document ({int(size[ranked[0]])} bytes); raise it"
                )
                raise CorpusError(msg)
            count = min(count, within)
        # At least the document with the highest number stays in the training text.
        return int(split[ranked[min(count, len(split) - 1)]])

    def has_training_text(self, source: int, heldout_threshold: int) -> bool:
        """Return whether any document of a source is not held out."""
        is_train = np.frombuffer(self._split, np.uint64) >= np.uint64(heldout_threshold)
        return bool(np.any(is_train & (np.frombuffer(self._source, np.uint16) == source)))

    def train_thresholds(
        self, weights: Sequence[float] | None, heldout_threshold: int
    ) -> list[int]:
        """Return for each source the `select` number below which its documents are used."""
        if weights is None:
            return [HASH_RANGE] * (max(self._source, default=0) + 1)
        source = np.frombuffer(self._source, np.uint16)
        size = np.frombuffer(self._size, np.uint64) * np.frombuffer(self._copies, np.uint8)
        select = np.frombuffer(self._select, np.uint64)
        is_train = np.frombuffer(self._split, np.uint64) >= np.uint64(heldout_threshold)
        members = [np.flatnonzero(is_train & (source == index)) for index in range(len(weights))]
        total = float("inf")
        for documents, weight in zip(members, weights, strict=True):
            usable = int(size[documents].sum())
            total = min(total, usable * sum(weights) / weight)
        thresholds = []
        for documents, weight in zip(members, weights, strict=True):
            share = total * weight / sum(weights)
            thresholds.append(_threshold(select[documents], size[documents], share))
        return thresholds


def _threshold(select: NDArray[np.uint64], size: NDArray[np.uint64], max_bytes: float) -> int:
    """Return the number below which the documents have `max_bytes`, to within one document."""
    ranked = np.argsort(select, kind="stable")
    sums = np.cumsum(size[ranked]).astype(np.float64)
    # The tolerance keeps a source whole if rounding makes its share a little less than its size.
    count = int(np.searchsorted(sums, max_bytes * (1 + 1e-12), side="right"))
    return int(select[ranked[count]]) if count < len(select) else HASH_RANGE


class ShuffledDocument(NamedTuple):
    """A copy of a kept document in the shuffle; they sort by their order number.

    `copy` is 0 for the first copy in the order, which is the only one of most documents.
    """

    order: int
    source: int
    copy: int
    digest: bytes
    content: bytes


class Shuffle:
    """Shuffles documents on disk: it takes them in any order and yields them by order number.

    Documents are written to bucket files by order number, and a bucket is sorted when it is read.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{index:03d}" for index in range(BUCKETS)]
        self._files: list[BinaryIO] = []

    def __enter__(self) -> Self:
        self._files = [path.open("wb") for path in self._paths]
        return self

    def __exit__(self, *_error: object) -> None:
        for file in self._files:
            file.close()

    def put(self, document: ShuffledDocument) -> None:
        """Add a document (before `__exit__`)."""
        # The buckets divide the range of 64-bit order numbers into equal parts.
        file = self._files[document.order * BUCKETS >> 64]
        size = len(document.content)
        header = (document.order, document.source, document.copy, document.digest, size)
        file.write(_HEADER.pack(*header))
        file.write(document.content)

    def documents(self) -> Iterator[ShuffledDocument]:
        """Yield the documents in order (after `__exit__`) and remove the files."""
        for path in self._paths:
            yield from sorted(_read_bucket(path))
            path.unlink()


def _read_bucket(path: Path) -> Iterator[ShuffledDocument]:
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            order, source, copy, digest, size = _HEADER.unpack(header)
            yield ShuffledDocument(order, source, copy, digest, file.read(size))
