"""Write a safetensors file in which some tensors change: a new header, then all bytes.

The new content of a tensor is a list of segments. A segment is a range of the source file, copied
inside the kernel where possible, or bytes in memory. Memory holds one buffer, so it does not grow
with the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lingraft.checkpoint.safetensors_files import TensorPlace, read_header, torch_dtype
from lingraft.errors import ModelError
from lingraft.store import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

# Bytes that are read at a time where the kernel cannot copy.
BUFFER = 8 * 2**20


@dataclass(frozen=True)
class Range:
    """Bytes of the source file, from `begin` to `end`."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


Segment = Range | memoryview


@dataclass(frozen=True)
class NewTensor:
    """The shape and the content of a changed tensor; its segments are read once."""

    shape: tuple[int, ...]
    segments: Iterable[Segment]

    def size(self, place: TensorPlace) -> int:
        """Return the bytes of the whole tensor, which has the data type of its place."""
        return math.prod(self.shape) * int(torch_dtype(place.dtype).itemsize)


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor as a safetensors file holds them."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).cast("B")


def rewrite(source: Path, target: Path, changed: Mapping[str, NewTensor]) -> int:
    """Write `source` with `changed` tensors to `target`; return the bytes of its tensors.

    The tensors keep their order. Raises `ModelError` if the content of a tensor does not have the
    size of its shape; then nothing is left at `target`.
    """
    # The header comes first in the file and holds all offsets, so sizes are computed before
    # anything is written.
    places, metadata = read_header(source)
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for place in places:
        new = changed.get(place.name)
        size = new.size(place) if new else place.end - place.begin
        shape = new.shape if new else place.shape
        header[place.name] = {
            "dtype": place.dtype,
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    # The data begin at a multiple of eight bytes, as in the files that safetensors writes.
    text += b" " * (-len(text) % 8)
    with atomic_file(target) as draft:
        with source.open("rb") as reader, draft.open("wb") as writer:
            writer.write(len(text).to_bytes(8, "little"))
            writer.write(text)
            writer.flush()
            for segment in _merge_ranges(_list_segments(places, changed)):
                _write_segment(segment, reader, writer)
        written, expected = draft.stat().st_size, 8 + len(text) + position
        if written != expected:
            msg = (
                f"{target}: {written:,} bytes were written, and its header describes "
                f"{expected:,}; write it again on another disk"
            )
            raise ModelError(msg)
    return position


def _list_segments(
    places: Iterable[TensorPlace], changed: Mapping[str, NewTensor]
) -> Iterable[Segment]:
    """Yield the segments of all tensors in the order of the file.

    Raises `ModelError` if those of a changed tensor do not have the bytes of its shape: all tensors
    after it would be read from the wrong place.
    """
    for place in places:
        new = changed.get(place.name)
        if new is None:
            yield Range(place.begin, place.end)
            continue
        size = 0
        for segment in new.segments:
            size += len(segment)
            yield segment
        if size != new.size(place):
            msg = (
                f"{place.file}: {place.name} of shape {list(new.shape)} has {new.size(place):,} "
                f"bytes, and {size:,} were given; give the content of the whole tensor"
            )
            raise ModelError(msg)


def _merge_ranges(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Merge adjacent ranges, so that unchanged tensors that follow each other are one copy."""
    pending: Range | None = None
    for segment in segments:
        if isinstance(segment, Range) and pending is not None and segment.begin == pending.end:
            pending = Range(pending.begin, segment.end)
            continue
        if pending is not None:
            yield pending
        pending = segment if isinstance(segment, Range) else None
        if not isinstance(segment, Range):
            yield segment
    if pending is not None:
        yield pending


def _write_segment(segment: Segment, reader: BinaryIO, writer: BinaryIO) -> None:
    """Append a segment to the file."""
    if not isinstance(segment, Range):
        writer.write(segment)
        # copy_file_range writes past Python's buffer, so the buffer must be empty before it.
        writer.flush()
        return
    position = segment.begin
    while position < segment.end:
        copied = _copy_in_kernel(reader, writer, position, segment.end - position)
        if not copied:
            reader.seek(position)
            chunk = reader.read(min(BUFFER, segment.end - position))
            if not chunk:
                msg = f"{reader.name} ended at byte {position}, before {segment.end}"
                raise OSError(msg)
            writer.write(chunk)
            writer.flush()
            copied = len(chunk)
        position += copied


def _copy_in_kernel(reader: BinaryIO, writer: BinaryIO, position: int, size: int) -> int:
    """Copy with copy_file_range and return the number of bytes; 0 where the system cannot.

    A file system with reflinks shares the blocks and moves no bytes.
    """
    try:
        # Linux copies at most 2 GB in one call.
        copied = os.copy_file_range(reader.fileno(), writer.fileno(), min(size, 2**30), position)
    except (AttributeError, OSError):
        return 0
    # The kernel moved the file's position, of which Python's file object does not know.
    writer.seek(0, os.SEEK_END)
    return copied
