"""Measurements: one row for every number in every table and chart.

Each row says what was measured (metric and its version, unit), on what (subject, language, split), how often (n),
and how sure it is (the interval and its kind). Rows are values; files of them are parquet, or CSV for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    `subject` is the model or tokenizer that was measured ("source", "spliced", "adapted", or a name); `n` counts the
    units (`per`) that the value averages over; `low` and `high` bound the `confidence` interval, where there is one.
    """

    metric: str
    subject: str
    value: float
    unit: str
    language: str = ""
    split: str = "heldout"
    n: int = 1
    per: str = "document"
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    version: int = 1
    note: str = ""


def write_measurements(rows: Sequence[Measurement], path: Path) -> None:
    """Write rows as parquet, or as CSV where the path ends in .csv."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    types = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "float | None": pa.float64()}
    schema = pa.schema([(field.name, types[str(field.type)]) for field in dataclasses.fields(Measurement)])
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path)


def read_measurements(path: Path) -> list[Measurement]:
    """Read the rows of a parquet file."""
    import pyarrow.parquet as pq

    return [Measurement(**row) for row in pq.read_table(path).to_pylist()]


def select(rows: Iterable[Measurement], **wanted: object) -> list[Measurement]:
    """Return the rows whose named fields equal the wanted values.

    >>> rows = [Measurement("fertility", "source", 5.5, "tokens/word", language="hi")]
    >>> [row.value for row in select(rows, metric="fertility", language="hi")]
    [5.5]
    """
    return [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
