"""The outcome of `lingraft evaluate` as a table for people: one line a metric and language, a column a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from lingraft.measurement import Measurement
from lingraft.pipeline.outcome import number

LEFT_OUT = ("tokens per byte", "tokens per document")
"""They say what other lines say; the files hold them."""
CHANGE = " change"


def comparison_table(found: Mapping[str, Any]) -> Table:
    """Return the values of each model with their intervals, and paired changes from the first model."""
    models = list(found["models"])
    rows = [Measurement(**row) for row in found["measurements"]]
    cells = {(row.metric, row.language, row.subject): row for row in rows}
    title = f"compared with {models[0]}; 95% intervals over documents"
    table = Table(title=title, title_justify="left", pad_edge=False, box=None)
    for heading in ("metric", "language", "unit"):
        table.add_column(heading)
    for heading in models + [f"{name} - {models[0]}" for name in models[1:]]:
        table.add_column(heading, justify="right")
    for metric, language, unit in dict.fromkeys((row.metric, row.language, row.unit) for row in rows):
        if metric in LEFT_OUT or metric.endswith(CHANGE):
            continue
        values = [_cell(cells.get((metric, language, name))) for name in models]
        changes = [_change(cells.get((metric + CHANGE, language, name))) for name in models[1:]]
        table.add_row(metric, language, unit, *values, *changes)
    return table


def _cell(row: Measurement | None) -> str:
    if row is None:
        return ""
    return number(row.value) + (f" ({_span(row.low, row.high, '')})" if row.low != row.high else "")


def _change(row: Measurement | None) -> str:
    if row is None:
        return ""
    return f"{row.value:+.3g}" + (f" ({_span(row.low, row.high, '+')})" if row.low is not None else "")


def _span(low: float | None, high: float | None, sign: str) -> str:
    return " to ".join(f"{bound:{sign}.3g}" for bound in (low, high) if bound is not None)
