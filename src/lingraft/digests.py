"""Hashes: of JSON values, of files, and of large files remembered: a 7B model takes half a minute to read."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from lingraft.progress import progress

LARGE = 64 * 2**20


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path, *, large: int = LARGE) -> str:
    """Return a file's SHA-256; of a large file that has not changed (size, time, inode), the one seen before.

    It is remembered under XDG_CACHE_HOME, or ~/.cache; where that cannot be written, the file is read each time.
    """
    if path.stat().st_size < large:
        return file_digest(path)
    with suppress(OSError, ValueError):
        known = _note(path).read_text(encoding="ascii")
        if len(known) == len(digest(None)):
            return known
    return remember(path)


def remember(path: Path) -> str:
    """Read a large file, and remember its SHA-256 for `known_digest`."""
    note = _note(path)
    with progress(f"hashing {path.name}"):
        found = file_digest(path)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f".{note.name}")  # whoever writes it writes the same; a kill leaves one, and no more
        draft.write_text(found, encoding="ascii")
        draft.replace(note)
    return found


def forget(path: Path) -> None:
    """Have a file read again the next time that its hash is asked for."""
    with suppress(OSError):
        _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    state = path.stat()
    seen = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns]
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lingraft" / "digests" / digest(seen)
