"""Writing a safetensors file of which some tensors change: the new header, then bytes from wherever they are.

A tensor's new content is a list of segments: a range of the source file, copied by the kernel where it can, or bytes
made here. Memory holds one buffer, whatever the size of the file.

Where each row of a target matrix comes from: a row of the source, a new row, or padding.

The layout is the same for every tensor with a row for each id, so it is laid out once, as runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from lingraft.checkpoint.safetensors_files import TensorPlace, read_header, torch_dtype
from lingraft.splice import Splice

if TYPE_CHECKING:
    from torch import Tensor


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
        header[place.name] = {
            "dtype": place.dtype,
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (
        -len(text) % 8
    )  # the data begin on a multiple of eight, as safetensors itself writes them
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


Origin = Literal["source", "added", "padding"]


@dataclass(frozen=True)
class RowSpan:
    """Consecutive target rows of one origin; `start` counts in the source's rows or in the added tokens."""

    origin: Origin
    start: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Every row of the target, in order, as runs; `vocabulary` of the `rows` belong to an id."""

    runs: tuple[RowSpan, ...]
    rows: int
    vocabulary: int

    @property
    def new_padding(self) -> int:
        """How many rows are padding that the source did not have."""
        return sum(run.length for run in self.runs if run.origin == "padding")


def lay_out(splice: Splice, source_rows: int, pad_to: int, rows: int | None = None) -> Layout:
    """Lay out the rows of the target: as many as `rows` says, or else as the vocabulary needs.

    An extension keeps the source's rows beyond its vocabulary where no added id falls on them, and never shrinks. An id
    that the source's tensor has no row for (the image token in Mllama's head) gets a padding row.

    >>> from lingraft.splice import AddedToken, identity
    >>> layout = lay_out(identity(2, [AddedToken(2, b"ab", (0, 1))]), source_rows=2, pad_to=4)
    >>> [(run.origin, run.start, run.length) for run in layout.runs]
    [('source', 0, 2), ('added', 0, 1), ('padding', 0, 1)]
    """
    vocabulary = splice.target_size
    extends = splice.is_extension
    if rows is None:
        keeps = extends and vocabulary <= source_rows
        rows = source_rows if keeps else -(-vocabulary // pad_to) * pad_to
    position = {token.id: number for number, token in enumerate(splice.added)}

    def origin(row: int) -> tuple[Origin, int]:
        if row in position:
            return "added", position[row]
        if row in splice.kept and splice.kept[row] < source_rows:
            return "source", splice.kept[row]
        if extends and row < source_rows:
            return "source", row
        return "padding", 0

    return Layout(tuple(_runs([origin(row) for row in range(rows)])), rows, vocabulary)


def _runs(origins: Sequence[tuple[Origin, int]]) -> Iterator[RowSpan]:
    begin = 0
    for i in range(1, len(origins) + 1):
        first, start = origins[begin]
        goes_on = i < len(origins) and origins[i] == (
            first,
            0 if first == "padding" else start + i - begin,
        )
        if not goes_on:
            yield RowSpan(first, start, i - begin)
            begin = i


def tensor_from(
    layout: Layout, place: TensorPlace, added: Tensor, padding: Tensor, base: Tensor | None = None
) -> NewTensor:
    """Return a tensor's new content: ranges of the file for source rows, bytes in its dtype for the others.

    `base`, where there is one, takes the place of the file's first rows.
    """
    dtype = torch_dtype(place.dtype)
    added_bytes, padding_bytes = _raw(added.to(dtype)), _raw(padding.to(dtype))
    base_bytes = _raw(base.to(dtype)) if base is not None else memoryview(b"")
    size = place.row_bytes
    segments: list[Segment] = []
    for run in layout.runs:
        begin, end = run.start * size, (run.start + run.length) * size
        if run.origin == "source":
            new = min(max(len(base_bytes), begin), end)
            segments += [base_bytes[begin:new], Range(place.begin + new, place.begin + end)]
        elif run.origin == "added":
            segments.append(added_bytes[begin:end])
        else:
            segments.append(memoryview(bytes(padding_bytes) * run.length))
    return NewTensor(
        (layout.rows, *place.shape[1:]), [segment for segment in segments if len(segment)]
    )


def _raw(tensor: Tensor) -> memoryview:
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).cast("B")
