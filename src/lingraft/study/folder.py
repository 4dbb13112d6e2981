"""The study folder: the cells' runs, the tables and study.json, whole or not at all.

A study works in `.NAME.study` beside it, which outlives a killed process, and takes its place with one rename. The
runs of an earlier study of that name are linked into it first, so that only what is missing is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.store import place, room_on_disk
from lingraft.study.table import Row, read_table

STUDY = "study.json"
CELLS = "cells"
TABLE, CURVES, DIFFERENCES = "table.parquet", "curves.parquet", "differences.parquet"


@dataclass(frozen=True)
class StudyFolder:
    """A finished study."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The content of study.json."""
        return read_study_folder(self.folder)

    def cell(self, name: str) -> Path:
        """Return the run folder of a cell."""
        return self.folder / CELLS / name

    def table(self) -> list[Row]:
        """Return the tidy table."""
        return read_table(self.folder / TABLE)

    def curves(self) -> list[Row]:
        """Return the held-out curves of all cells."""
        return read_table(self.folder / CURVES)

    def differences(self) -> list[Row]:
        """Return the differences with their intervals."""
        return read_table(self.folder / DIFFERENCES)


def read_study_folder(folder: Path) -> dict[str, Any]:
    """Read study.json; raises `StoreError` where a folder is no finished study."""
    try:
        record: dict[str, Any] = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{folder}: not a finished study (no readable {STUDY}); a study is made by `lingraft study STUDY.yaml`"
        raise StoreError(msg) from error
    return record


def workplace_of(target: Path) -> Path:
    """Return where a study works before it is whole."""
    return target.with_name(f".{target.name}.study")


@contextmanager
def working_on(target: Path, cells: Collection[str]) -> Iterator[Path]:
    """Yield the workplace of a study, with the runs of these cells that an earlier one left; then put it in place.

    Raises `StoreError` where another process works on the same study, or a folder that is no study is in the way.
    What was done stays in the workplace when the block is left by an error.
    """
    if target.exists() and not (target / STUDY).is_file() and any(target.iterdir()):
        msg = f"{target}: is there already and is no study; choose another name with -o name=NAME, or move it away"
        raise StoreError(msg)
    workplace = workplace_of(target)
    with room_on_disk(target), _alone(target):
        (workplace / CELLS).mkdir(parents=True, exist_ok=True)
        for name in sorted(cells):
            _link_run(target / CELLS / name, workplace / CELLS / name)
        yield workplace
        for folder in (workplace / CELLS).iterdir():
            if folder.name not in cells:
                shutil.rmtree(folder, ignore_errors=True)
        _swap(workplace, target)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the study's lock, which falls with the process."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"{target}: another process is working on this study; wait for it, or choose another -o name=NAME"
            raise StoreError(msg) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _link_run(source: Path, target: Path) -> None:
    if target.exists() or not source.is_dir():
        return
    draft = target.with_name(f".{target.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    for file in source.rglob("*"):
        if file.is_file():
            place(file, draft / file.relative_to(source))
    draft.replace(target)


def _swap(draft: Path, target: Path) -> None:
    before = target.with_name(f".{target.name}-before-{uuid.uuid4().hex[:8]}")
    if target.exists():
        target.replace(before)
    draft.replace(target)
    shutil.rmtree(before, ignore_errors=True)
