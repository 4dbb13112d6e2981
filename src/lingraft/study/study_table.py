"""The tidy table of a study: every measurement of every cell, a row each, beside what the cell is.

`COLUMNS` documents it; study.json carries the same words. What a run notes of its training, and how many tokens it
added, are rows as well, so that one table holds everything that a chart needs. The curves of training are a second
table of the same make.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.measurement import Measurement, read_measurements
from lingraft.pipeline.run_folder import read_record
from lingraft.study.cells import Cell

AXIS = "axis."
COLUMNS = {
    "cell": "name of the cell: its run lies in cells/NAME",
    "seed": "the cell's seed",
    f"{AXIS}NAME": "the cell's value on each axis, a number where all are numbers, else its label",
    "role": "what the row's language is to the cell: target, replay, or nothing",
    "metric": "what was measured",
    "subject": "on which model: source, spliced or adapted",
    "value": "the number",
    "unit": "its unit",
    "language": "tag of the text's language",
    "split": "which part of the text",
    "n": "how many units it averages over",
    "per": "what such a unit is",
    "low": "lower end of the interval over these units",
    "high": "its upper end",
    "confidence": "of that interval",
    "version": "of the metric",
    "note": "how it was measured",
}
CURVE_COLUMNS = {
    **{key: COLUMNS[key] for key in ("cell", "seed", f"{AXIS}NAME", "role", "language")},
    "step": "optimiser steps done",
    "bytes": "bytes of text seen, replay included",
    "bits_per_byte": "on held-out text of that language",
}

Row = dict[str, Any]

_NOTED = (
    ("vocabulary", "added", "tokens added", "spliced", "tokens"),
    ("source", "parameters", "parameters", "source", "parameters"),
    ("embeddings", "parameters", "parameters", "spliced", "parameters"),
    ("training", "tokens", "training tokens", "adapted", "tokens"),
    ("training", "target_bytes", "training bytes of target text", "adapted", "bytes"),
    ("training", "bytes", "training bytes", "adapted", "bytes"),
    ("training", "seconds", "training time", "adapted", "seconds"),
)


def rows_of(cell: Cell, folder: Path) -> list[Row]:
    """Return the rows of a finished cell."""
    beside = _beside(cell)
    measured = [*read_measurements(folder / "measurements.parquet"), *_noted(read_record(folder))]
    return [
        {**beside, "role": _role(cell, row.language), **dataclasses.asdict(row)} for row in measured
    ]


def curve_of(cell: Cell, folder: Path) -> list[Row]:
    """Return the points of a cell's held-out curve; none where nothing was trained."""
    path = folder / "training.jsonl"
    if not path.is_file():
        return []
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        {
            **_beside(cell),
            "role": _role(cell, language),
            "language": language,
            "step": line["step"],
            "bytes": line["bytes"],
            "bits_per_byte": value,
        }
        for line in lines
        for language, value in line.get("heldout", {}).items()
    ]


def _beside(cell: Cell) -> Row:
    return {
        "cell": cell.name,
        "seed": cell.seed,
        **{f"{AXIS}{axis}": label for axis, label in cell.labels.items()},
    }


def _role(cell: Cell, language: str) -> str:
    if language in {text.language for text in cell.recipe.targets}:
        return "target"
    return "replay" if cell.recipe.replay and cell.recipe.replay.language == language else ""


def _noted(record: Mapping[str, Any]) -> Iterator[Measurement]:
    notes = {stage["name"]: stage["notes"] for stage in record["stages"]}
    for stage, key, metric, subject, unit in _NOTED:
        if key in notes.get(stage, {}):
            yield Measurement(metric, subject, float(notes[stage][key]), unit, split="", per="run")


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows as parquet and, beside it, as CSV: a column for each key, text where any of its values is text."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    table = pa.table(columns)
    pq.write_table(table, path)
    pa_csv.write_csv(table, path.with_suffix(".csv"))


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    if any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if any(isinstance(value, float) for value in values) or all(value is None for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(values, pa.int64())


def read_table(path: Path) -> list[Row]:
    """Read the rows of a parquet table."""
    import pyarrow.parquet as pq

    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows
