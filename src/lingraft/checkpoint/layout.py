"""Where each row of a target matrix comes from: a row of the source, a new row, or padding.

The layout is the same for every tensor with a row for each id, so it is laid out once, as runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lingraft.checkpoint.rewriting import NewTensor, Range, Segment
from lingraft.checkpoint.tensor_files import TensorPlace, torch_dtype
from lingraft.vocabulary import Splice

if TYPE_CHECKING:
    from torch import Tensor

Origin = Literal["source", "added", "padding"]


@dataclass(frozen=True)
class Run:
    """Consecutive target rows of one origin; `start` counts in the source's rows or in the added tokens."""

    origin: Origin
    start: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Every row of the target, in order, as runs; `vocabulary` of the `rows` belong to an id."""

    runs: tuple[Run, ...]
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

    >>> from lingraft.vocabulary import AddedToken, identity
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


def _runs(origins: Sequence[tuple[Origin, int]]) -> Iterator[Run]:
    begin = 0
    for i in range(1, len(origins) + 1):
        first, start = origins[begin]
        goes_on = i < len(origins) and origins[i] == (first, 0 if first == "padding" else start + i - begin)
        if not goes_on:
            yield Run(first, start, i - begin)
            begin = i


def tensor_from(layout: Layout, place: TensorPlace, added: Tensor, padding: Tensor,
                base: Tensor | None = None) -> NewTensor:
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
    return NewTensor((layout.rows, *place.shape[1:]), [segment for segment in segments if len(segment)])


def _raw(tensor: Tensor) -> memoryview:
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).cast("B")
