"""The manifest of a stage output: what it was built from, and the checksums of its files.

Files are hashed when an output is stored and again when it is used. SHA-256 reads 1.6 GB/s on one
core, so this takes less time than any stage. A file of `TRUSTED_FROM` bytes or more is read again
only if its size, times or inode have changed since it was last hashed. `lingraft doctor --verify`
reads all files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.store.digests import cached_sha256, digest, invalidate

MANIFEST = "manifest.json"
TRUSTED_FROM = 2**30
"""Size in bytes from which a file is not read again if its size, times and inode are unchanged."""


@dataclass(frozen=True)
class Manifest:
    """The record of a stage output: the fields of its key, its files, notes and build time.

    `files` maps each name to size and SHA-256. `seal` is the hash of all other fields.
    """

    stage: str
    key: str
    key_fields: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]
    notes: Mapping[str, Any]
    seconds: float
    created: str
    seal: str = ""

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a stage output; raises `StoreError` if it was changed."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["files"] = {name: (size, sha) for name, (size, sha) in data["files"].items()}
            manifest = cls(key_fields=data.pop("question"), **data)
            # The first manifests had no seal.
            if manifest.seal in {"", manifest.sealed().seal}:
                return manifest
            reason = "checksum differs"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = str(error)
        msg = f"{path}: not a valid manifest ({reason}); remove the folder and run again"
        raise StoreError(msg)

    def sealed(self) -> Manifest:
        """Return this manifest with its own checksum."""
        content = {name: value for name, value in self.as_json().items() if name != "seal"}
        written = json.loads(json.dumps(content))  # JSON turns number keys of notes into text
        return replace(self, seal=digest(json.dumps(written, sort_keys=True)))

    def write(self, folder: Path) -> None:
        """Write the manifest of a stage output, with its seal."""
        text = json.dumps(self.sealed().as_json(), indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text, encoding="utf-8")

    def as_json(self) -> dict[str, Any]:
        """Return the fields under their names on disk; `key_fields` is called `question` there."""
        return {
            "question" if field.name == "key_fields" else field.name: getattr(self, field.name)
            for field in fields(self)
        }


def checksums(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file in a folder by its relative path."""
    states = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sha256 = cached_sha256(path, cached_from=TRUSTED_FROM)
            states[path.relative_to(folder).as_posix()] = path.stat().st_size, sha256
    return states


def find_damage(
    folder: Path, files: Mapping[str, tuple[int, str]], *, trusted_from: int = TRUSTED_FROM
) -> str:
    """Return what is wrong with the first file that changed since it was written, "" if none did.

    All sizes are compared before any file is read, because that is fast. Files of fewer than
    `trusted_from` bytes are read; larger ones only if their size, times or inode changed.
    """
    for name, (size, _) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes, expected {size}"
    for name, (_, sha) in files.items():
        path = folder / name
        try:
            current = cached_sha256(path, cached_from=trusted_from)
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        if current != sha:
            # The cached hash may be what is wrong: the next check reads the file.
            invalidate(path)
            return f"{path} changed since it was written (checksum differs)"
    return ""


def output_damage(folder: Path, *, trusted_from: int = TRUSTED_FROM) -> str:
    """Return what is wrong with a stage output, "" if it is complete and unchanged."""
    try:
        return find_damage(folder, Manifest.read(folder).files, trusted_from=trusted_from)
    except StoreError as error:
        return str(error).partition("; ")[0]
