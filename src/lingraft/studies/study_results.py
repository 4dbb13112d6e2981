"""Gathers the results of the cells of a study: tables, rankings and failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.errors import did_you_mean
from lingraft.evaluation.compare_models import TEXT_DIGEST
from lingraft.model_card.markdown import heldout_text, stage_notes
from lingraft.pipeline.run_folder import RUN, read_record
from lingraft.store import WARNINGS
from lingraft.studies.axes import Label, axes_of
from lingraft.studies.axis_ranking import AxisRanking, ranking, too_few
from lingraft.studies.cells import Cell
from lingraft.studies.config import Study
from lingraft.studies.measured_fields import differences, measured_fields
from lingraft.studies.statistics import Difference, better_value
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
    # A cell that failed may have the folder of an earlier run, with other text and warnings.
    done: list[Cell] = []
    for cell in cells:
        outcome = outcomes.get(cell.name)
        error = outcome.error if outcome else ""
        if outcome and error:
            failures.append({"cell": cell.name, "error": error, "trace": outcome.trace})
        else:
            done.append(cell)
            rows += measurement_rows(cell, folder / CELLS / cell.name)
            curves += curve_rows(cell, folder / CELLS / cell.name)
        records.append(_cell_record(cell, error))
    compared_differences: list[Difference] = []
    rankings: list[AxisRanking] = []
    unlike = _different_texts(done, axes, folder)
    for compared in study.compare:
        compared_differences += differences(rows, axes, compared)
        for axis in axes:
            ranked = ranking(rows, axes, axis, compared)
            rankings += [_withheld(_with_missing(one, cells), unlike) for one in ranked]
    write_table(rows, folder / TABLE)
    write_table(curves, folder / CURVES)
    few = {
        key
        for key in {(row["metric"], row["subject"], row["language"]) for row in rows}
        if too_few(rows, *key)
    }
    table = difference_rows(compared_differences, axes, few=few, unlike=unlike)
    write_table(table, folder / DIFFERENCES)
    return {
        "cells": records,
        "failures": failures,
        "warnings": [*_unmatched(study, cells, rows), *_warnings(done, folder)],
        "heldout": _heldout_text(done, folder),
        "different documents": sorted(map(list, unlike)),
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


def _with_missing(ranked: AxisRanking, cells: Sequence[Cell]) -> AxisRanking:
    """Return a ranking with the values of its axis that no cell of its language was ranked with."""
    labels: dict[Label, None] = {}  # a set in the order of the cells
    for cell in cells:
        if ranked.language in {"", *(text.language for text in cell.recipe.texts)}:
            labels[cell.labels[ranked.axis]] = None
    missing = tuple(label for label in labels if label not in ranked.order)
    return replace(ranked, missing=missing)


def _withheld(ranked: AxisRanking, unlike: Collection[tuple[str, str]]) -> AxisRanking:
    """Return a ranking without an order if its values were measured on different documents."""
    if (ranked.axis, ranked.language) not in unlike:
        return ranked
    return replace(ranked, carried=(), equal=(), on_different_text=True)


def _unmatched(study: Study, cells: Sequence[Cell], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a warning for each entry of `compare` that no measurement has."""
    warnings = []
    metrics = {row["metric"] for row in rows}
    for compared in study.compare if rows else ():
        if not measured_fields(rows, (), compared):
            what = f"{compared.metric} ({compared.subject}, {compared.language})"
            known = "" if compared.metric in metrics else did_you_mean(compared.metric, metrics)
            text = f"compare: {what} was not measured; {known or 'change subject or language'}"
            warnings.append({"warning": text, "cells": [cell.name for cell in cells]})
    return warnings


def _different_texts(
    cells: Sequence[Cell], axes: Sequence[str], folder: Path
) -> set[tuple[str, str]]:
    """Return the axes along which cells are measured on different documents, with the language.

    Runs of earlier versions do not say which documents they were measured on.
    """
    found: dict[tuple[str, str, int, str], set[str]] = {}
    for cell in cells:
        run = folder / CELLS / cell.name
        if not (run / RUN).is_file():
            continue
        for language, notes in stage_notes(read_record(run), "evaluation").items():
            if isinstance(notes, Mapping) and TEXT_DIGEST in notes:
                for axis in axes:
                    others = str({**cell.labels, axis: ""})
                    place = (axis, language, cell.seed, others)
                    found.setdefault(place, set()).add(notes[TEXT_DIGEST])
    return {(axis, language) for (axis, language, *_), texts in found.items() if len(texts) > 1}


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
    *,
    few: Collection[tuple[str, str, str]] = (),
    unlike: Collection[tuple[str, str]] = (),
) -> list[Row]:
    """Return differences as rows of a table, with their 95% intervals.

    `few` are the numbers (metric, subject, language) on too few documents to call a value better,
    and `unlike` the axes, with a language, whose values were measured on different documents.

    The columns `axis.NAME` hold the context; they are empty where the difference is averaged.
    """
    rows: list[Row] = []
    for difference in compared:
        low, high = difference.interval() or (None, None)
        key = (difference.metric, difference.subject, difference.language)
        withheld = "too few documents" if key in few else ""
        if (difference.axis, difference.language) in unlike:
            withheld = "different documents"
        better = None if withheld else better_value(difference)
        equal = not withheld and difference.is_equal()
        context = {f"{AXIS}{axis}": str(difference.context.get(axis, "")) for axis in axes}
        rows.append(
            {
                "axis": difference.axis,
                "first": str(difference.first),
                "second": str(difference.second),
                **context,
                "metric": difference.metric,
                "unit": difference.unit,
                "split": difference.split,
                "subject": difference.subject,
                "language": difference.language,
                "difference": difference.value,
                "low": low,
                "high": high,
                "seeds": difference.n,
                "over": difference.over if low is not None else "",
                "better": "" if better is None else str(better),
                "equal": difference.margin if equal else None,
                "withheld": withheld,
            }
        )
    return rows
