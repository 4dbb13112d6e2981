"""What came out, for people and for programs: the table of before and after, and its JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.formatting import change, number, value_of
from lingraft.measurement import SUBJECTS, MetricChange, metric_changes
from lingraft.pipeline.run_folder import Run, read_record
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.store import WARNINGS

SHOWN = ("tokens per word", "bits per byte", "generation speed", "documents tokenised identically")
"""What the table of before and after holds; the report and measurements.csv hold everything."""


def before_after(run: Run) -> Table:
    """Return one line for each metric and language: the source, spliced and adapted value, and the change."""
    record = run.record
    table = Table(
        title=f"{record['name']}: {record['language']} grafted onto {record['source']}",
        title_justify="left",
        pad_edge=False,
        box=None,
    )
    for heading in ("metric", "language", *SUBJECTS, "change"):
        table.add_column(heading, justify="right" if heading in {*SUBJECTS, "change"} else "left")
    for one in metric_changes(run.measurements()):
        only_base = one.metric == SHOWN[-1] and one.language != record["replay_language"]
        if one.metric in SHOWN and not only_base:
            values = [
                value_of(one.rows[subject]) if subject in one.rows else "" for subject in SUBJECTS
            ]
            table.add_row(
                _label(one), one.language, *values, change(one.before, one.last, one.difference)
            )
    return table


def _label(one: MetricChange) -> str:
    """Return the metric with its unit, unless the name or the values show it."""
    return (
        one.metric if " per " in one.metric or one.unit == "share" else f"{one.metric} ({one.unit})"
    )


def warning_lines(folder: Path) -> list[str]:
    """Return the warnings of a finished run or extension, one line each, as they stand above its final table."""
    return [f"warning: {warning}" for warning in read_record(folder).get(WARNINGS, ())]


def pretokenizer_line(folder: Path) -> str:
    """Return what became of the pre-tokenizer in one line, from the folder that holds pretokenizer.json."""
    path = folder / PRETOKENIZER
    return str(json.loads(path.read_text(encoding="utf-8"))["summary"]) if path.is_file() else ""


def claims_table(certificate: Path) -> Table:
    """Return the claims of a certificate: the promise, its exceptions, and whether it holds."""
    table = Table(title="certificate", title_justify="left", pad_edge=False, box=None)
    for heading in ("claim", "exceptions", "holds"):
        table.add_column(heading, justify="right" if heading == "exceptions" else "left")
    for claim in json.loads(certificate.read_text(encoding="utf-8"))["claims"]:
        exceptions = f"{number(claim['value'])} of {number(claim['of'])} {claim['unit']}"
        table.add_row(claim["name"], exceptions, _verdict(claim))
    return table


def _verdict(claim: dict[str, Any]) -> str:
    """Return whether a claim holds; certificates of earlier versions call 0 of 0 held."""
    if not claim["of"]:
        return "not checked"
    if claim["holds"]:
        return "yes"
    return "no" if claim["fatal"] else "for information"


def summary(run: Run) -> dict[str, Any]:
    """Return what a program wants to know of a finished run, as plain JSON."""
    record = run.record
    path = run.folder / PRETOKENIZER
    pretokenizer = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return {
        "run": str(run.folder),
        "model": str(run.model),
        "report": str(run.report),
        "pretokenizer": pretokenizer,
        "stages": record["stages"],
        "warnings": record["warnings"],
        "measurements": [asdict(row) for row in run.measurements()],
    }
