"""A shuffle on disk: documents go into buckets by their order number, and each bucket is sorted when it is read.

Memory holds one bucket at a time, 1/128 of the text. The files are removed as they are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from lingraft.corpus.cleaning import DIGEST_BYTES

BUCKETS = 128
_HEADER = struct.Struct(f"<QH{DIGEST_BYTES}sI")


class Kept(NamedTuple):
    """A document on its way through the shuffle."""

    order: int
    source: int
    digest: bytes
    content: bytes


class Shuffle:
    """Takes documents in any order, gives them back in that of their order numbers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{index:03d}" for index in range(BUCKETS)]
        self._files: list[BinaryIO] = []

    def __enter__(self) -> Self:
        self._files = [path.open("wb") for path in self._paths]
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None,
                 _trace: TracebackType | None) -> None:
        for file in self._files:
            file.close()

    def put(self, document: Kept) -> None:
        """Add a document (before `__exit__`)."""
        file = self._files[document.order * BUCKETS >> 64]
        file.write(_HEADER.pack(document.order, document.source, document.digest, len(document.content)))
        file.write(document.content)

    def documents(self) -> Iterator[Kept]:
        """Yield the documents in order (after `__exit__`)."""
        for path in self._paths:
            yield from sorted(_read(path))
            path.unlink()


def _read(path: Path) -> Iterator[Kept]:
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            order, source, digest, size = _HEADER.unpack(header)
            yield Kept(order, source, digest, file.read(size))
