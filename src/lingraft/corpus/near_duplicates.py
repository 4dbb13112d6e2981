"""Remove near-duplicates: documents with most of their shingles in an earlier document.

MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets,
chapter 3) by rensa find documents that may be alike, and their shingles, which are stored on disk,
decide exactly. With the rows of a band that are chosen here, 99.5% of the pairs at the threshold
are found, and more above it. The first document in the order of reading is kept, so the result is
the same in every run.

The index takes about 2 KB of memory for a document, which bounds their number. datatrove does the
same work on disk for any number (`recipes/datatrove_hindi.py`).
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np

from lingraft.corpus.excerpts import escaped
from lingraft.corpus.shingles import Hashes, jaccard, shingles
from lingraft.errors import CorpusError, MissingExtraError

MAX_DOCUMENTS = 1_000_000
"""Documents that are compared: 1.9 GB of memory."""
HASHES = 128
"""MinHash values of a document, at most."""
RECALL = 0.995
_SEED = 1
_EXAMPLE_CHARACTERS = 80
_BEGINNING = struct.Struct(f"{4 * _EXAMPLE_CHARACTERS}s")
"""The beginning of a document in UTF-8, which is stored before its shingles."""


@dataclass(frozen=True)
class Match:
    """An earlier document that a document is like.

    `number` is its number among the documents that were added, `beginning` the start of its text.
    """

    number: int
    similarity: float
    beginning: str


class NearDuplicates:
    """Compares each document with those that were added before; to be used as a context."""

    def __init__(self, threshold: float, path: Path) -> None:
        if find_spec("rensa") is None:
            raise MissingExtraError("rensa", extra="near-duplicates")
        import rensa

        self.threshold = threshold
        rows = rows_of_band(threshold)
        self._hashes = HASHES // rows * rows
        self._minhash: Any = rensa.RMinHash
        self._index: Any = rensa.RMinHashLSH(threshold, self._hashes, self._hashes // rows)
        self._ends = array("Q", [0])
        self._numbers = array("Q")
        self._added = 0
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("w+b")
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        self._path.unlink()

    def __len__(self) -> int:
        return self._added

    def add(self, text: str, where: str) -> Match | None:
        """Return an earlier document that a document is like, or add it if there is none.

        `where` names the source in the error for too many documents, a `CorpusError`.
        """
        own = shingles(text)
        if not own.size:
            self._added += 1
            return None
        minhash = self._minhash(self._hashes, _SEED)
        minhash.update(own[index : index + 1].tobytes() for index in range(own.size))
        for candidate in sorted(self._index.query(minhash)):
            beginning, others = self._stored(candidate)
            similarity = jaccard(own, others)
            if similarity >= self.threshold:
                return Match(self._numbers[candidate], similarity, beginning)
        if len(self._numbers) >= MAX_DOCUMENTS:
            msg = (
                f"{where}: near_duplicates compares up to {MAX_DOCUMENTS:,} documents, and there "
                "are more; remove near-duplicates before with datatrove "
                "(recipes/datatrove_hindi.py), and leave the setting out"
            )
            raise CorpusError(msg)
        self._index.insert(len(self._numbers), minhash)
        self._store(text, own)
        return None

    def _store(self, text: str, own: Hashes) -> None:
        content = _BEGINNING.pack(text[:_EXAMPLE_CHARACTERS].encode()) + own.tobytes()
        self._file.seek(self._ends[-1])
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))
        self._numbers.append(self._added)
        self._added += 1

    def _stored(self, index: int) -> tuple[str, Hashes]:
        start, end = self._ends[index], self._ends[index + 1]
        self._file.seek(start)
        content = self._file.read(end - start)
        [beginning] = _BEGINNING.unpack_from(content)
        return beginning.rstrip(b"\0").decode(), np.frombuffer(
            content, np.uint64, offset=_BEGINNING.size
        )


def rows_of_band(threshold: float) -> int:
    """Return how many MinHash values of two documents must be equal for them to be compared.

    Documents of similarity s share a band of r values with the probability s^r, and one of b bands
    with 1 - (1 - s^r)^b. Of the r that find `RECALL` of the pairs at the threshold, the largest
    compares the fewest documents.

    >>> rows_of_band(0.5), rows_of_band(0.8), rows_of_band(0.95), rows_of_band(1)
    (3, 6, 14, 128)
    """
    for rows in range(HASHES, 1, -1):
        if 1 - (1 - threshold**rows) ** (HASHES // rows) >= RECALL:
            return rows
    return 1


def describe(text: str, match: Match) -> dict[str, Any]:
    """Return an example for the notes: two documents, escaped, and how alike they are."""
    return {
        "such as": escaped(text[:_EXAMPLE_CHARACTERS]),
        "like": escaped(match.beginning),
        "similarity": round(match.similarity, 3),
    }
