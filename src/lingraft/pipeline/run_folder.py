"""The run folder: the results of a finished run; complete or absent.

Its files are hard links to stage outputs in the store, or copies if the file system has no hard
links. With links, the model takes disk space once, and the store can be deleted. run.json has the
checksums of the files: a file that was edited or damaged is found when the run is requested again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.progress import say
from lingraft.recipe.old_names import current_record
from lingraft.store import (
    atomic_folder,
    checksums,
    disk_errors,
    find_damage,
    link_or_copy,
    lock,
    remove_drafts,
    try_lock,
    write_json,
)

RUN = "run.json"
FORMAT = 1
ADAPT = "lingraft adapt"
"""The command that makes runs; the records of other commands name theirs under `made by`."""

EDITABLE = ("recipe.yaml", "model/README.md")
"""Files that users may edit; everything else in a run folder is a result."""

PAGES = ("report.html", "charts/*.svg", "charts/*.png")
"""What `lingraft report` writes into run folders and study folders, as patterns of file names."""

OF_COMPUTER = (".draft-*", ".DS_Store", "Thumbs.db")
"""Files that nobody would miss: drafts of killed processes, and what file managers leave."""

EVIDENCE = ("splice.json", "samples.json", "curve.json", PRETOKENIZER)
"""Files of the vocabulary stage that show how the tokens were chosen."""


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json with the new names; raises `StoreError` if a folder is not a finished run."""
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        msg = (
            f"{folder}: not a finished run (no readable {RUN}); create one with `lingraft "
            "adapt RECIPE`"
        )
        raise StoreError(msg)
    return current_record(record)


def read_run_record(folder: Path) -> dict[str, Any]:
    """Read run.json as `read_record` does, and refuse that of a command that makes no runs."""
    record = read_record(folder)
    if "recipe" not in record or "stages" not in record:
        made_by = record.get("made by", "an unknown program")
        msg = f"{folder}: made by `{made_by}`, not a run; name a folder that `lingraft adapt` wrote"
        raise StoreError(msg)
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json into a run folder or its draft."""
    write_json(folder / RUN, record)


def is_run(folder: Path, key: str) -> bool:
    """Say whether a folder is the finished run with this key and no file of it has changed."""
    return has_key(folder, key) and not run_damage(folder)


def has_key(folder: Path, key: str) -> bool:
    """Say whether a folder is the finished run with this key, even if files have changed."""
    try:
        return bool(read_record(folder).get("key") == key and (folder / "report.html").is_file())
    except StoreError:
        return False


def results(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and checksum of every result in a run folder or its draft."""
    return {name: state for name, state in checksums(folder).items() if name not in EDITABLE}


def run_damage(folder: Path) -> str:
    """Return what is wrong with the first result of a run that changed, "" if none did."""
    files = read_record(folder).get("files", {})
    return find_damage(folder, {name: (size, sha) for name, (size, sha) in files.items()})


@contextmanager
def new_run_folder(target: Path, option: str = "--runs", *, made_by: str = ADAPT) -> Iterator[Path]:
    """Yield a draft folder; it replaces `target` when the block ends without an error.

    If the block fails, the draft is removed. An earlier result of the same command, `made_by`, is
    replaced; for the result of another command, another folder, or one with files that lingraft did
    not write, `StoreError` is raised. If another process is writing the same folder, this one waits
    for it. `option` is the command-line option that chooses another location, for error messages.
    """
    _check_replaceable(target, option, made_by)
    waiting = partial(say, f"another process is writing {target}; waiting for it")
    with disk_errors(target, option=option), lock(lock_path(target), waiting) as held:
        # Without a lock, such a draft may belong to another process that is still running.
        if held:
            remove_drafts(target.parent, target.name)
        with atomic_folder(target) as draft:
            yield draft


def _check_replaceable(target: Path, option: str, made_by: str) -> None:
    """Raise `StoreError` if a folder holds anything but a result of the same command.

    Many programs write a run.json, and users put files into run folders: a GGUF file, notes.
    """
    choose = "name with --name" if option == "--runs" else f"folder with {option}"
    if target.resolve() == Path.cwd():
        msg = (
            f"{target}: this is the current working directory, and writing it would replace all "
            f"that is in it; choose another {choose}"
        )
        raise StoreError(msg)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    record: dict[str, Any] = {}
    problem = ""
    with suppress(StoreError):
        record = read_record(target)
    is_run = "recipe" in record and "stages" in record
    found = record.get("made by", ADAPT if is_run else None)
    if found is None:
        problem = "exists and is not a run of lingraft"
        if (target / RUN).is_file():
            problem += f" (its {RUN} is damaged, or not a record of lingraft)"
    elif found != made_by:
        problem = f"was made by `{found}`, which `{made_by}` does not replace"
    elif foreign := foreign_file_of_run(target):
        problem = f"holds {foreign}, which lingraft did not write"
    if problem:
        msg = f"{target}: {problem}; choose another {choose}, or move it away"
        raise StoreError(msg)


def foreign_file_of_run(folder: Path) -> str:
    """Return the name of the first file in a run folder that lingraft did not write, "" for none.

    Results of `extend` and `evaluate` that do not list their files count as written by it.
    """
    record: dict[str, Any] = {}
    with suppress(StoreError):
        record = read_record(folder)
    files = record.get("files")
    if not isinstance(files, dict) and "made by" in record:
        return ""
    return foreign_file(folder, [*(files or ()), RUN, *EDITABLE, *PAGES])


def foreign_file(folder: Path, written: Iterable[str]) -> str:
    """Return the name of the first file in a folder that lingraft did not write, "" for none.

    `written` are the names of files that it wrote, or patterns of names.
    """
    names = set(written)
    patterns = [name for name in names if "*" in name]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_dir() and not path.is_symlink()) or name in names:
            continue
        is_page = any(fnmatchcase(name, pattern) for pattern in patterns)
        parts = product(path.relative_to(folder).parts, OF_COMPUTER)
        if not is_page and not any(fnmatchcase(part, pattern) for part, pattern in parts):
            return name
    return ""


def lock_path(target: Path) -> Path:
    """Return the lock file for writing a folder."""
    return target.with_name(f".{target.name}.lock")


def remove_leftovers(target: Path) -> None:
    """Remove the drafts of a folder that killed processes left next to it."""
    with try_lock(lock_path(target)) as held:
        if held:
            remove_drafts(target.parent, target.name)


def link_files(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Link or copy stored files into a run (name in the stage output -> name in the run)."""
    for stored, name in names.items():
        link_or_copy(source / stored, target / name)


def link_same_names(source: Path, target: Path, names: Iterable[str]) -> None:
    """Link or copy stored files into a run, under the same names."""
    link_files(source, target, {name: name for name in names})


def link_task_results(source: Path, target: Path, model: str) -> None:
    """Link or copy the task results of a model into a run."""
    names = ("results.json", "samples.jsonl")
    link_files(source, target, {name: f"tasks/{model}/{name}" for name in names})


def copy_measurements(source: Path, target: Path) -> list[Measurement]:
    """Write the measurements of an evaluation into a run, as parquet and CSV; return them."""
    measurements = read_measurements(source / "measurements.parquet")
    for name in ("measurements.parquet", "measurements.csv"):
        write_measurements(measurements, target / name)
    return measurements


def model_files(folder: Path) -> dict[str, str]:
    """Return the files of a stored model folder, with their names in the run (model/...)."""
    names = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            names[name] = f"model/{name}"
    return names


def clock(moment: float) -> str:
    """Return a time as run.json and study.json write it: UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
