"""Several runs side by side: one page with a table for each metric and language, a column for each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import StoreError
from lingraft.report.page import environment, style
from lingraft.report.reading import read_run
from lingraft.report.table import Comparison, comparisons, find
from lingraft.store import write_files


@dataclass(frozen=True)
class Compared:
    """A run with its name, base and language, and its table."""

    name: str
    source: str
    language: str
    table: Sequence[Comparison]

    def cell(self, metric: str, language: str) -> Comparison | None:
        """Return what the run says of a metric in a language."""
        return find(self.table, metric, language)


def compare_runs(runs: Sequence[Path], output: Path) -> Path:
    """Write one page that shows finished runs side by side, and return its path; raises `StoreError`."""
    if len(runs) < 2:
        msg = f"a comparison needs two runs or more, got {len(runs)}; for one run see its own report.html"
        raise StoreError(msg)
    read = [read_run(folder) for folder in runs]
    columns = [Compared(str(run.record["name"]), str(run.record["source"]), run.target,
                        comparisons(run.measurements)) for run in read]
    lines = list(dict.fromkeys((one.metric, one.language, one.unit) for column in columns for one in column.table))
    text = environment().get_template("comparison.html.j2").render(style=style(), columns=columns, lines=lines)
    write_files({output: text})
    return output
