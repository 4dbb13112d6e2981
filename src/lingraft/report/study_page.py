"""Renders the HTML report of a study: its question, answer, charts, and a table of all choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.formatting import flatten, flops, percent, with_interval
from lingraft.measurement import MIN_DOCUMENTS, direction
from lingraft.page_style import page_style
from lingraft.report.charts import Chart, chart_packages_missing
from lingraft.report.note_words import note_name
from lingraft.report.run_page import PAGE, draw_figures, environment, write_page
from lingraft.report.study_charts import study_charts
from lingraft.report.study_files import Group, Spread, StudyFiles, read_study_files
from lingraft.report.study_names import short
from lingraft.report.study_numbers import (
    ADDED,
    BASE_CHANGE,
    BITS,
    COST,
    FERTILITY,
    SERVING,
    ValueKey,
)
from lingraft.studies.result_tables import measured_on, warning_lines
from lingraft.studies.text_needed import describe, describe_reached

KEYS = (ADDED, FERTILITY, BITS, BASE_CHANGE, SERVING, COST)
"""The numbers in the table of choices; `headings` are their names."""


def write_study_report(folder: Path) -> Path:
    """Write report.html and charts/ into a study folder and return the page's path.

    The page is one file that opens from disk, without network or scripts. Raises `StoreError` if
    the folder is not a finished study.
    """
    study = read_study_files(folder)
    path = folder / PAGE
    drawn = None if chart_packages_missing(path) else study_charts(study)
    write_page(path, study_page(study, drawn), drawn)
    return path


def study_page(study: StudyFiles, drawn: Sequence[Chart] | None) -> str:
    """Return the HTML of a study's report; `drawn` is `None` if charts could not be drawn."""
    record = study.record
    differences = [row for row in study.differences if row["low"] is not None]
    varied = ", ".join(map(short, study.axes)) or "seeds"
    values = {
        "record": record,
        "study": study,
        "style": page_style(),
        "figures": draw_figures(drawn or ()),
        "undrawn": drawn is None,
        "axes": list(zip(study.axes, map(short, study.axes), strict=True)),
        "question": record.get("question") or f"What do {varied} change?",
        "answer": answer(record),
        "columns": headings(study),
        "choices": choices(study),
        "related": relates_to_none(study),
        "differences": [{**row, "verdict": verdict(row)} for row in differences],
        "min_documents": MIN_DOCUMENTS,
        "has_equal": any(row.get("equal") for row in differences),
        "needed": [(row, describe(row)) for row in study.text_needed],
        "failures": record["failures"],
        "warnings": [line.removeprefix("warning: ") for line in warning_lines(record)],
        "provenance": provenance(record),
    }
    return environment().get_template("study_page.html.j2").render(values)


def answer(record: Any) -> list[str]:
    """Return the answer: how many cells finished, then the ranking on each axis.

    The study has ranked values only where the intervals separate them.
    """
    done = sum(cell["status"] == "done" for cell in record["cells"])
    failed = len(record["cells"]) - done
    count = f"{done} of {len(record['cells'])}" if failed else f"All {done}"
    seeds = len(record["seeds"])
    # With one seed there is no variation over seeds to compute an interval from.
    sentences = [f"{count} cells finished, with {measured_on(record)}."]
    if seeds == 1:
        sentences[0] += " With one seed most differences have no interval, so no order is claimed."
    for ranking in record["rankings"]:
        sentence = ranking["sentence"]
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return sentences


def verdict(row: Mapping[str, Any]) -> str:
    """Return which value is better and whether both are equal within the margin, or why neither is.

    >>> row = {"metric": "bits per byte", "low": 0.002, "high": 0.004, "better": "", "equal": None}
    >>> verdict({**row, "better": "mean"}), verdict({**row, "equal": 0.01})
    ('mean', 'equal (within 0.01)')
    >>> verdict({**row, "low": -0.1}), verdict(row), verdict({**row, "metric": "parameters"})
    ('no detectable difference', 'too few documents', 'neither direction is better')
    """
    found = [row["better"]] if row["better"] else []
    # Studies of earlier versions have no margin.
    if row.get("equal"):
        found.append(f"equal (within {row['equal']:g})")
    if found:
        return "; ".join(found)
    if row.get("withheld"):
        return str(row["withheld"])
    if not row["low"] * row["high"] > 0:  # nor is NaN
        return "no detectable difference"
    # Studies of earlier versions have neither split nor unit.
    if not direction(row["metric"], row.get("split", ""), row.get("unit", "")):
        return "neither direction is better"
    # Studies of earlier versions have no such column, and one reason for it.
    return "too few documents"


def headings(study: StudyFiles) -> list[str]:
    """Return the headings of the numbers in the table of choices."""
    names = {
        ADDED: "tokens added",
        FERTILITY: study.fertility_metric,
        BITS: "bits per byte",
        BASE_CHANGE: "base language, change",
        SERVING: "inference FLOPs per byte",
        COST: "training FLOPs",
    }
    more = ["text to equal quality", "compute to equal quality"] if relates_to_none(study) else []
    return [*(names[key] for key in KEYS), *more]


def relates_to_none(study: StudyFiles) -> bool:
    """Say whether a choice can be related to another one without added tokens."""
    return any(study.without_tokens(group) not in (None, group) for group in study.groups)


def choices(study: StudyFiles) -> list[tuple[Group, list[str]]]:
    """Return each choice with its formatted numbers, by language the lowest bits per byte first."""

    def order(group: Group) -> tuple[bool, float]:
        # Groups without the value, or which diverged, come last: False sorts before True.
        bits = group.get(BITS)
        is_number = bits is not None and math.isfinite(bits.value)
        return (not is_number, bits.value if bits and is_number else 0.0)

    lines, related = [], relates_to_none(study)
    for part in study.by_target.values():
        for group in sorted(part.groups, key=order):
            cells = [_cell(key, group.get(key)) for key in KEYS]
            lines.append((group, [*cells, *(equal_quality(part, group) if related else ())]))
    return lines


def equal_quality(study: StudyFiles, group: Group) -> list[str]:
    """Return the text and the training compute up to the result without added tokens.

    Both are shares of those without added tokens.
    """
    needed, cost = study.text_to_equal(group), study.relative_cost(group)
    if needed is None:
        return ["", ""]
    return [describe_reached(needed), describe_reached(needed, cost) if cost else "–"]


def _cell(key: ValueKey, spread: Spread | None) -> str:
    if spread is None:
        return "–"
    if key == SERVING:
        return f"{percent(spread.value)} of the base's"
    if key == COST:
        return flops(spread.value)
    return with_interval(spread.value, spread.low, spread.high)


def provenance(record: Any) -> list[tuple[str, str]]:
    """Return the provenance of the study: recipe, scale, dates, versions, stages."""
    stages = record.get("stages", {})
    counts = (
        f"{stages.get('asked', 0)} requested, {stages.get('different', 0)} of them different, "
        f"{stages.get('built', 0)} computed by the last call"
    )
    rows = [
        ("recipe", str(record["recipe"])),
        ("scale", str(record.get("scale") or "as written")),
        ("seeds", ", ".join(map(str, record["seeds"]))),
        ("started", record["started"]),
        ("finished", record["finished"]),
        ("workers", f"{record['workers']}, {record['executor']}"),
        ("stages", counts),
        ("key", record["key"]),
    ]
    for name, version in record["versions"].items():
        rows.append((f"{name} version", str(version)))
    for name, value in flatten(record.get("settings") or {}):
        rows.append((f"setting: {note_name(name.split('.'))}", value))
    return rows
