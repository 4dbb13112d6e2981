"""The page: everything of a run in its place in the template, escaped, and written whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lingraft import formatting
from lingraft.evaluation import forgetting
from lingraft.forecast.run_predictions import check_predictions
from lingraft.measurement import SUBJECTS, MetricChange, metric_changes
from lingraft.report import run_tables
from lingraft.report.charts import (
    Chart,
    chart_packages_missing,
    charts,
    draw_png,
    draw_svg,
    inlined,
    titled,
)
from lingraft.report.run_files import RunFiles, read_run
from lingraft.report.summary import answer, question
from lingraft.store import write_files

HERE = Path(__file__).parent
PAGE = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write report.html and charts/ into a run folder and return the page's path.

    The page is one file that opens from disk, without the network and without scripts. Without altair or vl-convert
    it has no charts and says so. Raises `StoreError` where the folder is no finished run.
    """
    run = read_run(run_folder)
    compared = [one for one in metric_changes(run.measurements) if not _says_nothing(one, run)]
    path = run_folder / PAGE
    drawn = None if chart_packages_missing(path) else charts(run, compared)
    write_page(path, page(run, compared, drawn), drawn)
    return path


def write_page(path: Path, text: str, drawn: Sequence[Chart] | None) -> None:
    """Write a page, and its charts as SVG and PNG on white, for papers and slides; all of them or none."""
    folder = path.parent / "charts"
    files: dict[Path, str | bytes] = {path: text}
    for chart in drawn or ():
        svg = draw_svg(chart.declared, background="white")
        files |= {
            folder / f"{chart.name}.svg": titled(svg, chart.label),
            folder / f"{chart.name}.png": draw_png(chart.declared),
        }
    write_files(files)
    left = [
        file for file in folder.glob("*.*") if file.suffix in {".svg", ".png"} and file not in files
    ]
    for file in left if drawn is not None else ():
        file.unlink()  # a chart of an earlier report, of which this run has no numbers


def page(run: RunFiles, compared: list[MetricChange], drawn: list[Chart] | None) -> str:
    """Return the HTML of a run's report; `drawn` is `None` where charts could not be drawn."""
    added = run.splice.added if run.splice else ()
    figures = [
        (chart, Markup(inlined(draw_svg(chart.declared), chart.name, chart.label)))  # noqa: S704 - only shapes
        for chart in drawn or ()
    ]
    headline, further = run_tables.split_headline(compared)
    return (
        environment()
        .get_template("run_page.html.j2")
        .render(
            headline=headline,
            further=further,
            run=run,
            record=run.record,
            style=style(),
            question=question(run),
            answer=answer(run, compared),
            forgotten=forgetting(run.measurements, run.base) if run.base else None,
            checked=check_predictions(run.folder),
            compared=compared,
            verdicts=run_tables.VERDICTS,
            subjects=_subjects(compared),
            figures=figures,
            undrawn=drawn is None,
            samples=run_tables.samples(run.samples or (), {token.id for token in added}),
            written=run_tables.written(run.generated or ()),
            frequent=run_tables.frequent(added),
            row_notes=run_tables.row_notes(run),
            stages=run_tables.stage_rows(run.record),
            drops=run_tables.drop_rows(run.record),
            warnings=run.record.get("warnings", []),
            provenance=list(run_tables.provenance(run)),
        )
    )


def _says_nothing(one: MetricChange, run: RunFiles) -> bool:
    """Target text is there to be cut otherwise: the share that is cut as before is no measure of it."""
    return (
        one.metric == "documents tokenised identically"
        and one.language in run.targets
        and one.language != run.base
    )


def _subjects(compared: list[MetricChange]) -> list[str]:
    found = {subject for one in compared for subject in one.rows}
    return [subject for subject in SUBJECTS if subject in found] + sorted(found - set(SUBJECTS))


def style() -> Markup:
    """Return the style sheet, which is ours and has nothing in it that would end its element."""
    return Markup((HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package


def environment() -> Environment:
    """Return the templates' environment: every value is made plain, then escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    made.filters |= {
        "number": formatting.number,
        "size": formatting.size,
        "percent": formatting.percent,
        "language": formatting.language_name,
        "tag": formatting.language_tag,
        "change": _change,
        "signed": formatting.signed,
        "signed_percent": formatting.signed_percent,
        "interval": formatting.interval_of,
        "shown": formatting.value_of,
    }
    return made


def _change(one: MetricChange) -> str:
    return formatting.change(one.before, one.last, one.difference)


def _finalized(value: Any) -> Any:
    """Make foreign text harmless; our own markup passes. Undefined values raise when they are escaped."""
    return (
        formatting.plain(value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )
