"""Writing a safetensors file of which some tensors change: the new header, then bytes from wherever they are.

A tensor's new content is a list of segments: a range of the source file, copied by the kernel where it can, or bytes
made here. Memory holds one buffer, whatever the size of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lingraft.checkpoint.tensor_files import TensorPlace, read_header

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
    """What a changed tensor becomes."""

    shape: tuple[int, ...]
    segments: Sequence[Segment]

    @property
    def size(self) -> int:
        """Bytes of the whole tensor."""
        return sum(len(segment) for segment in self.segments)


def rewrite(source: Path, target: Path, changed: Mapping[str, NewTensor]) -> int:
    """Write `source` with `changed` tensors to `target`, in the same order; return the bytes of its tensors."""
    places, metadata = read_header(source)
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for place in places:
        new = changed.get(place.name)
        size = new.size if new else place.end - place.begin
        shape = new.shape if new else place.shape
        header[place.name] = {"dtype": place.dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin on a multiple of eight, as safetensors itself writes them
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(len(text).to_bytes(8, "little"))
        writer.write(text)
        writer.flush()
        for segment in _merged(_segments(places, changed)):
            _write(segment, reader, writer)
    return position


def _segments(places: Iterable[TensorPlace], changed: Mapping[str, NewTensor]) -> Iterable[Segment]:
    for place in places:
        if place.name in changed:
            yield from changed[place.name].segments
        else:
            yield Range(place.begin, place.end)


def _merged(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Join ranges that touch, so that unchanged neighbours are one copy."""
    waiting: Range | None = None
    for segment in segments:
        if isinstance(segment, Range) and waiting is not None and segment.begin == waiting.end:
            waiting = Range(waiting.begin, segment.end)
            continue
        if waiting is not None:
            yield waiting
        waiting = segment if isinstance(segment, Range) else None
        if not isinstance(segment, Range):
            yield segment
    if waiting is not None:
        yield waiting


def _write(segment: Segment, reader: BinaryIO, writer: BinaryIO) -> None:
    if not isinstance(segment, Range):
        writer.write(segment)
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
    """Copy with copy_file_range, which can share blocks instead of moving bytes; 0 where the system has none."""
    try:
        copied = os.copy_file_range(reader.fileno(), writer.fileno(), min(size, 2**30), position)
    except (AttributeError, OSError):
        return 0
    writer.seek(0, os.SEEK_END)
    return copied
