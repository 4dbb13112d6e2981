"""Errors of a disk that is full, read-only or not accessible, with what to do about them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.errors import LingraftError, StoreError

# EFBIG is a file size limit, of the file system or of `ulimit -f`: for users, the disk is full.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskError(StoreError):
    """The disk is full, read-only, or access is denied."""


@contextmanager
def disk_errors(path: Path, stage: str = "", *, option: str = "--store") -> Iterator[None]:
    """Turn errors of a full, read-only or forbidden disk into a `DiskError` that says what to do.

    Libraries in Rust (safetensors, tokenizers) raise errors of their own; these are recognised by
    their text. `path` is named if the error names no file. `option` is the command-line option that
    chooses another location, "" if there is none.
    """
    elsewhere = f" or choose another location with {option}" if option else ""
    prefix = f"{stage}: " if stage else ""
    try:
        yield
    except DiskError as error:
        msg = f"{prefix}{error}"
        raise DiskError(msg) from error
    except LingraftError:
        raise
    except Exception as error:
        failure = _as_os_error(error, path)
        if failure is None:
            raise
        # An error of a copy names two files: the second one is written.
        where = failure.filename2 or failure.filename or path
        if failure.errno in _FULL:
            reason = "file size limit of the file system or of `ulimit -f`"
            if failure.errno != errno.EFBIG:
                reason = f"{shutil.disk_usage(_existing(path)).free / 2**20:.0f} MiB free"
            msg = (
                f"{prefix}{where}: no space left on the disk ({reason}); "
                f"free some{elsewhere}; finished work is kept"
            )
            raise DiskError(msg) from error
        if failure.errno in {errno.EACCES, errno.EROFS, errno.EPERM} and failure.filename:
            if os.path.exists(where) and not os.access(where, os.R_OK):  # noqa: PTH110
                # An input: what is written is a new file, or one that can be read.
                msg = (
                    f"{prefix}{where}: cannot be read ({failure.strerror}); change its permissions"
                )
                raise DiskError(msg) from error
            msg = (
                f"{prefix}{where}: cannot be written ({failure.strerror}); "
                f"change its permissions{elsewhere}"
            )
            raise DiskError(msg) from error
        raise


def check_creatable(path: Path, *, option: str) -> None:
    """Raise `DiskError` if no file can be created where `path` will be, before work is done for it.

    `option` is the command-line option that chooses another location.
    """
    with disk_errors(path, option=option):
        if path.exists() and not path.is_file() and not path.is_dir():
            # A rename would put the file in the place of the device: /dev/null itself, for root.
            msg = f"{path}: is a device or a pipe, and a file would replace it; name another file"
            raise DiskError(msg)
        folder = _existing(path.absolute().parent)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except (FileNotFoundError, NotADirectoryError) as error:
            # /proc and other file systems of the kernel
            reason = "no file can be created there"
            raise PermissionError(errno.EACCES, reason, str(folder)) from error


def check_creatable_file(path: Path, *, option: str) -> None:
    """Raise `DiskError` as `check_creatable` does, and for a folder, which no file replaces."""
    if path.is_dir():
        msg = f"{option} {path}: is a folder; name a file"
        raise DiskError(msg)
    check_creatable(path, option=option)


def temporary_folder() -> Path:
    """Return the folder of temporary files; raises `DiskError` if none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # of Python, which has tried all usual folders
        msg = (
            "TMPDIR: no folder for temporary files can be written; free space in /tmp, or set "
            "TMPDIR to another folder"
        )
        raise DiskError(msg) from error


def _as_os_error(error: Exception, path: Path) -> OSError | None:
    """Return the operating system's error behind an error, None if there is none."""
    if isinstance(error, OSError):
        return error
    text = str(error)
    quoted = re.search(r"os error (\d+)", text)
    number = next((known for known in _FULL if os.strerror(known) in text), 0)
    number = int(quoted[1]) if quoted else number
    return OSError(number, os.strerror(number), str(path)) if number else None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
