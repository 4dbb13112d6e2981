"""Locks between processes, held on open files: the operating system frees them when a process ends.

The age of a lock file and the process id of its holder do not matter, because clocks jump and ids
are reused. The holder removes the file; a file that a killed process left is not locked. On a file
system without locks, `lock` yields False: two processes may then do the same work, and the first
result is kept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def lock(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Hold the lock at `path` while the block runs; call `on_wait` once if it is taken.

    Yields whether the lock is held: True unless the file system has no locks.
    """
    file = _lock_file(path)
    try:
        try:
            file.acquire(blocking=False)
        except Timeout:
            # filelock takes the error for a lock that was just released, and would wait for ever.
            with _errors_of_unwritable(path):
                path.touch()
            on_wait()
            file.acquire()
    except OSError as error:
        if not _without_locks(error, path):
            raise
        yield False
        return
    with _released_at_end(file, path):
        yield True


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` if it is free now; yields whether it is held."""
    file = _lock_file(path)
    try:
        file.acquire(blocking=False)
    except OSError as error:  # a Timeout, if it is taken, is an OSError too
        _without_locks(error, path)
        yield False
        return
    with _released_at_end(file, path):
        yield True


@contextmanager
def _errors_of_unwritable(path: Path) -> Iterator[None]:
    """Raise `PermissionError` where no file can be created, which /proc calls a missing file."""
    try:
        yield
    except FileNotFoundError as error:
        raise PermissionError(errno.EACCES, "no file can be created there", str(path)) from error


def _without_locks(error: OSError, path: Path) -> bool:
    """Return whether the file system has no locks; remove the file that was made to find out."""
    if error.errno not in _UNSUPPORTED:
        return False
    path.unlink(missing_ok=True)
    return True


def _lock_file(path: Path) -> FileLock:
    with _errors_of_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # The lock may be released by another thread than the one that took it (a generator's end).
    # A soft lock is only a file that exists: a killed process would leave it locked.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def _released_at_end(file: FileLock, path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        # Removed while it is held, so that no other process's lock is removed. On Windows, an open
        # file cannot be removed, and filelock removes it after the release.
        if os.name == "posix":
            path.unlink(missing_ok=True)
        file.release()
