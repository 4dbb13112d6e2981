"""Locks between processes: held on an open file, so that they fall with the process, however it ends.

No age and no process number is looked at: a clock may jump, and numbers are given out again. A lock file is removed by
whoever holds it; one that a killed process left behind is just a file that nobody holds. Where a file system cannot
lock, nothing is held: then two processes may do the same work twice, and the first one's stays.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNABLE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_held: set[int] = set()


def _let_go() -> None:
    """Close the locks that a forked child was born with: it would hold them when its parent is no more."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def alone(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Hold the lock at `path` while the block runs; `waiting` is called once where another process holds it.

    Yields whether it is held, which it is unless the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _take(path)
    if descriptor is None:
        waiting()
        while descriptor is None:
            descriptor = _take(path, blocking=True)
    with _holding(path, descriptor):
        yield descriptor >= 0


@contextmanager
def alone_now(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` where it is free this moment; say whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _take(path)
    except OSError:
        descriptor = None
    if descriptor is None or descriptor < 0:
        yield False
        return
    with _holding(path, descriptor):
        yield True


@contextmanager
def _holding(path: Path, descriptor: int) -> Iterator[None]:
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


def _take(path: Path, *, blocking: bool = False) -> int | None:
    """Return the descriptor that holds the lock, -1 where the file system has none, None where it was not got."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    taken = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = _is_at(descriptor, path)  # else its holder removed it while we waited: the next one is another file
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        path.unlink(missing_ok=True)
        return -1
    finally:
        if not taken:
            os.close(descriptor)
    return descriptor if taken else _take(path, blocking=blocking)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
