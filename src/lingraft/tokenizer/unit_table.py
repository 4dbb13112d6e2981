"""Counting the units of much text in columns of pyarrow, without a Python object for each word.

`count_chunks` cuts texts at their spaces and counts equal chunks, and `cut_first` and `cut_rest`
cut each distinct chunk once with the tokenizer. All work on parts of a text, and `sum_tables` adds
their tables up. `Family.units` gives the same counts: a test compares them. It also counts the
texts to which chunks do not apply: runs of spaces, added tokens, tokenizers that do not cut at
spaces.

A table has the columns `unit` and `count`, with each unit once, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.special_text import remove_special_text

# `large_string`, because the distinct units of much text may exceed 2 GB.
EMPTY = pa.schema([("unit", pa.large_string()), ("count", pa.int64())]).empty_table()

# A space at an end of the text, or before another white space. Python's `\s` is more than RE2's.
_UNUSUAL_SPACE = (
    r"^ | $| [\s\x0b\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}"
    r"\x{3000}]"
)
_CHUNKS_AT_ONCE = 500  # cut in one call, because a call takes longer than cutting a chunk
_UNITS_AT_ONCE = 200_000  # held as Python strings, about 20 MB
# Tables are summed in parts, by the length of the unit, because summing copies a part four times.
# The units of a script have lengths that are multiples of 2 or 3, so the number is prime.
_PARTS = 13
_ROWS_AT_ONCE = 100_000  # of a part

Numbers = npt.NDArray[np.int64]


class TextChunks(NamedTuple):
    """The chunks between the spaces of texts: those at the start, those after a space.

    `units` are those of texts to which chunks do not apply.
    """

    first: pa.Table
    rest: pa.Table
    units: pa.Table


def count_chunks(family: Family, texts: pa.ChunkedArray) -> TextChunks:
    """Count the chunks between spaces, and the units of text that has no such chunks."""
    if not family.can_cut_chunks or not family.unit_counter.cuts_at_spaces:
        return TextChunks(EMPTY, EMPTY, _table_of(family.units(texts.to_pylist())))
    first_chunks, rest, unusual = [], [], []
    for array in texts.chunks:
        is_unusual = pc.match_substring_regex(array, _UNUSUAL_SPACE)
        if (added := family.added_text.pattern) is not None:
            is_unusual = pc.or_(is_unusual, pc.match_substring_regex(array, added.pattern))
        unusual += array.filter(is_unusual).to_pylist()
        split = _split(array.filter(pc.invert(is_unusual)).cast(pa.large_string()))
        first_chunks.append(split[0])
        rest.append(split[1])
    units = _table_of(family.units(unusual))
    return TextChunks(sum_tables(first_chunks), sum_tables(rest), units)


def count_mentions(family: Family, texts: pa.ChunkedArray) -> Counter[str]:
    """Count the special tokens that texts spell."""
    pattern = family.special_text.pattern
    if pattern is None:
        return Counter()
    mentioning = texts.filter(pc.match_substring_regex(texts, pattern.pattern))
    return family.special_text.count(mentioning.to_pylist())


def _split(texts: pa.LargeStringArray) -> tuple[pa.Table, pa.Table]:
    """Cut texts at their spaces; return the first chunks of the texts, and the other chunks."""
    lists = pc.split_pattern(texts, " ")
    chunks = pc.list_flatten(lists)
    is_first = np.zeros(len(chunks), dtype=bool)
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    is_first[np.cumsum(sizes) - sizes] = True
    return _count(chunks.filter(pa.array(is_first))), _count(chunks.filter(pa.array(~is_first)))


def _count(chunks: Any) -> pa.Table:
    counted = pc.value_counts(chunks)
    return _table(counted.field("values"), counted.field("counts"))


def cut_first(family: Family, chunks: pa.Table) -> pa.Table:
    """Cut chunks from the start of texts; return their units."""
    units: list[str] = []
    numbers: list[int] = []
    for chunk, count in _rows(chunks):
        found = list(family.cut(chunk))
        units += found
        numbers += [count] * len(found)
    return sum_tables([_table(units, numbers)])


def cut_rest(family: Family, chunks: pa.Table) -> pa.Table:
    """Cut chunks that have a space before them; return their units.

    Chunks with equal counts are cut together, joined by spaces, as they occur in a text.
    """
    counts = chunks["count"].to_numpy()
    order = np.argsort(counts, kind="stable")
    counts, ordered = counts[order], chunks["unit"].take(pa.array(order)).combine_chunks()
    bounds = np.flatnonzero(np.diff(counts, prepend=-1, append=-1)).tolist()
    prefix = family.unit_counter.prefix
    units: list[str] = []
    numbers: list[int] = []
    tables = []
    for start, end in pairwise(bounds):
        for at in range(start, end, _CHUNKS_AT_ONCE):
            joined = " ".join(ordered.slice(at, min(_CHUNKS_AT_ONCE, end - at)).to_pylist())
            found = list(family.cut(prefix + joined))
            units += found
            numbers += [int(counts[start])] * len(found)
        if len(units) >= _UNITS_AT_ONCE:
            tables.append(sum_tables([_table(units, numbers)]))
            units, numbers = [], []
    return sum_tables([*tables, _table(units, numbers)])


def without_special(family: Family, table: pa.Table) -> pa.Table:
    """Remove the spellings of special tokens, so that no token is learned from them."""
    spelled = family.special_text.as_pieces(family.spelled_piece)
    if spelled.pattern is None:
        return table
    mentions = pc.match_substring_regex(table["unit"], spelled.pattern.pattern)
    parts = remove_special_text(spelled, counter_of(table.filter(mentions)))
    if not parts:
        return table
    return sum_tables([table.filter(pc.invert(mentions)), _table_of(parts)])


def sum_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Return one table in which each unit has the sum of its counts.

    The tables may come one after the other: few rows are held besides the distinct units.
    """
    sums = [_RunningSum() for _ in range(_PARTS)]
    for table in tables:
        parts = pc.binary_length(table["unit"]).to_numpy() % _PARTS
        for part, running in enumerate(sums):
            running.add(table.filter(pa.array(parts == part)))
    return pa.concat_tables([EMPTY, *(running.finish() for running in sums)])


