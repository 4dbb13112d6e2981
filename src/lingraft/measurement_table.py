"""Measurements as a table: for data frames, for the terminal and for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from rich.table import Table

from lingraft.measurement import CHANGE, Measurement, arrow_table, select
from lingraft.measurement_text import change, confidence_levels, measured
from lingraft.table_display import as_html, as_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DERIVED = ("tokens per byte", "tokens per document")
"""Metrics that follow from others; only the comparison leaves them out."""


@dataclass(frozen=True)
class MeasurementTable(Sequence[Measurement]):
    """Measurements of one or several models, in the order in which they were made.

    The table is a sequence of `Measurement` records, which `rows` holds. `str()` and notebooks show
    the comparison with the first model, without metrics that follow from others.

    >>> table = MeasurementTable((
    ...     Measurement("bits per byte", "before", 2.0, "bits/byte", "hi"),
    ...     Measurement("bits per byte", "after", 1.5, "bits/byte", "hi"),
    ... ))
    >>> print(table)
    compared with before
    metric         language  unit       before  after  after, change
    bits per byte  hi        bits/byte       2   1.50         -25.0%
    >>> table.select(subject="after").rows[0].value
    1.5
    >>> table.to_pandas()[["subject", "value"]].values.tolist()
    [['before', 2.0], ['after', 1.5]]
    """

    rows: tuple[Measurement, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Measurement]: ...
    def __getitem__(self, index: int | slice) -> Measurement | Sequence[Measurement]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, **wanted: object) -> MeasurementTable:
        """Return the measurements whose named fields have the wanted values.

        `table.select(metric="bits per byte", language="hi")`
        """
        return MeasurementTable(tuple(select(self.rows, **wanted)))

    def to_arrow(self) -> pa.Table:
        """Return a table with a column for each field of `Measurement`."""
        return arrow_table(self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a column for each field of `Measurement`; needs pandas."""
        return self.to_arrow().to_pandas()

    def __str__(self) -> str:
        return as_text(comparison_table(self.rows))

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        return as_html(comparison_table(self.rows))


def comparison_table(rows: Sequence[Measurement]) -> Table:
    """Return each metric in each language, with its value for each model and the interval.

    The paired changes from the first model follow, all with their intervals.
    """
    models = list(dict.fromkeys(row.subject for row in rows))
    cells = {(row.metric, row.language, row.subject): row for row in rows}
    first, *others = models or [""]
    title = f"compared with {first}"
    if level := confidence_levels(row.confidence for row in rows):
        title += f"; {level} intervals over documents"
    table = Table(title=title, title_justify="left", pad_edge=False, box=None)
    for heading in ("metric", "language", "unit"):
        table.add_column(heading)
    for name in models:
        table.add_column(name, justify="right")
    for name in others:
        table.add_column(f"{name}, change", justify="right")
    lines = dict.fromkeys((row.metric, row.language, row.unit) for row in rows)
    for metric, language, unit in lines:
        if metric in DERIVED or metric.endswith(CHANGE):
            continue
        before = cells.get((metric, language, first))
        values, changes = [measured(before)], []
        for name in others:
            row = cells.get((metric, language, name))
            values.append(measured(row))
            changes.append(change(before, row, cells.get((metric + CHANGE, language, name))))
        table.add_row(metric, language, unit, *values, *changes)
    return table
