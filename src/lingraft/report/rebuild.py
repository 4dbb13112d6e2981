"""Rebuilding the pages of finished runs and studies from their files, and comparing runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import StoreError
from lingraft.measurement import MetricChange, find_change, metric_changes
from lingraft.model_card import write_card
from lingraft.pipeline.run_folder import read_record
from lingraft.report.run_files import read_run
from lingraft.report.run_page import environment, style, write_report
from lingraft.report.study_page import write_study_report
from lingraft.store import write_files
from lingraft.study.study_folder import STUDY

COMPARISON = "comparison.html"


def rebuild_pages(folders: Sequence[Path], output: Path | None = None) -> list[dict[str, Path]]:
    """Write the page of each run and study again, and for several runs one that compares them.

    Returns, for each folder and lastly for the comparison, what was written. Raises `StoreError` for a folder that is
    neither a run nor a study, before anything is written.
    """
    studies = [folder for folder in folders if (folder / STUDY).is_file()]
    runs = [folder for folder in folders if folder not in studies]
    for folder in runs:
        read_record(folder)
    if output is not None and len(runs) < 2:
        msg = f"--output {output}: is for the page that compares runs, which takes two runs or more; got {len(runs)}"
        raise StoreError(msg)
    written = [
        {"report": write_study_report(folder)}
        if folder in studies
        else {"report": write_report(folder), "card": write_card(folder)}
        for folder in folders
    ]
    if len(runs) > 1:
        written.append({"comparison": compare_runs(runs, output or runs[0].parent / COMPARISON)})
    return written


@dataclass(frozen=True)
class ComparedRun:
    """A run with its name, base and language, and its table."""

    name: str
    source: str
    language: str
    table: Sequence[MetricChange]

    def cell(self, metric: str, language: str) -> MetricChange | None:
        """Return what the run says of a metric in a language."""
        return find_change(self.table, metric, language)


def compare_runs(runs: Sequence[Path], output: Path) -> Path:
    """Write one page that shows finished runs side by side, and return its path; raises `StoreError`."""
    if len(runs) < 2:
        msg = f"a comparison needs two runs or more, got {len(runs)}; for one run see its own report.html"
        raise StoreError(msg)
    read = [read_run(folder) for folder in runs]
    columns = [
        ComparedRun(
            str(run.record["name"]),
            str(run.record["source"]),
            run.target,
            metric_changes(run.measurements),
        )
        for run in read
    ]
    lines = list(
        dict.fromkeys(
            (one.metric, one.language, one.unit) for column in columns for one in column.table
        )
    )
    text = (
        environment()
        .get_template("comparison.html.j2")
        .render(style=style(), columns=columns, lines=lines)
    )
    write_files({output: text})
    return output
