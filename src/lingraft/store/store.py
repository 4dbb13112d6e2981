"""A content-addressed cache of stage outputs; writes are atomic.

The output of a stage is stored in a folder named after its key (`stage_key`). `Store.build` returns
that folder and builds it if it is missing: into a draft folder, manifest last, then one rename. A
lock, which the operating system frees when its process ends, keeps other processes from building
the same output. The manifest holds checksums; an output that does not match them is reported and
built again. A long stage keeps its progress in `Store.scratch_dir`, which survives a killed process
and is removed when the output is complete.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from lingraft.errors import StoreError
from lingraft.progress import say
from lingraft.store.digests import digest
from lingraft.store.disk_errors import disk_errors
from lingraft.store.files import atomic_folder
from lingraft.store.locks import lock, try_lock
from lingraft.store.manifest import MANIFEST, Manifest, checksums, output_damage
from lingraft.store.stage import Draft, Stage


class _BuiltElsewhereError(Exception):
    """Another process stored the same output first, on a file system without locks."""


class Store:
    """The folder of all stage outputs, with their locks, drafts and progress.

    A `Store` object verifies each output when it first uses it, and again if size, time or inode of
    one of its files has changed. Files of less than 1 GiB are read for this.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, list[tuple[int, int, int]]] = {}

    @property
    def outputs(self) -> Path:
        """The folder of all stage outputs; its name on disk keeps existing stores readable."""
        return self.root / "answers"

    def folder(self, stage: Stage) -> Path:
        """Return where the output of a stage is or would be."""
        return self.outputs / _name(stage)

    def has(self, stage: Stage) -> bool:
        """Say whether a complete output is stored: a manifest, and every file as it was written."""
        return (self.folder(stage) / MANIFEST).exists() and not self._damage(stage)

    def _damage(self, stage: Stage) -> str:
        folder = self.folder(stage)
        state = _state(folder)
        if self._verified.get(stage.key) == state:
            return ""
        damage = output_damage(folder)
        if not damage:
            self._verified[stage.key] = state
        return damage

    def scratch_dir(self, stage: Stage) -> Path:
        """Return a folder for the progress of a long stage; it survives a killed process."""
        folder = self.root / "work" / _name(stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def prefix_dir(self, stage: Stage) -> Path:
        """Return where stages with these inputs keep progress for stages with other settings.

        Its name on disk, `trunks`, is that of existing stores.
        """
        shared = digest([stage.version, dict(stage.inputs)])[:20]
        return self.root / "trunks" / f"{stage.name}-{shared}"

    def build(self, stage: Stage, make: Callable[[Draft], None]) -> Path:
        """Return the output folder of a stage; call `make` if it is missing or damaged.

        If another process is building it, wait for its output; if that process ends without one,
        build it here. Raises `StoreError` if the disk is full or denies access; nothing
        half-written is left.
        """
        self._remove_leftovers()
        if self.has(stage):
            return self.folder(stage)
        on_wait = partial(say, f"another process is building {stage.name}; waiting for it")
        name = _name(stage)
        with disk_errors(self.root, stage.name), lock(self._lock_path(name), on_wait) as held:
            if held:
                self._remove_drafts(name)  # of a process that was killed while this one waited
            if not self.has(stage):  # the process that this one waited for may have built it
                self._build(stage, make)
        return self.folder(stage)

    def _build(self, stage: Stage, make: Callable[[Draft], None]) -> None:
        target = self.folder(stage)
        if target.exists():
            say(f"{self._damage(stage)}; building {stage.name} again")
        draft_folder = self.root / "drafts" / f"{_name(stage)}-{uuid.uuid4().hex[:8]}"
        with suppress(_BuiltElsewhereError), atomic_folder(target, draft=draft_folder) as folder:
            draft, started = Draft(folder), time.monotonic()
            make(draft)
            self._write_manifest(stage, draft, time.monotonic() - started)
            # Without locks, two processes may build the same output: the first result is kept.
            if self.has(stage):
                raise _BuiltElsewhereError
        shutil.rmtree(self.root / "work" / _name(stage), ignore_errors=True)

    def _write_manifest(self, stage: Stage, draft: Draft, seconds: float) -> None:
        files = checksums(draft.folder)
        _check_links(self.folder(stage), draft.folder, files)
        key_fields = {
            "version": stage.version,
            "settings": stage.settings,
            "inputs": dict(stage.inputs),
        }
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        Manifest(
            stage.name, stage.key, key_fields, files, draft.notes, round(seconds, 3), created
        ).write(draft.folder)

    def _lock_path(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left: locks, drafts, and progress of finished stages."""
        names = {path.name.removesuffix(".lock") for path in (self.root / "locks").glob("*.lock")}
        names |= {path.name.rpartition("-")[0] for path in (self.root / "drafts").glob("*")}
        # Progress without an output is kept: the next run of that stage continues from it.
        scratch = {path.name for path in (self.root / "work").glob("*")}
        names |= {name for name in scratch if (self.outputs / name).exists()}
        # A store that is read-only, or on a full disk, can still be read.
        with suppress(OSError):
            for name in names:
                with try_lock(self._lock_path(name)) as held:
                    if held:
                        self._remove_drafts(name)
                        if not output_damage(self.outputs / name):
                            shutil.rmtree(self.root / "work" / name, ignore_errors=True)

    def _remove_drafts(self, name: str) -> None:
        for folder in (self.root / "drafts").glob(f"{name}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _name(stage: Stage) -> str:
    return f"{stage.name}-{stage.key}"


def _state(folder: Path) -> list[tuple[int, int, int]]:
    """Return sizes, times and inodes: what shows that a file changed without reading it."""
    states = [path.stat() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(state.st_size, state.st_mtime_ns, state.st_ino) for state in states]


def _check_links(stored: Path, draft: Path, files: Mapping[str, tuple[int, str]]) -> None:
    """Raise `StoreError` if a rebuilt output links to a file whose content changed unnoticed.

    The key of the stage says that the linked file is unchanged, so the manifest of the damaged
    output and the new checksum must agree.
    """
    try:
        known = Manifest.read(stored).files if stored.exists() else {}
    except StoreError:
        return
    for name, state in files.items():
        if (draft / name).is_symlink() and name in known and known[name] != state:
            msg = (
                f"{(draft / name).resolve()}: content changed but size and time did not; "
                "download it again, or `touch` it to use the new content"
            )
            raise StoreError(msg)
