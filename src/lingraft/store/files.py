"""Files on disk: atomic writes and links.

A file or folder is written under a temporary name (`.draft-NAME-XXXXXXXX`) next to its target,
flushed to the disk and renamed. A reader sees either the previous content or the complete new one.
If the block that writes fails, the draft is removed; `remove_drafts` removes what killed processes
left. Linked files are not flushed and keep their mode: they are stored already, and may be the
user's own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lingraft.store.disk_errors import check_creatable, disk_errors


@contextmanager
def atomic_file(path: Path, *, option: str | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` when the block ends without an error.

    Its folder is created. A `path` that is a link is replaced, not written through. With `option`,
    disk errors are raised as `disk_errors` says; without it, they are left to the caller.
    """
    draft = _draft_of(path)
    if option is not None:
        check_creatable(path, option=option)
    with nullcontext() if option is None else disk_errors(path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.touch()
            mode = draft.stat().st_mode
            yield draft
            _finish(draft, mode)
            draft.replace(path)
            fsync(path.parent)
        finally:
            draft.unlink(missing_ok=True)


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Write plain JSON atomically, in UTF-8 and with a line break at its end."""
    with atomic_file(path) as draft:
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")


def write_files(files: Mapping[Path, str | bytes]) -> None:
    """Write files atomically; none is changed if the disk has no space for all of them.

    Raises `DiskError` if the disk is full or not writable.
    """
    with ExitStack() as drafts:  # files are replaced when all of them are written
        for path, content in files.items():
            draft = drafts.enter_context(atomic_file(path, option=""))
            draft.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(
    target: Path, *, draft: Path | None = None, option: str | None = None
) -> Iterator[Path]:
    """Yield a new folder to write to; it replaces `target` when the block ends without an error.

    `draft` is the temporary folder, on the same file system; by default it is next to `target`.
    Files get the mode that the umask says, because some libraries create theirs with 0600.
    `option`: as for `atomic_file`.
    """
    draft = draft or _draft_of(target)
    with nullcontext() if option is None else disk_errors(target, option=option):
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
            yield draft
            _finish_folder(draft)
            replace_folder(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Rename a folder to `target`, and remove the folder that was there before."""
    # Named like a draft in its folder: if the process is killed here, it is removed like one.
    previous = (
        _draft_of(target)
        if source.parent == target.parent
        else source.with_name(f"{target.name}-{_random()}")
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(previous)
    try:
        source.replace(target)
    except OSError:
        if previous.exists():
            previous.replace(target)
        raise
    fsync(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def remove_drafts(folder: Path, name: str | None = None) -> None:
    """Remove drafts that killed processes left in a folder: those of the target `name`, or all.

    The caller must hold the lock for writing there: the draft of a running process looks alike.
    """
    pattern = re.compile(rf"\.draft-{'.+' if name is None else re.escape(name)}-[0-9a-f]{{8}}")
    for path in folder.glob(".draft-*"):
        if pattern.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> bool:
    """Put a file at `target` atomically; return True if it is a hard link, False if a copy.

    Files are copied if the file system has no hard links.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source, draft = source.resolve(), _draft_of(target)
    try:
        os.link(source, draft)
    except OSError:
        with atomic_file(target) as copy:
            shutil.copyfile(source, copy)
        return False
    try:
        draft.replace(target)
    finally:
        # By POSIX, a rename does nothing if both names are links to the same file.
        draft.unlink(missing_ok=True)
    return True


def copy_matching(source: Path, output: Path, patterns: Iterable[str]) -> None:
    """Copy the files that match any of the patterns to the same relative path in another folder."""
    for pattern in patterns:
        for path in source.glob(pattern):
            if path.is_file():
                target = output / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def symlink_or_link(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to a file; a hard link or a copy where Windows forbids them."""
    try:
        target.symlink_to(source)
    except OSError:
        if os.name != "nt":
            raise
        link_or_copy(source, target)


def _draft_of(target: Path) -> Path:
    return target.with_name(f".draft-{target.name}-{_random()}")


def _random() -> str:
    return uuid.uuid4().hex[:8]


def _finish_folder(draft: Path) -> None:
    probe = draft / f".{_random()}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in draft.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            fsync(path)
        elif path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            _finish(path, mode)
    fsync(draft)


def _finish(file: Path, mode: int) -> None:
    if file.stat().st_mode != mode:
        file.chmod(mode)
    fsync(file)


def fsync(path: Path) -> None:
    """Make the operating system write a file or folder to the disk."""
    if os.name == "nt":
        # Windows flushes descriptors that may write, and has none for a folder.
        if path.is_dir():
            return
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders.
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP} or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
