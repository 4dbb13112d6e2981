"""Writes the pages of finished runs and studies again, and one page that compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import StoreError
from lingraft.measurement import MetricChange, find_change, metric_changes
from lingraft.measurement_text import confidence_levels
from lingraft.model_card import write_card
from lingraft.page_style import page_style
from lingraft.pipeline.run_files import read_run
from lingraft.pipeline.run_folder import read_record
from lingraft.report.run_page import environment, write_report
from lingraft.report.study_page import write_study_report
from lingraft.store import write_files
from lingraft.studies.study_folder import STUDY

COMPARISON = "comparison.html"


def rebuild_pages(folders: Sequence[Path], output: Path | None = None) -> list[dict[str, Path]]:
    """Write the page of each run and study again, and for several runs a comparison.

    Returns the written files of each folder, then those of the comparison. Raises `StoreError` for
    a folder that is neither a run nor a study, before anything is written.
    """
    studies = [folder for folder in folders if (folder / STUDY).is_file()]
    runs = [folder for folder in folders if folder not in studies]
    for folder in runs:
        read_record(folder)
    if output is not None and len(runs) < 2:
        msg = f"--output {output}: a comparison needs two runs or more; got {len(runs)}"
        raise StoreError(msg)
    written = []
    for folder in folders:
        if folder in studies:
            written.append({"report": write_study_report(folder)})
        else:
            written.append({"report": write_report(folder), "card": write_card(folder)})
    if len(runs) > 1:
        written.append({"comparison": compare_runs(runs, output or runs[0].parent / COMPARISON)})
    return written


@dataclass(frozen=True)
class ComparedRun:
    """A column of the comparison: the names of a run and its models, and its measurements."""

    name: str
    source: str
    language: str
    table: Sequence[MetricChange]

    @property
    def level(self) -> str:
        """The level of its intervals, which another run may have set otherwise; "" for none."""
        shown = [entry.last for entry in self.table if entry.last]
        return confidence_levels(row.confidence for row in shown)

    def cell(self, metric: str, language: str) -> MetricChange | None:
        """Return the run's entry for a metric in a language."""
        return find_change(self.table, metric, language)


def compare_runs(runs: Sequence[Path], output: Path) -> Path:
    """Write one page that shows finished runs side by side; return its path.

    Raises `StoreError` for fewer than two runs.
    """
    if len(runs) < 2:
        msg = f"a comparison needs two runs or more, got {len(runs)}; use report.html of the run"
        raise StoreError(msg)
    columns = []
    lines: dict[tuple[str, str, str], None] = {}  # a dict as an ordered set
    for folder in runs:
        run = read_run(folder)
        table = metric_changes(run.measurements)
        name, source = str(run.record["name"]), str(run.record["source"])
        columns.append(ComparedRun(name, source, run.target, table))
        for entry in table:
            lines[entry.metric, entry.language, entry.unit] = None
    template = environment().get_template("comparison.html.j2")
    write_files({output: template.render(style=page_style(), columns=columns, lines=list(lines))})
    return output
