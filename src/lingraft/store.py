"""The store: every answer lies at the address of its question, whole or not at all.

A `Stage` is a question: a name, a version of the code that answers it, settings, and the keys of the answers that it
builds on. The hash of these four is its key. `Store.answer` returns the folder of the answer and makes it where it is
not there: into a draft folder, manifest last, then one rename. A lock that falls with its process keeps others from
making it meanwhile. The manifest holds checksums; an answer that does not match them is named, and made again. A stage
that is long can keep its progress in `Store.workplace`, which outlives a killed process and is removed when the answer
is whole. Execution details (device, workers, paths) never enter a key.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.digests import digest, file_digest
from lingraft.errors import StoreError
from lingraft.locks import alone, alone_now
from lingraft.manifest import MANIFEST, Manifest, answer_damage, checksums
from lingraft.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WARNINGS", "DiskError", "Draft", "Manifest", "Stage", "Store", "apply_umask", "digest", "file_digest",
           "place", "room_on_disk", "write_whole"]

WARNINGS = "warnings"
"""The note that holds the warnings of a stage."""


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


class Draft:
    """A stage output in the making: a folder to write into, and notes for the manifest (plain JSON).

    A stage warns with `warn`, and with nothing else. One call has four effects: the line goes to standard error at
    once (from one process only, see `is_first`), the manifest keeps it under the note `warnings`, a later run that
    takes this output from the store prints it again, and the run collects it: above the final table, in run.json,
    first in the report, in the model card. A function that has no draft returns its warnings in its notes, as a list
    under `warnings`, and the stage calls `note` with them.

    A warning is one line, `WHERE: what is wrong; what to do`, without a full stop at its end:

    >>> draft = Draft(Path("vocabulary"))
    >>> draft.warn("vocabulary: 4,860 of 50,000 tokens were added; give more text")
    >>> draft.notes
    {'warnings': ['vocabulary: 4,860 of 50,000 tokens were added; give more text']}
    """

    def __init__(self, folder: Path, *, is_first: bool = True) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = {}
        self.is_first = is_first

    def warn(self, warning: str) -> None:
        """Print a warning now and keep it; the same warning twice is kept once."""
        kept: list[str] = self.notes.setdefault(WARNINGS, [])
        if warning not in kept:
            kept.append(warning)
            if self.is_first:
                say(f"warning: {warning}")

    def note(self, notes: Mapping[str, Any]) -> None:
        """Add notes; those under `warnings`, a list, are warned of."""
        for warning in notes.get(WARNINGS, ()):
            self.warn(warning)
        self.notes |= {name: value for name, value in notes.items() if name != WARNINGS}

    def path(self, name: str) -> Path:
        """Return the path of a file of the answer, its parent folder made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Store:
    """A folder of answers.

    Each object looks at an answer once, and again when size, time or inode of a file of it changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole: dict[str, list[tuple[int, int, int]]] = {}

    def folder(self, stage: Stage) -> Path:
        """Return where the answer lies or would lie."""
        return self.root / "answers" / _name(stage)

    def has(self, stage: Stage) -> bool:
        """Say whether a whole answer is there: a manifest, and every file as it was when it was written."""
        return (self.folder(stage) / MANIFEST).exists() and not self._damage(stage)

    def _damage(self, stage: Stage) -> str:
        folder = self.folder(stage)
        state = _state(folder)
        if self._whole.get(stage.key) == state:
            return ""
        found = answer_damage(folder)
        if not found:
            self._whole[stage.key] = state
        return found

    def workplace(self, stage: Stage) -> Path:
        """Return a folder for the progress of a long stage; it outlives a killed process."""
        folder = self.root / "work" / _name(stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def trunks(self, stage: Stage) -> Path:
        """Return where answers of a stage with these inputs, whatever its settings, leave what others go on from."""
        return self.root / "trunks" / f"{stage.name}-{digest([stage.version, dict(stage.inputs)])[:20]}"

    def answer(self, stage: Stage, make: Callable[[Draft], None]) -> Path:
        """Return the folder of the answer, made by `make` where it is not there, or not whole any more.

        Where another process is making it, this one waits and takes it; if that one dies, this one makes it. Raises
        `StoreError` where the disk has no room or denies access; then nothing half-written is left behind.
        """
        self._sweep()
        if self.has(stage):
            return self.folder(stage)
        waiting = partial(say, f"another process is making {stage.name}; waiting for it")
        with room_on_disk(self.root, stage.name), alone(self._lock(_name(stage)), waiting) as held:
            if held:
                self._remove_drafts(_name(stage))  # of a process that was killed while we waited for it
            if not self.has(stage):  # the process that we waited for may have made it
                self._make(stage, make)
        return self.folder(stage)

    def _make(self, stage: Stage, make: Callable[[Draft], None]) -> None:
        broken = self._damage(stage) if self.folder(stage).exists() else ""
        if broken:
            say(f"{broken}; making {stage.name} again")
        draft = Draft(self.root / "drafts" / f"{_name(stage)}-{uuid.uuid4().hex[:8]}")
        draft.folder.mkdir(parents=True)
        try:
            started = time.monotonic()
            make(draft)
            self._publish(stage, draft, time.monotonic() - started)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)
        shutil.rmtree(self.root / "work" / _name(stage), ignore_errors=True)

    def _publish(self, stage: Stage, draft: Draft, seconds: float) -> None:
        target = self.folder(stage)
        apply_umask(draft.folder)
        files = checksums(draft.folder)
        if target.exists():
            _check_sources(target, draft.folder, files)
        question = {"version": stage.version, "settings": stage.settings, "inputs": dict(stage.inputs)}
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        Manifest(stage.name, stage.key, question, files, draft.notes, round(seconds, 3), created).write(draft.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not self.has(stage):  # a whole answer takes its place
            target.replace(self.root / "drafts" / f"{_name(stage)}-broken{uuid.uuid4().hex[:8]}")
        with suppress(OSError):  # os.replace onto a non-empty folder fails: another process was first, ours is dropped
            draft.folder.replace(target)
        if not self.has(stage):
            msg = f"{target}: could not be put in place; check that {self.root} is writable"
            raise StoreError(msg)
        for broken in (self.root / "drafts").glob(f"{_name(stage)}-broken*"):
            shutil.rmtree(broken, ignore_errors=True)

    def _lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    def _sweep(self) -> None:
        """Remove what killed processes left: locks, drafts, and the progress of stages that are answered."""
        left = {path.name.removesuffix(".lock") for path in (self.root / "locks").glob("*.lock")}
        left |= {path.name.rpartition("-")[0] for path in (self.root / "drafts").glob("*")}
        left |= {path.name for path in (self.root / "work").glob("*") if (self.root / "answers" / path.name).exists()}
        with suppress(OSError):
            for name in left:
                with alone_now(self._lock(name)) as held:
                    if held:
                        self._clear(name)

    def _clear(self, name: str) -> None:
        self._remove_drafts(name)
        if not answer_damage(self.root / "answers" / name):
            shutil.rmtree(self.root / "work" / name, ignore_errors=True)

    def _remove_drafts(self, name: str) -> None:
        for folder in (self.root / "drafts").glob(f"{name}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _name(stage: Stage) -> str:
    return f"{stage.name}-{stage.key}"


def _state(folder: Path) -> list[tuple[int, int, int]]:
    """Return what tells at a glance whether any file of an answer was written since."""
    states = [path.stat() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(state.st_size, state.st_mtime_ns, state.st_ino) for state in states]


def _check_sources(before: Path, draft: Path, files: Mapping[str, tuple[int, str]]) -> None:
    """Raise `StoreError` where an answer made again links to a file that is not what it was the first time."""
    try:
        known = Manifest.read(before).files
    except StoreError:
        return
    for name, found in files.items():
        if (draft / name).is_symlink() and name in known and known[name] != found:
            msg = (f"{(draft / name).resolve()}: is not what it was when it was first read (another checksum), though "
                   "its size and time say so; fetch it again, or touch it to have it taken as another file")
            raise StoreError(msg)


class DiskError(StoreError):
    """A disk that is full, read-only or forbidden."""


@contextmanager
def room_on_disk(where: Path, doing: str = "", *, option: str = "--store") -> Iterator[None]:
    """Turn the errors of a full, read-only or forbidden disk into a `DiskError` that names path, stage and way out.

    `option` is what a user names another place with, empty where there is none.
    """
    elsewhere = f", or name another place with {option}" if option else ""
    during = f"{doing}: " if doing else ""
    try:
        yield
    except DiskError as error:
        msg = f"{during}{error}"
        raise DiskError(msg) from error
    except OSError as error:
        place = error.filename2 or error.filename or where  # of a copy, the second is the one that is written
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            free = shutil.disk_usage(_existing(where)).free / 2**20
            reason = "the limit of its file system, or `ulimit -f`, is reached" if error.errno == errno.EFBIG else (
                f"{free:.0f} MiB free")
            msg = f"{during}{place}: no room on the disk ({reason}); free some{elsewhere}; what was finished is kept"
            raise DiskError(msg) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM} and error.filename:
            msg = f"{during}{place}: cannot be written ({error.strerror}); change its rights{elsewhere}"
            raise DiskError(msg) from error
        raise


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def apply_umask(folder: Path) -> None:
    """Give the files of a folder the mode that the process's umask says: safetensors makes its own with 0600.

    Links are left alone: what they lead to, or share, may be the user's own file.
    """
    probe = folder / f".{uuid.uuid4().hex}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1 and path.stat().st_mode != mode:
            path.chmod(mode)


def write_whole(files: Mapping[Path, str | bytes]) -> None:
    """Write files so that none is ever seen half written, and none is changed where the disk has no room for all.

    Raises `DiskError` where the disk is full or may not be written. A file that is a link into the store is replaced,
    not written through.
    """
    drafts = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}") for path in files}
    try:
        for path, content in files.items():
            with room_on_disk(path, option=""):
                drafts[path].parent.mkdir(parents=True, exist_ok=True)
                drafts[path].write_bytes(content.encode() if isinstance(content, str) else content)
        for path, draft in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


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
