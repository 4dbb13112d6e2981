"""The rows of a resized matrix: a row of the source, an added row, or padding.

A `Layout` gives the origin of each row. It is the same for every tensor with a row for each id, so
it is computed once, as spans of consecutive rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lingraft.checkpoint.rewrite import NewTensor, Range, Segment, bytes_of
from lingraft.checkpoint.safetensors_files import TensorPlace, torch_dtype
from lingraft.splice import Splice

if TYPE_CHECKING:
    from torch import Tensor

Origin = Literal["source", "added", "padding"]


@dataclass(frozen=True)
class RowSpan:
    """Consecutive target rows of one origin.

    `start` counts rows of the source or added tokens; for padding it is 0.
    """

    origin: Origin
    start: int
    length: int


@dataclass(frozen=True)
class Layout:
    """The origin of every row of the target, in order; the first `vocabulary` rows have an id."""

    spans: tuple[RowSpan, ...]
    rows: int
    vocabulary: int

    @property
    def new_padding(self) -> int:
        """The number of padding rows that the source did not have."""
        return sum(span.length for span in self.spans if span.origin == "padding")


def lay_out(splice: Splice, source_rows: int, pad_to: int, rows: int | None = None) -> Layout:
    """Lay out the rows of the target: `rows`, or by default as many as the vocabulary needs.

    An extension keeps the source's rows beyond its vocabulary where no added id uses them, and it
    never shrinks. An id without a row in the source's tensor (the image token in Mllama's head)
    gets a padding row.

    >>> from lingraft.splice import AddedToken, identity_splice
    >>> splice = identity_splice(2, [AddedToken(2, b"ab", (0, 1))])
    >>> layout = lay_out(splice, source_rows=2, pad_to=4)
    >>> [(span.origin, span.start, span.length) for span in layout.spans]
    [('source', 0, 2), ('added', 0, 1), ('padding', 0, 1)]
    """
    vocabulary = splice.target_size
    extends = splice.is_extension
    if rows is None:
        keeps_size = extends and vocabulary <= source_rows
        # Rounded up to a multiple of `pad_to`.
        rows = source_rows if keeps_size else -(-vocabulary // pad_to) * pad_to
    added_position = {token.id: number for number, token in enumerate(splice.added)}

    def find_origin(row: int) -> tuple[Origin, int]:
        if row in added_position:
            return "added", added_position[row]
        if row in splice.kept and splice.kept[row] < source_rows:
            return "source", splice.kept[row]
        if extends and row < source_rows:
            return "source", row
        return "padding", 0

    origins = [find_origin(row) for row in range(rows)]
    return Layout(tuple(_group_spans(origins)), rows, vocabulary)


def _group_spans(origins: Sequence[tuple[Origin, int]]) -> Iterator[RowSpan]:
    """Yield the longest spans of consecutive rows of one origin."""
    begin = 0
    for end in range(1, len(origins) + 1):
        origin, start = origins[begin]
        following = (origin, 0 if origin == "padding" else start + end - begin)
        if end == len(origins) or origins[end] != following:
            yield RowSpan(origin, start, end - begin)
            begin = end


@dataclass(frozen=True)
class ResizedRows:
    """The new content of a tensor with a row for each id: the layout, and rows by their origin.

    `base`, if given, replaces the first rows of the source. All rows are converted to the tensor's
    dtype.
    """

    layout: Layout
    added: Tensor
    padding: Tensor
    base: Tensor | None = None

    def in_file(self, place: TensorPlace) -> NewTensor:
        """Return the content as ranges of the source file and bytes of the other rows."""
        dtype = torch_dtype(place.dtype)
        added, padding = bytes_of(self.added.to(dtype)), bytes_of(self.padding.to(dtype))
        base = bytes_of(self.base.to(dtype)) if self.base is not None else memoryview(b"")
        segments: list[Segment] = []
        for span in self.layout.spans:
            begin = span.start * place.row_bytes
            end = begin + span.length * place.row_bytes
            if span.origin == "source":
                # The rows before the end of `base` come from `base`, the others from the file.
                base_end = min(max(len(base), begin), end)
                segments.append(base[begin:base_end])
                segments.append(Range(place.begin + base_end, place.begin + end))
            elif span.origin == "added":
                segments.append(added[begin:end])
            else:
                segments.append(memoryview(bytes(padding) * span.length))
        return NewTensor((self.layout.rows, *place.shape[1:]), list(filter(len, segments)))

    def in_memory(self, source: Tensor) -> Tensor:
        """Return the new tensor, with the dtype and on the device of `source`."""
        result = source.new_empty((self.layout.rows, *source.shape[1:]))
        position = 0
        for span in self.layout.spans:
            rows = result[position : position + span.length]
            begin, end = span.start, span.start + span.length
            if span.origin == "source":
                rows.copy_(source[begin:end])
                if self.base is not None and begin < len(self.base):
                    replaced = self.base[begin:end]
                    rows[: len(replaced)].copy_(replaced)
            elif span.origin == "added":
                rows.copy_(self.added[begin:end])
            else:
                rows.copy_(self.padding.expand_as(rows))
            position += span.length
        return result
