"""The run folder: what a finished run leaves for people and for `from_pretrained`, whole or not at all.

Its files are links to the answers in the store where the file system can link, so a run folder costs no second copy
of the model, and removing the store takes nothing away from it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.measurement import Measurement, read_measurements
from lingraft.store import place, room_on_disk

RUN = "run.json"
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A finished run.

    `model` loads with plain `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """The folder of the adapted model."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json: recipe, stages, versions, device, times."""
        return read_record(self.folder)

    def measurements(self) -> list[Measurement]:
        """Return every number that was measured."""
        return read_measurements(self.folder / "measurements.parquet")


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json; raises `StoreError` where a folder is no finished run."""
    try:
        record: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{folder}: not a finished run (no readable {RUN}); a run is made by `lingraft adapt RECIPE`"
        raise StoreError(msg) from error
    return record


def is_run(folder: Path, key: str) -> bool:
    """Say whether a folder already holds the finished run with this key."""
    try:
        return bool(read_record(folder).get("key") == key and (folder / "report.html").is_file())
    except StoreError:
        return False


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a draft folder that takes `target`'s place when the block ends well, and vanishes when it does not.

    An earlier run of the same name is replaced; a folder that is no run is never touched.
    """
    if target.exists() and not (target / RUN).is_file() and any(target.iterdir()):
        msg = f"{target}: is there already and is no run of lingraft; choose another name with --name, or move it away"
        raise StoreError(msg)
    draft = target.with_name(f".{target.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    with room_on_disk(target):
        try:
            draft.mkdir(parents=True)
            yield draft
            _swap(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, target: Path) -> None:
    before = draft.with_name(f"{draft.name}-before")
    if target.exists():
        target.replace(before)
    draft.replace(target)
    shutil.rmtree(before, ignore_errors=True)


def link_files(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Place stored files (name in the answer -> name in the run) without copying where links work."""
    for stored, shown in names.items():
        place((source / stored).resolve(), target / shown)


def model_files(folder: Path) -> dict[str, str]:
    """Return the files of a stored model folder, named as the run's model/ names them."""
    return {str(path.relative_to(folder)): f"model/{path.relative_to(folder)}"
            for path in sorted(folder.rglob("*")) if path.is_file()}
