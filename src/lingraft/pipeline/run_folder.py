"""The run folder: what a finished run leaves for people and for `from_pretrained`, whole or not at all.

Its files are links to the answers in the store where the file system can link, so a run folder costs no second copy
of the model, and removing the store takes nothing away from it. run.json holds their checksums, so that a file which
was edited or damaged since is found when the run is asked for again.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.locks import alone, alone_now
from lingraft.manifest import checksums, damage
from lingraft.measurement import Measurement, read_measurements
from lingraft.progress import say
from lingraft.store import place, room_on_disk

RUN = "run.json"
FORMAT = 1
REWRITTEN = ("recipe.yaml", "model/README.md")
"""What people may edit or write again; everything else in a run folder is a result."""


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
    """Say whether a folder already holds the finished run with this key, its files as they were written."""
    return has_key(folder, key) and not run_damage(folder)


def has_key(folder: Path, key: str) -> bool:
    """Say whether a folder holds the finished run with this key, whatever became of its files."""
    try:
        return bool(read_record(folder).get("key") == key and (folder / "report.html").is_file())
    except StoreError:
        return False


def results(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and checksum of every result in (the draft of) a run folder."""
    return {name: found for name, found in checksums(folder).items() if name not in REWRITTEN}


def run_damage(folder: Path) -> str:
    """Return what is wrong with the first result of a run that is not what was written, nothing where all are."""
    return damage(folder, {name: (size, sha) for name, (size, sha) in read_record(folder).get("files", {}).items()})


@contextmanager
def whole_folder(target: Path, option: str = "--runs") -> Iterator[Path]:
    """Yield a draft folder that takes `target`'s place when the block ends well, and vanishes when it does not.

    An earlier run of the same name is replaced; a folder that is no run is never touched. Where another process is
    writing the same folder, this one waits for it. `option` is what a user names another place with.
    """
    if target.exists() and not (target / RUN).is_file() and any(target.iterdir()):
        msg = f"{target}: is there already and is no run of lingraft; choose another name with --name, or move it away"
        raise StoreError(msg)
    draft = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    waiting = partial(say, f"another process is writing {target}; waiting for it")
    with room_on_disk(target, option=option), alone(lock_of(target), waiting) as held:
        if held:
            remove_drafts(target)
        try:
            draft.mkdir(parents=True)
            yield draft
            _swap(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def lock_of(target: Path) -> Path:
    """Return the lock of whoever writes a folder."""
    return target.with_name(f".{target.name}.lock")


def sweep(target: Path) -> None:
    """Remove what processes that were killed while they wrote a folder left beside it."""
    with alone_now(lock_of(target)) as held:
        if held:
            remove_drafts(target)


def remove_drafts(target: Path) -> None:
    """Remove drafts of a folder; for who holds its lock."""
    ours = re.compile(re.escape(f".{target.name}-") + "[0-9a-f]{8}(-before)?")
    for folder in target.parent.glob(".*"):
        if ours.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


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
