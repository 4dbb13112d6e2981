"""Paths as users type them: the home folder, and names that no file system could hold."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Limits in bytes of a file name and of a path on Linux."""


def expanded(path: str | Path) -> Path:
    """Return a path or pattern with the home folder in place of `~`.

    `~NAME` where no user has this name is a name like others, as in a shell.

    >>> expanded("~/*.txt") == Path.home() / "*.txt", expanded("~nobody-of-this-name/*.txt")
    (True, PosixPath('~nobody-of-this-name/*.txt'))
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # an unknown user, a NUL
        return Path(path)


def path_exists(path: str | Path) -> bool:
    """Say whether a file or folder exists; False for a name that no file system could hold.

    >>> path_exists("."), path_exists("9" * 5000), path_exists("~nobody-of-this-name/x")
    (True, False, False)
    """
    try:
        return expanded(path).exists()
    except (OSError, ValueError):  # too long, a NUL
        return False


def is_folder(path: str | Path) -> bool:
    """Say whether a folder exists.

    >>> is_folder("."), is_folder("9" * 5000)
    (True, False)
    """
    return path_exists(path) and expanded(path).is_dir()


def is_valid_path(path: str | Path) -> bool:
    r"""Say whether a file of this name could exist: no NUL, no part and no path that is too long.

    >>> is_valid_path("a/b"), is_valid_path("9" * 5000), is_valid_path("a\0b")
    (True, False, False)
    """
    try:
        parts = [os.fsencode(part) for part in Path(path).parts]
    except ValueError:
        return False
    size = sum(map(len, parts)) + len(parts)
    return size <= LONGEST_PATH and not any(
        len(part) > LONGEST_NAME or b"\0" in part for part in parts
    )
