"""Gathers the results of the cells of a study: tables, rankings and failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.model_card.markdown import heldout_text
from lingraft.pipeline.run_folder import RUN, read_record
from lingraft.store import WARNINGS
from lingraft.studies.axis_ranking import AxisRanking, few_documents, ranking
from lingraft.studies.cells import Cell, axes_of
from lingraft.studies.config import Study
from lingraft.studies.statistics import Difference, better_value, differences
from lingraft.studies.study_folder import CELLS, CURVES, DIFFERENCES, TABLE
from lingraft.studies.study_schedule import Outcome
from lingraft.studies.study_table import (
    AXIS,
    COLUMNS,
    CURVE_COLUMNS,
    Row,
    curve_rows,
    measurement_rows,
    write_table,
)


def gather_results(
    study: Study, cells: Sequence[Cell], folder: Path, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Write the tables into `folder`; return the part of study.json that describes the results."""
    axes = [axis.name for axis in axes_of(study)]
    rows: list[Row] = []
    curves: list[Row] = []
    records, failures = [], []
    for cell in cells:
        outcome = outcomes.get(cell.name)
        error = outcome.error if outcome else ""
        if outcome and error:
            failures.append({"cell": cell.name, "error": error, "trace": outcome.trace})
        else:
            rows += measurement_rows(cell, folder / CELLS / cell.name)
            curves += curve_rows(cell, folder / CELLS / cell.name)
        records.append(_cell_record(cell, error))
    compared_differences: list[Difference] = []
    rankings: list[AxisRanking] = []
    for compared in study.compare:
        compared_differences += differences(rows, axes, compared)
        for axis in axes:
            rankings += ranking(rows, axes, axis, compared)
    write_table(rows, folder / TABLE)
    write_table(curves, folder / CURVES)
    few = {
        key
        for key in {(row["metric"], row["subject"], row["language"]) for row in rows}
        if few_documents(rows, *key) is not None
    }
    write_table(difference_rows(compared_differences, axes, few), folder / DIFFERENCES)
    return {
        "cells": records,
        "failures": failures,
        "warnings": _warnings(cells, folder),
        "heldout": _heldout_text(cells, folder),
        "rankings": list(map(_ranking_record, rankings)),
        "columns": COLUMNS,
        "curve_columns": CURVE_COLUMNS,
    }


def _warnings(cells: Sequence[Cell], folder: Path) -> list[dict[str, Any]]:
    """Return each warning of the cells once, with the names of the cells that have it."""
    cells_of_warning: dict[str, list[str]] = {}
    for cell in cells:
        run = folder / CELLS / cell.name
        if (run / RUN).is_file():
            for warning in read_record(run).get(WARNINGS, ()):
                cells_of_warning.setdefault(warning, []).append(cell.name)
    return [{"warning": text, "cells": names} for text, names in cells_of_warning.items()]


def _heldout_text(cells: Sequence[Cell], folder: Path) -> dict[str, str]:
    """Return the held-out text of each language that the cells are measured on."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        run = folder / CELLS / cell.name
        if (run / RUN).is_file():
            for language, amount in heldout_text(read_record(run)).items():
                found.setdefault(language, {})[amount] = None
    return {language: " or ".join(amounts) for language, amounts in found.items()}


def _cell_record(cell: Cell, error: str) -> dict[str, Any]:
    return {
        "name": cell.name,
        "labels": dict(cell.labels),
        "seed": cell.seed,
        "status": "failed" if error else "done",
        "error": error,
        "folder": "" if error else f"{CELLS}/{cell.name}",
    }


def _ranking_record(ranked: AxisRanking) -> dict[str, Any]:
    return {
        "axis": ranked.axis,
        "metric": ranked.metric,
        "subject": ranked.subject,
        "language": ranked.language,
        "order": list(ranked.order),
        "means": list(ranked.means),
        "carried": list(map(list, ranked.carried)),
        "equal": list(map(list, ranked.equal)),
        "best": ranked.best,
        "sentence": ranked.sentence,
    }


def difference_rows(
    compared: Iterable[Difference],
    axes: Sequence[str],
    few: Collection[tuple[str, str, str]] = (),
) -> list[Row]:
    """Return differences as rows of a table, with their 95% intervals.

    `few` are the numbers (metric, subject, language) on too few documents to call a value better.

    The columns `axis.NAME` hold the context; they are empty where the difference is averaged.
    """
    rows: list[Row] = []
    for difference in compared:
        low, high = difference.interval() or (None, None)
        key = (difference.metric, difference.subject, difference.language)
        better = None if key in few else better_value(difference)
        equal = key not in few and difference.is_equal()
        context = {f"{AXIS}{axis}": str(difference.context.get(axis, "")) for axis in axes}
        rows.append(
            {
                "axis": difference.axis,
                "first": str(difference.first),
                "second": str(difference.second),
                **context,
                "metric": difference.metric,
                "subject": difference.subject,
                "language": difference.language,
                "difference": difference.value,
                "low": low,
                "high": high,
                "seeds": difference.n,
                "over": difference.over if low is not None else "",
                "better": "" if better is None else str(better),
                "equal": difference.margin if equal else None,
            }
        )
    return rows
