"""Token ids as `.bin` and `.idx`, the IndexedDataset format of Megatron-LM.

`.bin` has the ids of all documents, one after another, as uint16 or int32. `.idx` has, in little
endian:
- the bytes `MMIDIDX`, 0, 0; the version 1 (uint64); the code of the data type (uint8)
- the number of sequences, and the number of document boundaries (uint64 each)
- the length of each sequence in ids (int32), then its offset in `.bin` in bytes (int64)
- the boundaries: document i is the sequences from boundary i to boundary i + 1 (int64)

Here, each document is one sequence. Documents are in the order of the packed text, with its
separators. Both files are written in chunks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lingraft.packing.blocks import Blocks
from lingraft.packing.shards import Integers

Ids = NDArray[np.uint32]

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
# A data type's code, and the vocabulary size below which Megatron-LM reads and writes uint16.
UINT16, INT32 = (8, np.dtype("<u2")), (4, np.dtype("<i4"))
UINT16_BELOW = 65500
CHUNK_IDS = 1 << 22
"""Ids that are read at a time."""


@dataclass(frozen=True)
class IndexedCounts:
    """The documents and ids of an indexed data set, and the name of their data type."""

    documents: int
    tokens: int
    dtype: str


def write_indexed(blocks: Blocks, vocabulary: int, prefix: Path) -> IndexedCounts:
    """Write `prefix.bin` and `prefix.idx` for packed text; `vocabulary` is the number of ids."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    code, dtype = UINT16 if vocabulary < UINT16_BELOW else INT32
    # The index begins with the number of documents, so their lengths wait in a file of their own.
    lengths = prefix.with_name(f".{prefix.name}.lengths")
    tokens = 0
    open_length = 0
    name = prefix.name
    with prefix.with_name(f"{name}.bin").open("wb") as ids, lengths.open("wb") as file:
        for part, ends in _documents(blocks):
            ids.write(part.astype(dtype).tobytes())
            tokens += len(part)
            if len(ends):
                sizes = np.diff(ends, prepend=0)
                sizes[0] += open_length
                file.write(sizes.astype("<i4").tobytes())
            open_length = len(part) - int(ends[-1]) if len(ends) else open_length + len(part)
        if open_length:
            file.write(np.array([open_length], "<i4").tobytes())
    documents = lengths.stat().st_size // 4
    _write_index(prefix.with_name(f"{name}.idx"), lengths, documents, code, dtype.itemsize)
    lengths.unlink()
    return IndexedCounts(documents, tokens, dtype.name)


def _write_index(path: Path, lengths: Path, documents: int, code: int, item: int) -> None:
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<QBQQ", VERSION, code, documents, documents + 1))
        for sizes in _chunks(lengths):
            file.write(sizes.tobytes())
        offset = 0
        for sizes in _chunks(lengths):
            ends = offset + np.cumsum(sizes, dtype="<i8") * item
            file.write((ends - sizes.astype("<i8") * item).tobytes())
            offset = int(ends[-1])
        for first in range(0, documents + 1, CHUNK_IDS):
            boundaries = np.arange(first, min(first + CHUNK_IDS, documents + 1), dtype="<i8")
            file.write(boundaries.tobytes())


def _chunks(lengths: Path) -> Iterator[NDArray[np.int32]]:
    with lengths.open("rb") as file:
        while part := file.read(4 * CHUNK_IDS):
            yield np.frombuffer(part, dtype="<i4")


def _documents(blocks: Blocks) -> Iterator[tuple[Ids, Integers]]:
    """Yield the ids of packed text in parts, and where documents end in each part.

    In the layout `stream`, the last document of a part may continue in the next one.
    """
    at_once = max(1, CHUNK_IDS // (blocks.summary.block + 1))
    read = _of_stream if _overlaps(blocks) else _of_documents
    for first in range(0, len(blocks), at_once):
        yield read(blocks, first, min(first + at_once, len(blocks)))


def _overlaps(blocks: Blocks) -> bool:
    """Whether sequences overlap by one id, as in the layout `stream`."""
    return len(blocks) == 1 or bool(blocks.spans[1, 0] == blocks.spans[0, 1])


def _of_documents(blocks: Blocks, first: int, end: int) -> tuple[Ids, Integers]:
    """Return sequences that are one document each."""
    spans = blocks.spans[first:end]
    sizes = spans[:, 1] + 1
    ids = blocks.tokens[int(spans[0, 0]) : int(spans[-1, 0] + sizes[-1])]
    if blocks.summary.before is None:
        # The context of the first id is the separator that ends another document.
        ids = np.delete(ids, spans[:, 0] - spans[0, 0])
        sizes = sizes - 1
    return ids, np.cumsum(sizes)


def _of_stream(blocks: Blocks, first: int, end: int) -> tuple[Ids, Integers]:
    """Return the ids of sequences that follow each other, and where documents end among them.

    A document starts after `document_start`. A chat template may write this id inside a
    conversation, too. Where a sequence has more of them than documents, its documents are therefore
    not separated: a conversation is never cut.
    """
    spans, before = blocks.spans[first:end], blocks.summary.before
    begin, last = int(spans[0, 0]), int(spans[-1, :2].sum())
    ids = blocks.tokens[begin : last + 1]
    starts = np.flatnonzero(ids[:-1] == blocks.document_start) + 1
    # The id at place j of a part is predicted by its sequence (j - 1) // block.
    of_sequence = (starts - 1) // blocks.summary.block
    counts = np.bincount(of_sequence, minlength=len(spans))
    certain = counts[of_sequence] == spans[of_sequence, 3]
    # BOS belongs to the document that it starts.
    ends = starts[certain] - (before is not None)
    # Without BOS, the first id of all is only the context of the first document.
    skipped = int(first == 0 and before is None)
    # The last id of a part is the first one of the next part.
    kept = ids[skipped:] if end == len(blocks) else ids[skipped:-1]
    ends = ends - skipped
    return kept, ends[ends > 0] if first == 0 else ends
