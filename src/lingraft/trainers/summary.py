"""The table that `lingraft handover` prints."""

from __future__ import annotations

from rich.table import Table

from lingraft.formatting import number, size
from lingraft.trainers.manifest import Handover


def handover_table(handover: Handover) -> Table:
    """Return the parts of a hand-over and their sizes as a table to print."""
    table = Table(pad_edge=False, box=None)
    for name in ("part", "documents", "sequences", "ids", "bytes on disk"):
        table.add_column(name, justify="left" if name == "part" else "right")
    table.add_row("model", "", "", "", _disk(handover, "model/"))
    for record in handover.data:
        amounts = (record.documents, record.sequences, record.tokens)
        counts = ["" if amount is None else number(amount) for amount in amounts]
        table.add_row(record.path, *counts, _disk(handover, record.path))
    return table


def _disk(handover: Handover, path: str) -> str:
    files = handover.files.items()
    return size(sum(file.bytes for name, file in files if name.startswith(path)))
