"""Which of the kept documents are drawn into which split, decided by hashes alone.

From the hash of its content every document gets three numbers: `split` (which does not depend on the seed: whoever
holds out one percent of this text holds out the same documents), `select` and `order`. All three are uniform and
independent, so that

- the documents with the lowest `split` numbers are held out: copies of a text can never stand on both sides, and a
  bound on the held-out bytes only lowers the threshold;
- of a source that has more than its share, those with the lowest `select` numbers are used;
- in the order of `order`, any prefix of the result is a fair sample of the mixture.

Shares are of bytes: with weights w and usable bytes B, the mixture has T = min(B_i / p_i) bytes, p = w / sum(w), and
source i gives p_i T of them, to within one document. So the source that runs out first sets the size.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from lingraft.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVERYTHING = 2**64


@dataclass(frozen=True)
class Lots:
    """The three numbers of a document, each below 2**64."""

    split: int
    select: int
    order: int

    @classmethod
    def of(cls, digest: bytes, seed: int) -> Lots:
        """Draw them from the hash of a document."""
        select, order = struct.unpack("<QQ", blake2b(digest, digest_size=16, key=str(seed).encode()).digest())
        return cls(struct.unpack_from("<Q", digest)[0], select, order)


class Ledger:
    """The numbers and sizes of all kept documents: 25 bytes of memory for each."""

    def __init__(self) -> None:
        self._split, self._select, self._size, self._source = array("Q"), array("Q"), array("Q"), array("H")

    def add(self, source: int, lots: Lots, size: int) -> None:
        """Enter a document."""
        self._split.append(lots.split)
        self._select.append(lots.select)
        self._size.append(size)
        self._source.append(source)

    def __len__(self) -> int:
        return len(self._size)

    def heldout_threshold(self, share: float, most_bytes: int | None) -> int:
        """Return the `split` number below which documents are held out: at least one, never all of them.

        A corpus so small that nothing falls into the share gives the document that is nearest to it.
        """
        import numpy as np

        split, size = np.frombuffer(self._split, np.uint64), np.frombuffer(self._size, np.uint64)
        ranked = np.argsort(split, kind="stable")
        threshold = int(share * EVERYTHING)
        count = max(1, int(np.searchsorted(split[ranked], np.uint64(threshold))))
        if most_bytes is not None:
            within = int(np.searchsorted(np.cumsum(size[ranked]), np.uint64(most_bytes), side="right"))
            if not within:
                msg = (f"heldout_bytes: {most_bytes} is less than the first document to hold out "
                       f"({int(size[ranked[0]])} bytes); raise it")
                raise CorpusError(msg)
            count = min(count, within)
        return int(split[ranked[min(count, len(split) - 1)]])

    def train_thresholds(self, weights: Sequence[float] | None, heldout_threshold: int) -> list[int]:
        """Return for every source the `select` number below which its documents are used for training."""
        if weights is None:
            return [EVERYTHING] * (max(self._source, default=0) + 1)
        import numpy as np

        source, size = np.frombuffer(self._source, np.uint16), np.frombuffer(self._size, np.uint64)
        select = np.frombuffer(self._select, np.uint64)
        train = np.frombuffer(self._split, np.uint64) >= np.uint64(heldout_threshold)
        members = [np.flatnonzero(train & (source == index)) for index in range(len(weights))]
        usable = [int(size[rows].sum()) for rows in members]
        total = min(has * sum(weights) / weight for has, weight in zip(usable, weights, strict=True))
        return [_threshold(select[rows], size[rows], total * weight / sum(weights))
                for rows, weight in zip(members, weights, strict=True)]


def _threshold(lots: NDArray[np.uint64], size: NDArray[np.uint64], most_bytes: float) -> int:
    """Return the number below which the documents have `most_bytes` in all, or as much less as one document is."""
    import numpy as np

    ranked = np.argsort(lots, kind="stable")
    sums = np.cumsum(size[ranked]).astype(np.float64)
    count = int(np.searchsorted(sums, most_bytes * (1 + 1e-12), side="right"))
    return int(lots[ranked[count]]) if count < len(lots) else EVERYTHING
