"""Patterns of file names on local disks.

`Path.glob` leaves out folders that cannot be read, and their text with them; here they are errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from lingraft.errors import CorpusError
from lingraft.store import is_folder, is_valid_path, path_exists

WILDCARDS = "*?["


def has_wildcards(text: str) -> bool:
    """Return whether a path or a part of it is a glob pattern."""
    return any(character in text for character in WILDCARDS)


def literal_folder(pattern: Path) -> Path:
    """Return the part of a pattern before its wildcards, all of a path without any.

    The name of a folder may have their characters, as in `data [2024]/*.txt`.
    """
    folder = Path()
    for part in pattern.parts:
        if has_wildcards(part) and not is_folder(folder / part):
            break
        folder /= part
    return folder


def matches_of(pattern: Path) -> Iterator[Path]:
    """Yield the matches of a pattern; `**` skips linked folders, wildcards skip hidden names.

    A pattern with a hidden name matches hidden names everywhere. Raises `CorpusError` for a folder
    that cannot be read: `Path.glob` would leave its text out.
    """
    literal = literal_folder(pattern)
    rest = pattern.parts[len(literal.parts) :]
    if not rest or not is_valid_path(pattern):
        return
    # `**` at the end matches the files in all folders.
    parts = (*rest, "*") if rest[-1] == "**" else rest
    allows_hidden = any(part.startswith(".") for part in rest)
    try:
        # A set: several `**` reach a file in several ways.
        for path in set(_expanded(literal, parts, allows_hidden=allows_hidden)):
            if is_file_or_broken_link(path):
                yield path
    except PermissionError as error:  # of a folder that can be listed, but not entered
        refuse_unreadable(error)


def _expanded(folder: Path, parts: Sequence[str], *, allows_hidden: bool) -> Iterator[Path]:
    """Yield the paths in a folder that the parts of a pattern match."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expanded(folder, rest, allows_hidden=allows_hidden)
        for path in _entries(folder, allows_hidden=allows_hidden):
            if path.is_dir() and not path.is_symlink():
                yield from _expanded(path, parts, allows_hidden=allows_hidden)
        return
    entries = [folder / part]
    if has_wildcards(part):
        entries = []
        for path in _entries(folder, allows_hidden=allows_hidden):
            if fnmatchcase(path.name, part):
                entries.append(path)
    for path in entries:
        if not rest:
            yield path
        elif path.is_dir():
            yield from _expanded(path, rest, allows_hidden=allows_hidden)


def _entries(folder: Path, *, allows_hidden: bool) -> list[Path]:
    """Return what is in a folder."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        refuse_unreadable(error)
    return [folder / name for name in names if allows_hidden or not name.startswith(".")]


def refuse_unreadable(error: OSError) -> NoReturn:
    """Raise `CorpusError` for a folder that cannot be read."""
    msg = (
        f"{error.filename}: the folder cannot be read ({error.strerror}), and it may have text; "
        "change its permissions, or name the files by a pattern that leaves it out"
    )
    raise CorpusError(msg) from error


def is_file_or_broken_link(path: Path) -> bool:
    """Return whether a path is a file, or a link to something that is not there."""
    return path.is_file() or (path.is_symlink() and not path_exists(path))
