"""The outcome of `lingraft evaluate` as a table for people: one line a metric and language, a column a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from lingraft.formatting import change, measured
from lingraft.measurement import CHANGE, Measurement

LEFT_OUT = ("tokens per byte", "tokens per document")
"""They say what other lines say; the files hold them."""


def comparison_table(found: Mapping[str, Any]) -> Table:
    """Return the values of each model with their intervals, and paired changes from the first model."""
    models = list(found["models"])
    rows = [Measurement(**row) for row in found["measurements"]]
    cells = {(row.metric, row.language, row.subject): row for row in rows}
    title = f"compared with {models[0]}; 95% intervals over documents"
    table = Table(title=title, title_justify="left", pad_edge=False, box=None)
    for heading in ("metric", "language", "unit"):
        table.add_column(heading)
    for heading in models + [f"{name}, change" for name in models[1:]]:
        table.add_column(heading, justify="right")
    for metric, language, unit in dict.fromkeys(
        (row.metric, row.language, row.unit) for row in rows
    ):
        if metric in LEFT_OUT or metric.endswith(CHANGE):
            continue
        measurements = [cells.get((metric, language, name)) for name in models]
        values = [measured(row) for row in measurements]
        changes = [
            change(measurements[0], row, cells.get((metric + CHANGE, language, name)))
            for name, row in zip(models[1:], measurements[1:], strict=True)
        ]
        table.add_row(metric, language, unit, *values, *changes)
    return table
