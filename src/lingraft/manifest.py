"""The manifest of a stored answer: what it was made of, and the checksums that show whether it is still that.

Files are hashed when the answer is published and again when it is taken. SHA-256 reads 1.6 GB/s on one core (one look),
less time than any stage takes; a file of `REREAD` bytes or more is read again only when its size, time or inode are
not those that were seen before. `lingraft doctor --verify` reads everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.digests import digest, forget, known_digest
from lingraft.errors import StoreError

MANIFEST = "manifest.json"
REREAD = 2**30


@dataclass(frozen=True)
class Manifest:
    """What an answer is made of: its question, its files with sizes and hashes, notes, and what making it took.

    `seal` is the hash of all the rest.
    """

    stage: str
    key: str
    question: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]
    notes: Mapping[str, Any]
    seconds: float
    created: str
    seal: str = ""

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of an answer; raises `StoreError` where it is not what was written."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["files"] = {name: (size, sha) for name, (size, sha) in data["files"].items()}
            manifest = cls(**data)
            if manifest.seal in {"", manifest.sealed().seal}:  # the first manifests had none
                return manifest
            reason = "its checksum is another"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = str(error)
        msg = f"{path}: not a manifest ({reason}); remove the folder and run again"
        raise StoreError(msg)

    def sealed(self) -> Manifest:
        """Return this manifest with its own checksum."""
        content = {name: value for name, value in asdict(self).items() if name != "seal"}
        written = json.loads(json.dumps(content))  # keys of notes may be numbers, which JSON reads back as text
        return replace(self, seal=digest(json.dumps(written, sort_keys=True)))

    def write(self, folder: Path) -> None:
        """Write the manifest of an answer, sealed."""
        text = json.dumps(asdict(self.sealed()), indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text, encoding="utf-8")


def checksums(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file in a folder by its name there."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, known_digest(path, large=REREAD))
            for path in sorted(folder.rglob("*")) if path.is_file()}


def damage(folder: Path, files: Mapping[str, tuple[int, str]], *, reread: int = REREAD) -> str:
    """Return what is wrong with the first file that is not what was written, nothing where all are.

    Sizes are looked at before anything is read. Files of fewer than `reread` bytes are read, larger ones where
    size, time and inode are not known.
    """
    for name, (size, _) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is gone"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes, not {size}"
    for name, (_, sha) in files.items():
        path = folder / name
        try:
            found = known_digest(path, large=reread)
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        if found != sha:
            forget(path)
            return f"{path} is not what was written (another checksum)"
    return ""


def answer_damage(folder: Path, *, reread: int = REREAD) -> str:
    """Return what is wrong with an answer, nothing where it is whole."""
    try:
        return damage(folder, Manifest.read(folder).files, reread=reread)
    except StoreError as error:
        return str(error).partition("; ")[0]
