"""Locks between processes, held on open files: the operating system frees them when a process ends.

The age of a lock file and the process id of its holder do not matter, because clocks jump and ids
are reused. The holder removes the file; a file that a killed process left is not locked. On a file
system without locks, `lock` yields False: two processes may then do the same work, and the first
result is kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _close_inherited() -> None:
    """Close the locks that a forked child inherited.

    A lock on an open file lasts until its last descriptor is closed: the child would keep it after
    its parent has released it.
    """
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)


@contextmanager
def lock(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Hold the lock at `path` while the block runs; call `on_wait` once if it is taken.

    Yields whether the lock is held: True unless the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path)
    if descriptor is None:
        on_wait()
        while descriptor is None:
            descriptor = _acquire(path, blocking=True)
    with _released_at_end(path, descriptor):
        yield descriptor >= 0


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` if it is free now; yields whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _acquire(path)
    except OSError:
        descriptor = None
    if descriptor is None or descriptor < 0:
        yield False
        return
    with _released_at_end(path, descriptor):
        yield True


@contextmanager
def _released_at_end(path: Path, descriptor: int) -> Iterator[None]:
    if descriptor < 0:
        yield
        return
    _held.add(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, *, blocking: bool = False) -> int | None:
    """Return the descriptor that holds the lock.

    It is -1 if the file system has no locks, and None if another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    acquired = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        # If the holder removed the file while we waited, the next process locks a new one: retry.
        acquired = _is_open_at(descriptor, path)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        path.unlink(missing_ok=True)
        return -1
    finally:
        if not acquired:
            os.close(descriptor)
    return descriptor if acquired else _acquire(path, blocking=blocking)


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
