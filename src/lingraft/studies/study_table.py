"""The table of a study: a row for each measurement of each cell, with the labels of the cell.

`COLUMNS` describes the columns; study.json has a copy. Some notes of stages (training time, number
of added tokens) are rows as well, so that a chart needs this table only. The held-out curves of
training are a second table of the same kind, described by `CURVE_COLUMNS`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.measurement import read_measurements
from lingraft.pipeline.run_folder import read_record
from lingraft.studies.cells import Cell
from lingraft.studies.noted_measurements import noted_measurements

AXIS = "axis."
COLUMNS = {
    "cell": "name of the cell, whose run is in cells/NAME",
    "seed": "the cell's seed",
    f"{AXIS}NAME": "the cell's value on each axis, a number where all are numbers, else its label",
    "role": "role of the row's language in the cell: target, replay, or empty",
    "metric": "what was measured",
    "subject": "the model: source, spliced or adapted",
    "value": "the number",
    "unit": "its unit",
    "language": "language tag of the text",
    "split": "which part of the text",
    "n": "number of units that the value averages over",
    "per": "the kind of these units",
    "low": "lower end of the interval over these units",
    "high": "upper end of that interval",
    "confidence": "confidence of the interval",
    "version": "version of the metric",
    "note": "how it was measured",
}
CURVE_COLUMNS = {
    **{key: COLUMNS[key] for key in ("cell", "seed", f"{AXIS}NAME", "role", "language")},
    "step": "optimiser steps done",
    "bytes": "bytes of text seen, replay included",
    "bits_per_byte": "on held-out text of that language",
}

Row = dict[str, Any]


def measurement_rows(cell: Cell, folder: Path) -> list[Row]:
    """Return a row for each measurement of a finished cell, and for what its stages noted."""
    measurements = read_measurements(folder / "measurements.parquet")
    measurements += noted_measurements(read_record(folder))
    rows = []
    for row in measurements:
        role = _role(cell, row.language)
        rows.append({**_cell_columns(cell), "role": role, **dataclasses.asdict(row)})
    return rows


def curve_rows(cell: Cell, folder: Path) -> list[Row]:
    """Return the points of a cell's held-out curve; none if nothing was trained."""
    path = folder / "training.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        for language, value in step.get("heldout", {}).items():
            rows.append(
                {
                    **_cell_columns(cell),
                    "role": _role(cell, language),
                    "language": language,
                    "step": step["step"],
                    "bytes": step["bytes"],
                    "bits_per_byte": value,
                }
            )
    return rows


def _cell_columns(cell: Cell) -> Row:
    labels = {f"{AXIS}{axis}": label for axis, label in cell.labels.items()}
    return {"cell": cell.name, "seed": cell.seed, **labels}


def _role(cell: Cell, language: str) -> str:
    if language in {text.language for text in cell.recipe.targets}:
        return "target"
    return "replay" if cell.recipe.replay and cell.recipe.replay.language == language else ""


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as parquet and as CSV, with a column for each key of any row.

    A column is text if any of its values is: labels of an axis may mix names and numbers.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    names: dict[str, None] = {}  # a set that keeps the order of the columns
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {}
    for name in names:
        columns[name] = _column([row.get(name) for row in rows])
    table = pa.table(columns)
    pq.write_table(table, path)
    pa_csv.write_csv(table, path.with_suffix(".csv"))


def _column(values: list[Any]) -> Any:
    """Return an arrow array of text, floats or integers: arrow refuses a mixture of these."""
    import pyarrow as pa

    if any(isinstance(value, str) for value in values):
        texts = [None if value is None else str(value) for value in values]
        return pa.array(texts, pa.string())
    if any(isinstance(value, float) for value in values) or values.count(None) == len(values):
        numbers = [None if value is None else float(value) for value in values]
        return pa.array(numbers, pa.float64())
    return pa.array(values, pa.int64())


def read_table(path: Path) -> list[Row]:
    """Read the rows of a parquet table; raises `StoreError` if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        msg = f"{path}: the table of a study cannot be read; run `lingraft study` again"
        raise StoreError(msg) from error
    return rows
