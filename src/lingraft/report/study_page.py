"""The page of a study: its question, what the intervals answer, charts, every choice beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lingraft.formatting import flat, flops, with_interval
from lingraft.report.charts import Chart, chart_packages_missing, draw_svg, inlined
from lingraft.report.run_page import PAGE, environment, style, write_page
from lingraft.report.study_charts import study_charts
from lingraft.report.study_files import (
    ADDED,
    BASE_CHANGE,
    BITS,
    COST,
    FERTILITY,
    Group,
    Spread,
    StudyFiles,
    read_study_files,
    short,
)

COLUMNS = (
    ("tokens added", ADDED),
    ("tokens per word", FERTILITY),
    ("bits per byte", BITS),
    ("base language, change", BASE_CHANGE),
    ("training FLOPs", COST),
)


def write_study_report(folder: Path) -> Path:
    """Write report.html and charts/ into a study folder and return the page's path.

    One file that opens from disk, without the network and without scripts. Raises `StoreError` where the folder is no
    finished study.
    """
    study = read_study_files(folder)
    path = folder / PAGE
    drawn = None if chart_packages_missing(path) else study_charts(study)
    write_page(path, study_page(study, drawn), drawn)
    return path


def study_page(study: StudyFiles, drawn: Sequence[Chart] | None) -> str:
    """Return the HTML of a study's report; `drawn` is `None` where charts could not be drawn."""
    figures = [
        (chart, Markup(inlined(draw_svg(chart.declared), chart.name, chart.label)))  # noqa: S704 - only shapes
        for chart in drawn or ()
    ]
    record = study.record
    return (
        environment()
        .get_template("study_page.html.j2")
        .render(
            record=record,
            study=study,
            style=style(),
            figures=figures,
            undrawn=drawn is None,
            axes=[(axis, short(axis)) for axis in study.axes],
            question=record.get("question")
            or f"What do {', '.join(map(short, study.axes)) or 'seeds'} change?",
            answer=answer(record),
            columns=[name for name, _ in COLUMNS],
            choices=choices(study),
            differences=[row for row in study.differences if row["low"] is not None],
            failures=record["failures"],
            provenance=provenance(record),
        )
    )


def answer(record: Any) -> list[str]:
    """Return what the study answers: how much was done, then what the intervals carry on each axis, and no more."""
    done = sum(cell["status"] == "done" for cell in record["cells"])
    failed = len(record["cells"]) - done
    count = f"{done} of {len(record['cells'])}" if failed else f"All {done}"
    seeds = len(record["seeds"])
    opening = f"{count} cells were carried out, with {seeds} seed{'s' if seeds > 1 else ''}."
    if seeds == 1:
        opening += (
            " One seed carries no interval, so that most differences are told and none is claimed."
        )
    return [
        opening,
        *(f"{one['sentence'][0].upper()}{one['sentence'][1:]}." for one in record["rankings"]),
    ]


def choices(study: StudyFiles) -> list[tuple[Group, list[str]]]:
    """Return each choice with its numbers in words, the lowest bits per byte first."""

    def place(group: Group) -> tuple[bool, float]:
        found = group.get(BITS)
        return (found is None, found.value if found else 0.0)

    return [
        (group, [_cell(group.get(wanted), power=wanted == COST) for _, wanted in COLUMNS])
        for group in sorted(study.groups, key=place)
    ]


def _cell(found: Spread | None, *, power: bool) -> str:
    if found is None:
        return "–"
    return flops(found.value) if power else with_interval(found.value, found.low, found.high)


def provenance(record: Any) -> list[tuple[str, str]]:
    """Return where the study comes from: recipe, scale, dates, versions, stages made and shared."""
    stages = record.get("stages", {})
    counted = (
        f"{stages.get('asked', 0)} asked for, {stages.get('different', 0)} different ones, "
        f"{stages.get('built', 0)} made by the last call"
    )
    rows = [
        ("recipe", str(record["recipe"])),
        ("scale", str(record.get("scale") or "as written")),
        ("seeds", ", ".join(map(str, record["seeds"]))),
        ("started", record["started"]),
        ("finished", record["finished"]),
        ("workers", f"{record['workers']}, {record['executor']}"),
        ("stages", counted),
        ("key", record["key"]),
    ]
    return [
        *rows,
        *((f"{name} version", str(version)) for name, version in record["versions"].items()),
        *((f"setting {name}", value) for name, value in flat(record.get("settings") or {})),
    ]
