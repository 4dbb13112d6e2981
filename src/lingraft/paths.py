"""Paths as users write them: a name that no file system could hold is not there, which is no reason to fall over it."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that a file system and the system take."""


def is_there(path: str | Path) -> bool:
    r"""Say whether something is at a path.

    >>> is_there("."), is_there("9" * 5000), is_there("a\0b"), is_there("~nobody-of-this-name/x")
    (True, False, False, False)
    """
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a user that is not known
        return False


def is_folder(path: str | Path) -> bool:
    """Say whether a folder is at a path.

    >>> is_folder("."), is_folder("9" * 5000)
    (True, False)
    """
    return is_there(path) and Path(path).expanduser().is_dir()


def is_possible(path: str | Path) -> bool:
    r"""Say whether there could be something at a path.

    >>> is_possible("a/b"), is_possible("9" * 5000), is_possible("a\0b")
    (True, False, False)
    """
    try:
        parts = [os.fsencode(part) for part in Path(path).parts]
    except ValueError:
        return False
    whole = sum(map(len, parts)) + len(parts)
    return whole <= LONGEST_PATH and all(len(part) <= LONGEST_NAME and b"\0" not in part for part in parts)
