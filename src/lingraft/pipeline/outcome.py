"""What came out, for people and for programs: the table of before and after, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.measurement import Measurement
from lingraft.pipeline.run_folder import Run, read_record
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.store import WARNINGS

SUBJECTS = ("source", "spliced", "adapted")
SHOWN = ("tokens per word", "bits per byte", "generation speed", "documents tokenised identically")
"""What the table of before and after holds; the report and measurements.csv hold everything."""


def before_after(run: Run) -> Table:
    """Return one line for each metric and language: the source, spliced and adapted value, and the change."""
    record = run.record
    table = Table(title=f"{record['name']}: {record['language']} grafted onto {record['source']}", title_justify="left",
                  pad_edge=False, box=None)
    for heading in ("metric", "language", *SUBJECTS, "change"):
        table.add_column(heading, justify="right" if heading in {*SUBJECTS, "change"} else "left")
    for (metric, language, unit), values in _grouped(run.measurements()).items():
        if metric not in SHOWN or (metric == SHOWN[-1] and language != record["replay_language"]):
            continue
        shown = [number(values[subject]) if subject in values else "" for subject in SUBJECTS]
        table.add_row(metric if " per " in metric else f"{metric} ({unit})", language, *shown, _change(metric, values))
    return table


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
        table.add_row(claim["name"], f"{claim['value']:,} of {claim['of']:,} {claim['unit']}", _verdict(claim))
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
    return {"run": str(run.folder), "model": str(run.model), "report": str(run.report), "pretokenizer": pretokenizer,
            "stages": record["stages"], "warnings": record["warnings"],
            "measurements": [asdict(row) for row in run.measurements()]}


def _grouped(rows: Sequence[Measurement]) -> dict[tuple[str, str, str], dict[str, float]]:
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        table.setdefault((row.metric, row.language, row.unit), {})[row.subject] = row.value
    return table


def number(value: float) -> str:
    """Return three digits, all of a large number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _change(metric: str, values: dict[str, float]) -> str:
    """Return how far the adapted value is from the source's: a factor where tokens fall, else a percentage."""
    before, after = values.get("source"), values.get("adapted", values.get("spliced"))
    if not before or not after:
        return ""
    if metric.startswith("tokens") and before / after >= 1.5:
        return f"{before / after:.2f} x fewer"
    if metric == "generation speed":
        return f"{after / before:.2f} x"
    return f"{(after - before) / before:+.1%}"
