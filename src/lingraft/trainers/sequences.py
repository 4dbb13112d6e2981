"""Token ids as an arrow data set in the layout of `datasets.load_from_disk`.

Row i is the sequence at position i of lingraft's loop, with replay and epochs as there. A row has
the context id of its sequence and the ids that it predicts, because models of transformers shift
labels by one. The files are written with pyarrow, a few hundred rows at a time: `datasets` would
write fingerprints that differ each time.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Mixture
from lingraft.packing.shards import Integers
from lingraft.packing.shifted_rows import row_labels, row_positions
from lingraft.store import write_json

ROWS = 256
"""Rows of a record batch."""
FILE_BYTES = 500 * 10**6


@dataclass(frozen=True)
class SequenceColumns:
    """The columns besides input_ids and labels."""

    position_ids: bool = False
    attention_mask: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        names = ["input_ids", "labels"]
        names += ["position_ids"] if self.position_ids else []
        return (*names, *(["attention_mask"] if self.attention_mask else []))


def mixed_sequences(mixture: Mixture, count: int) -> Iterator[Integers]:
    """Yield the ids of the first `count` sequences in the order of training."""
    for first in range(0, count, ROWS):
        for _blocks, ids in mixture.sequences(first, min(ROWS, count - first)):
            yield ids


def stored_sequences(blocks: Blocks) -> Iterator[Integers]:
    """Yield the ids of all sequences in the order of the text."""
    return map(blocks.sequence, range(len(blocks)))


def write_sequences(
    sequences: Iterator[Integers], count: int, text: Blocks, folder: Path, columns: SequenceColumns
) -> int:
    """Write `count` sequences as an arrow data set; return the number of ids.

    `text` has the separators of the sequences, and the length of the longest one.
    """
    folder.mkdir(parents=True)
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in columns.names])
    row_bytes = 4 * (text.summary.block + 1) * len(columns.names)
    rows_per_file = max(ROWS, FILE_BYTES // row_bytes // ROWS * ROWS)
    files = -(-count // rows_per_file)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    tokens, content = 0, hashlib.sha256(repr(columns).encode())
    for name in names:
        rows = itertools.islice(sequences, rows_per_file)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while batch := list(itertools.islice(rows, ROWS)):
                table = _record_batch(batch, text, columns, schema)
                ids = table.column("input_ids").flatten()
                content.update(ids.to_numpy())
                tokens += len(ids)
                writer.write_batch(table)
    _write_description(folder, names, content.hexdigest())
    return tokens


def _record_batch(
    rows: list[Integers], text: Blocks, columns: SequenceColumns, schema: pa.Schema
) -> pa.RecordBatch:
    ids = np.concatenate(rows).astype(np.uint32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    values: dict[str, NDArray[Any]] = {"input_ids": ids}
    values |= {"labels": row_labels(ids, offsets, text.summary.before)}
    if columns.position_ids:
        values["position_ids"] = row_positions(ids, offsets, text.document_start)
    if columns.attention_mask:
        values["attention_mask"] = np.ones_like(ids)
    starts = pa.array(offsets, pa.int32())
    columns_of_lists = [
        pa.ListArray.from_arrays(starts, pa.array(values[name].astype(np.int32)))
        for name in schema.names
    ]
    return pa.RecordBatch.from_arrays(columns_of_lists, schema=schema)


def _write_description(folder: Path, names: list[str], sha256: str) -> None:
    """Write the two JSON files by which `datasets` finds the data files and caches results."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": sha256[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    # The features follow from the schema of the files, in every release of `datasets`.
    write_json(folder / "state.json", state, indent=2)
    write_json(folder / "dataset_info.json", {}, indent=2)
