"""The store: every answer lies at the address of its question, whole or not at all.

A `Stage` is a question: a name, a version of the code that answers it, settings, and the keys of the answers that it
builds on. The hash of these four is its key. `Store.answer` returns the folder of the answer and makes it where it is
not there: into a draft folder, manifest last, then one rename. Two processes may race: the loser discards its draft.
A stage that is long can keep its progress in `Store.workplace`, which outlives a killed process and is removed when
the answer is whole. Execution details (device, workers, paths) never enter a key.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Stage:
    """A question. `settings` and `inputs` (name -> key of what it builds on) are plain JSON."""

    name: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The address of the answer: 20 hexadecimal digits."""
        question = {"name": self.name, "version": self.version, "settings": self.settings, "inputs": self.inputs}
        return digest(question)[:20]


@dataclass(frozen=True)
class Manifest:
    """What an answer is made of: its question, its files with sizes and hashes, notes, and what making it took."""

    stage: str
    key: str
    question: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]
    notes: Mapping[str, Any]
    seconds: float
    created: str

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of an answer; raises `StoreError` where it is not whole."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["files"] = {name: (size, sha) for name, (size, sha) in data["files"].items()}
            return cls(**data)
        except (OSError, ValueError, TypeError, KeyError) as error:
            msg = f"{path}: not a manifest ({error}); remove the folder and run again"
            raise StoreError(msg) from error


class Draft:
    """An answer in the making: a folder to write into, and notes for the manifest (plain JSON)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """Return the path of a file of the answer, its parent folder made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Store:
    """A folder of answers."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: Stage) -> Path:
        """Return where the answer lies or would lie."""
        return self.root / "answers" / f"{stage.name}-{stage.key}"

    def has(self, stage: Stage) -> bool:
        """Say whether a whole answer is there: a manifest, and every file with the size that it names."""
        folder = self.folder(stage)
        if not (folder / MANIFEST).exists():
            return False
        files = Manifest.read(folder).files
        return all((folder / name).is_file() and (folder / name).stat().st_size == size
                   for name, (size, _) in files.items())

    def workplace(self, stage: Stage) -> Path:
        """Return a folder for the progress of a long stage; it outlives a killed process."""
        folder = self.root / "work" / f"{stage.name}-{stage.key}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def answer(self, stage: Stage, make: Callable[[Draft], None]) -> Path:
        """Return the folder of the answer, made by `make` where it is not there yet.

        Raises `StoreError` where the disk has no room or denies access; then nothing half-written is left behind.
        """
        if self.has(stage):
            return self.folder(stage)
        with room_on_disk(self.root):
            self._sweep()
            draft = Draft(self.root / "drafts" / f"{stage.name}-{stage.key}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
            draft.folder.mkdir(parents=True)
            try:
                started = time.monotonic()
                make(draft)
                self._publish(stage, draft, time.monotonic() - started)
            finally:
                shutil.rmtree(draft.folder, ignore_errors=True)
            shutil.rmtree(self.root / "work" / f"{stage.name}-{stage.key}", ignore_errors=True)
        return self.folder(stage)

    def _publish(self, stage: Stage, draft: Draft, seconds: float) -> None:
        files = {str(path.relative_to(draft.folder)): (path.stat().st_size, file_digest(path))
                 for path in sorted(draft.folder.rglob("*")) if path.is_file()}
        manifest = {
            "stage": stage.name,
            "key": stage.key,
            "question": {"version": stage.version, "settings": stage.settings, "inputs": dict(stage.inputs)},
            "files": files,
            "notes": draft.notes,
            "seconds": round(seconds, 3),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (draft.folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        target = self.folder(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not self.has(stage):  # cut short by a dying disk: a whole answer takes its place
            target.replace(self.root / "drafts" / f"broken-{uuid.uuid4().hex}")
        with suppress(OSError):  # os.replace onto a non-empty folder fails: another process was first, ours is dropped
            draft.folder.replace(target)
        if not self.has(stage):
            msg = f"{target}: could not be put in place; check that {self.root} is writable"
            raise StoreError(msg)

    def _sweep(self) -> None:
        """Remove drafts whose process is gone."""
        for folder in (self.root / "drafts").glob("*"):
            parts = folder.name.rsplit("-", 2)
            if parts[0] == "broken" or not _alive(parts[1]):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass
    return True


@contextmanager
def room_on_disk(where: Path) -> Iterator[None]:
    """Turn the errors of a full, read-only or forbidden disk into a `StoreError` that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            free = shutil.disk_usage(_existing(where)).free / 2**20
            msg = (f"{error.filename or where}: no room on the disk ({free:.0f} MiB free); free some, or name another "
                   f"place with --store; what was finished is kept")
            raise StoreError(msg) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM} and error.filename:
            msg = f"{error.filename}: cannot be written ({error.strerror}); name another place with --store"
            raise StoreError(msg) from error
        raise


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def place(source: Path, target: Path) -> None:
    """Put a copy of a stored file at `target`: a hard link where the file system can, whole or absent.

    >>> # place(store.folder(stage) / "model.safetensors", run / "model" / "model.safetensors")
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)