class _RunningSum:
    """The sum of tables that were added, and tables that wait to be added to it."""

    def __init__(self) -> None:
        self.total = EMPTY
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add a table."""
        self.waiting.append(table)
        self.rows += len(table)
        # Summing takes time for every row of the total, so it waits for half as many rows.
        if self.rows > max(_ROWS_AT_ONCE, len(self.total) // 2):
            self.finish()

    def finish(self) -> pa.Table:
        """Return the sum of all tables that were added."""
        if self.rows:
            self.total = _sum([self.total, *self.waiting])
            self.waiting, self.rows = [], 0
            release_memory()
        return self.total


def _sum(tables: Sequence[pa.Table]) -> pa.Table:
    joined = pa.concat_tables(tables)
    encoded = pc.dictionary_encode(joined["unit"].combine_chunks())
    # Ten times faster than `group_by` (pyarrow 26). Sums below 2^53 are exact.
    counts = np.bincount(encoded.indices.to_numpy(), joined["count"].to_numpy())
    return _table(encoded.dictionary, counts.astype(np.int64))


def split_rows(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield the rows of a table in tables of at most this many, and forget those that were yielded.

    The memory of the table is returned step by step if the caller does not hold it.
    """
    batches = table.to_batches(max_chunksize=size)
    del table
    while batches:
        # A copy, because a slice is pickled with all rows of its batch. Of a batch and not of the
        # table, whose chunks `take` would join for every slice: 150 MB for the words of 1 GB.
        batch = batches.pop()
        yield pa.Table.from_batches([batch.take(pa.array(np.arange(len(batch))))])


def release_memory() -> None:
    """Return memory that pyarrow's allocator keeps, of tables that are gone, to the system."""
    pa.default_memory_pool().release_unused()


def most_frequent(table: pa.Table, limit: int) -> tuple[pa.Table, int]:
    """Return the `limit` most frequent units, and the highest count of the others (0 for none).

    Units with equal counts are taken in code point order, so the result does not depend on the
    order of the table.
    """
    if len(table) <= limit:
        return table, 0
    counts = table["count"].to_numpy()
    least = np.partition(counts, len(counts) - limit)[len(counts) - limit]
    more, ties = (table.filter(pa.array(which)) for which in (counts > least, counts == least))
    # pyarrow compares bytes of UTF-8, whose order is that of code points.
    order = pc.sort_indices(ties["unit"])[: limit - len(more)]
    kept = pa.concat_tables([more, ties.take(order)])
    return kept, int(least if len(order) < len(ties) else counts[counts < least].max())


def count_characters(table: pa.Table) -> int:
    """Return the number of characters of all units, as often as each occurs."""
    lengths = pc.utf8_length(table["unit"]).to_numpy().astype(np.int64)
    return int((lengths * table["count"].to_numpy()).sum())


def counter_of(table: pa.Table) -> Counter[str]:
    """Return a table as a counter."""
    return Counter(dict(_rows(table)))


def _rows(table: pa.Table) -> Iterator[tuple[str, int]]:
    for batch in table.to_batches(max_chunksize=_UNITS_AT_ONCE):
        yield from zip(batch["unit"].to_pylist(), batch["count"].to_pylist(), strict=True)


def _table_of(counts: Counter[str]) -> pa.Table:
    return _table(list(counts), list(counts.values()))


def _table(units: Any, counts: Any) -> pa.Table:
    columns = [pa.array(units, pa.large_string()), pa.array(counts, pa.int64())]
    return pa.Table.from_arrays(columns, schema=EMPTY.schema)
