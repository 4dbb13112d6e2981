"""The study folder: the runs of the cells, the tables and study.json; complete or absent.

A study works in a scratch directory next to it, `.NAME.study`, which survives a killed process and
is renamed when the study is complete. The runs of an earlier study with the same name are linked
into it first, so that only missing runs are done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group

from lingraft.errors import StoreError
from lingraft.pipeline.run_folder import PAGES, foreign_file, foreign_file_of_run, lock_path
from lingraft.store import (
    atomic_folder,
    disk_errors,
    link_or_copy,
    lock,
    remove_drafts,
    replace_folder,
)
from lingraft.studies.result_tables import result_tables
from lingraft.studies.study_table import Row, read_table
from lingraft.table_display import as_html, as_text

if TYPE_CHECKING:
    import pandas as pd

STUDY = "study.json"
CELLS = "cells"
TABLE, CURVES, DIFFERENCES = "table.parquet", "curves.parquet", "differences.parquet"


@dataclass(frozen=True)
class StudyFolder:
    """A study that has ended; some of its cells may have failed.

    `print(study)` shows the tables of `lingraft study`.
    """

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of study.json."""
        return read_study_folder(self.folder)

    @property
    def name(self) -> str:
        """The name of the study."""
        return str(self.record["name"])

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    def cell(self, name: str) -> Path:
        """Return the run folder of a cell."""
        return self.folder / CELLS / name

    def table(self) -> list[Row]:
        """Return the measurements of all cells; `COLUMNS` of study_table describes the columns."""
        return read_table(self.folder / TABLE)

    def to_pandas(self) -> pd.DataFrame:
        """Return `table()` as a data frame; needs pandas."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / TABLE).to_pandas()

    def curves(self) -> list[Row]:
        """Return the held-out curves of all cells."""
        return read_table(self.folder / CURVES)

    def differences(self) -> list[Row]:
        """Return the differences between values of axes, with their intervals."""
        return read_table(self.folder / DIFFERENCES)

    def __str__(self) -> str:
        return as_text(Group(*result_tables(self.record)))

    def _repr_html_(self) -> str:
        """Return the tables that notebooks show."""
        return as_html(Group(*result_tables(self.record)))


def read_study_folder(folder: Path) -> dict[str, Any]:
    """Return the content of study.json; raises `StoreError` if a folder is not a finished study."""
    try:
        record = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    # What `run_study` writes always has its cells.
    if not isinstance(record, dict) or "cells" not in record:
        msg = (
            f"{folder}: not a finished study (no readable {STUDY}); create one with "
            "`lingraft study STUDY.yaml`"
        )
        raise StoreError(msg)
    return record


def scratch_dir_of(target: Path) -> Path:
    """Return the folder in which a study works until it is complete."""
    return target.with_name(f".{target.name}.study")


@contextmanager
def open_scratch_dir(target: Path, cells: Collection[str]) -> Iterator[Path]:
    """Yield the scratch directory of a study, with the runs of these cells that are finished.

    It replaces `target` when the block ends without an error. If the block fails, finished runs
    stay in the scratch directory for the next try. Raises `StoreError` if another process works on
    the same study, or if `target` is a folder that is not a study.
    """
    _check_replaceable(target, cells)
    scratch_dir = scratch_dir_of(target)
    with disk_errors(target, option="--runs"), lock(lock_path(target), partial(_busy, target)):
        (scratch_dir / CELLS).mkdir(parents=True, exist_ok=True)
        for name in sorted(cells):
            _link_run(target / CELLS / name, scratch_dir / CELLS / name)
        yield scratch_dir
        # Runs of cells that the study no longer has, and files of killed processes, are removed.
        for path in (scratch_dir / CELLS).iterdir():
            if path.is_file():
                path.unlink()
            elif path.name not in cells:
                shutil.rmtree(path, ignore_errors=True)
        remove_drafts(target.parent, target.name)
        replace_folder(scratch_dir, target)


def _check_replaceable(target: Path, cells: Collection[str]) -> None:
    """Raise `StoreError` if a folder is not a study, or has files that lingraft did not write.

    The runs of `cells` are linked into the new study with all of their files.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    problem = "exists and is not a study"
    with suppress(StoreError):
        read_study_folder(target)
        foreign = _foreign_file(target, cells)
        problem = f"holds {foreign}, which lingraft did not write" if foreign else ""
    if problem:
        msg = f"{target}: {problem}; choose another name with -o name=NAME, or move it away"
        raise StoreError(msg)


def _foreign_file(target: Path, cells: Collection[str]) -> str:
    for run in sorted((target / CELLS).glob("*")):
        found = foreign_file_of_run(run) if run.is_dir() and run.name not in cells else ""
        if found:
            return f"{CELLS}/{run.name}/{found}"
    tables = [str(Path(table).with_suffix(".*")) for table in (TABLE, CURVES, DIFFERENCES)]
    return foreign_file(target, [STUDY, *PAGES, *tables, f"{CELLS}/*"])


def _busy(target: Path) -> None:
    msg = (
        f"{target}: another process is working on this study; wait for it, or choose another -o "
        "name=NAME"
    )
    raise StoreError(msg)


def _link_run(source: Path, target: Path) -> None:
    if target.exists() or not source.is_dir():
        return
    with atomic_folder(target) as draft:
        # Linked, not moved: the earlier study stays complete until the new one replaces it.
        for file in source.rglob("*"):
            if file.is_file():
                link_or_copy(file, draft / file.relative_to(source))
