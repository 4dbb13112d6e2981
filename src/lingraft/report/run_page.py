"""Renders the HTML report of a run from the files in its folder.

Every value passes through `plain` and HTML escaping. The page and its charts are written
atomically.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lingraft import display_text, formatting, measurement_text
from lingraft.evaluation import forgetting
from lingraft.forecast.prediction import check_predictions
from lingraft.measurement import SUBJECTS, MetricChange, metric_changes
from lingraft.page_style import page_style
from lingraft.pipeline.run_files import RunFiles, read_run
from lingraft.pipeline.run_summary import answer, question
from lingraft.report import run_tables
from lingraft.report.charts import Chart, chart_packages_missing
from lingraft.report.inlined_svg import inlined
from lingraft.report.run_charts import charts
from lingraft.report.token_boxes import tokenised_samples
from lingraft.store import write_files

HERE = Path(__file__).parent
PAGE = "report.html"
# Sentences and prompts on the page; the others are folded.
SHOWN_SAMPLES = 6


def write_report(run_folder: Path) -> Path:
    """Write report.html and charts/ into a run folder and return the page's path.

    The page is one file that opens from disk, without network or scripts. Without altair or
    vl-convert it has no charts and says so. Raises `StoreError` if the folder has no finished run.
    """
    run = read_run(run_folder)
    changes = metric_changes(run.measurements)
    compared = [change for change in changes if _is_informative(change, run)]
    path = run_folder / PAGE
    drawn = None if chart_packages_missing(path) else charts(run, compared)
    write_page(path, page(run, compared, drawn), drawn)
    return path


def write_page(path: Path, text: str, drawn: Sequence[Chart] | None) -> None:
    """Write a page, and its charts as SVG and PNG on white, for papers and slides, atomically."""
    folder = path.parent / "charts"
    files: dict[Path, str | bytes] = {path: text}
    for chart in drawn or ():
        files[folder / f"{chart.name}.svg"] = chart.on_white()
        files[folder / f"{chart.name}.png"] = chart.png()
    write_files(files)
    if drawn is None:
        return
    for file in folder.glob("*.*"):
        # Charts of an earlier report for which this run has no numbers.
        if file.suffix in {".svg", ".png"} and file not in files:
            file.unlink()


def page(run: RunFiles, compared: list[MetricChange], drawn: list[Chart] | None) -> str:
    """Return the HTML of a run's report; `drawn` is `None` if charts could not be drawn."""
    added = run.splice.added if run.splice else ()
    headline, others = run_tables.split_headline(compared)
    gains, positions = run_tables.split_context(compared)
    values = {
        "headline": headline,
        "gains": gains,
        "positions": positions,
        "nothing_to_lose": run_tables.nothing_to_lose(gains),
        "others": others,
        "run": run,
        "record": run.record,
        "style": page_style(),
        "question": question(run),
        "answer": answer(run, compared),
        "forgotten": forgetting(run.measurements, run.base) if run.base else None,
        "checked": check_predictions(run.folder),
        "compared": compared,
        "verdicts": run_tables.VERDICTS,
        "subjects": _subjects(compared),
        "figures": draw_figures(drawn or ()),
        "undrawn": drawn is None,
        "shown": SHOWN_SAMPLES,
        "samples": tokenised_samples(run.samples or (), {token.id for token in added}),
        "generated": run_tables.generated_texts(run.generated or ()),
        "frequent": run_tables.most_frequent(added),
        "row_notes": run_tables.row_notes(run),
        "stages": run_tables.stage_rows(run.record),
        "epochs": run_tables.epochs_sentence(run.record),
        "training_lines": run_tables.training_lines(run.record),
        "health": run_tables.health_tables(run.record),
        "changes": run_tables.change_rows(run.record),
        "drops": run_tables.drop_rows(run.record),
        "received": run_tables.received_findings(run.record),
        "warnings": run.record.get("warnings", []),
        "provenance": list(run_tables.provenance(run)),
    }
    return environment().get_template("run_page.html.j2").render(values)


def draw_figures(charts: Sequence[Chart]) -> list[tuple[Chart, Markup]]:
    """Draw charts as SVG elements for a page."""
    figures = []
    for chart in charts:
        svg = inlined(chart.svg, chart.name, chart.label)
        figures.append((chart, Markup(svg)))  # noqa: S704 - `inlined` keeps only shapes and text
    return figures


def _is_informative(entry: MetricChange, run: RunFiles) -> bool:
    """Return whether a metric says something about its language.

    Added tokens are meant to change how target text is tokenised, so the share of target documents
    that are tokenised as before is not a measure of quality.
    """
    is_target_only = entry.language in run.targets and entry.language != run.base
    return entry.metric != "documents tokenised identically" or not is_target_only


def _subjects(compared: list[MetricChange]) -> list[str]:
    measured: set[str] = set()
    for entry in compared:
        measured.update(entry.rows)
    # In the order of a run: source, spliced, adapted; others by name.
    known = [subject for subject in SUBJECTS if subject in measured]
    return known + sorted(measured - set(SUBJECTS))


def environment() -> Environment:
    """Return the Jinja environment: every value passes `plain`, then HTML escaping."""
    jinja = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_make_plain,
    )
    jinja.filters |= {
        "number": formatting.number,
        "size": formatting.size,
        "percent": formatting.percent,
        "language": display_text.language_name,
        "tag": display_text.language_tag,
        "change": _change,
        "signed": formatting.signed,
        "signed_percent": formatting.signed_percent,
        "interval": measurement_text.interval_of,
        "shown": measurement_text.value_of,
        "invisible_as_escapes": display_text.invisible_as_escapes,
    }
    return jinja


def _change(entry: MetricChange) -> str:
    return measurement_text.change(entry.before, entry.last, entry.difference)


def _make_plain(value: Any) -> Any:
    """Show control characters of text by their code point; our own markup stays as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return display_text.plain(value)
    return value
