"""The hash of a file, remembered for large ones: a 7B model takes half a minute to read, and every plan asks for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lingraft.progress import progress
from lingraft.store import digest, file_digest

LARGE = 64 * 2**20


def known_digest(path: Path) -> str:
    """Return a file's SHA-256; of a large file that has not changed (path, size, time, inode), the one seen before.

    It is remembered under XDG_CACHE_HOME, or ~/.cache; where that cannot be written, the file is read each time.
    """
    state = path.stat()
    if state.st_size < LARGE:
        return file_digest(path)
    seen = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino]
    note = _folder() / digest(seen)
    with suppress(OSError):
        return note.read_text(encoding="ascii")
    with progress(f"hashing {path.name}"):
        found = file_digest(path)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f".{note.name}-{os.getpid()}")
        draft.write_text(found, encoding="ascii")
        draft.replace(note)
    return found


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lingraft" / "digests"
