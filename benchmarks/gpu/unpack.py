"""Unpacking on the compute node, with the standard library alone.

The packages are not importable yet.

Everything goes into one work folder: `site` (the wheels, and the metadata of lingraft itself),
`base` (the weights of the second pack, joined from its parts) and `store` (text that was tokenised
beforehand). Files are checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "MANIFEST.json"
MAIN = "main"
ENGLISH = "english-8m"
PREPARED = "prepared.tar.xz"
WEIGHTS = "weights.whl"
VECTORS = "focus-vectors.safetensors"
"""Next to the model's folder: in it, they would be taken for weights."""
WORDS = "tokens-per-word.json"
CHUNK = 1 << 20


class PackError(Exception):
    """A pack that is not whole, or not for this machine."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a part of the pack says of itself.

    Raises `PackError` where it is none, or not whole.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); copy the whole pack again, or run make gpu-pack"
        raise PackError(msg) from error
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file() or sha256([folder / name]) != digest:
            msg = f"{folder / name}: missing or damaged; copy {folder.name} again"
            raise PackError(msg)
    return manifest


def sha256(files: list[Path]) -> str:
    """Return the hash of several files one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def unpack_main(pack: Path, work: Path) -> Path:
    """Unpack the wheels into `work/site`, and return that folder."""
    manifest = read_manifest(pack / MAIN)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if manifest["python"] != here:
        msg = (
            f"{pack}: its wheels are for Python {manifest['python']}, and this is Python {here}; "
            f"make the pack with GPU_PYTHON_VERSION={here}, or name another Python with GPU_PYTHON"
        )
        raise PackError(msg)
    site = work / "site"
    shutil.rmtree(site, ignore_errors=True)
    for wheel in sorted((pack / MAIN / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            special = [name for name in archive.namelist() if ".data/" in name]
            if special:
                msg = f"{wheel.name}: puts {special[0]} elsewhere; it has to be installed with pip"
                raise PackError(msg)
            archive.extractall(site)
    _write_own_metadata(site)
    return site


def _write_own_metadata(site: Path) -> None:
    """Write the metadata of lingraft, whose code is imported from src.

    A run records its version.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = site / f"lingraft-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def unpack_second(pack: Path, work: Path) -> Path | None:
    """Join the parts of the weights and unpack the prepared text.

    Return the wheel, or `None` without a second pack.

    Parts may have been copied one after the other. Raises `PackError` where some are missing.
    """
    parts = sorted(pack.glob("base-*/*.part"))
    folders = [path.parent for path in pack.glob(f"base-*/{MANIFEST}")]
    if not parts and not folders:
        return None
    if not folders:
        msg = (
            f"{pack}: there are parts of weights, and no base-*/{MANIFEST}; copy the last part, too"
        )
        raise PackError(msg)
    manifest = read_manifest(folders[0])
    if [path.name for path in parts] != manifest["parts"] or sha256(parts) != manifest["weights"]:
        msg = (
            f"{pack}: the parts {', '.join(path.name for path in parts)} are not the whole of "
            f"{', '.join(manifest['parts'])}; copy base-1, base-2 and so on again"
        )
        raise PackError(msg)
    work.mkdir(parents=True, exist_ok=True)
    with (work / WEIGHTS).open("wb") as joined:
        for path in parts:
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined, CHUNK)
    with tarfile.open(folders[0] / PREPARED) as archive:
        archive.extractall(work / "store" / "answers", filter="data")
    return work / WEIGHTS
