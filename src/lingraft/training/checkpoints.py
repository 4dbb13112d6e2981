"""Progress on disk that a killed process leaves whole or not at all.

A checkpoint is a folder `step-00000120`: tensors.safetensors, and state.json with the hash of the tensors. Both are
written into a draft folder and flushed to the disk before one rename; the two last ones are kept, and an older one is
removed only when a newer one is in place. What does not match its hash is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.store import file_digest, room_on_disk

if TYPE_CHECKING:
    import torch

KEPT = 2
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: `state` is what was passed to `save_checkpoint`."""

    folder: Path
    state: Mapping[str, Any]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Read its tensors."""
        from safetensors.torch import load_file

        found: dict[str, torch.Tensor] = load_file(self.folder / TENSORS)
        return found


def save_checkpoint(workplace: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Save progress; raises `StoreError` where the disk is full, with the earlier checkpoints intact."""
    from safetensors.torch import save_file

    draft = workplace / f".draft-{uuid.uuid4().hex[:8]}"
    target = workplace / f"step-{step:08d}"
    with room_for_tensors(workplace):
        try:
            draft.mkdir(parents=True)
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, draft / TENSORS)
            content = {"step": step, "sha256": file_digest(draft / TENSORS), "state": state}
            (draft / STATE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
            for path in (draft / TENSORS, draft / STATE, draft):
                flush(path)
            if target.exists():
                shutil.rmtree(target)
            draft.replace(target)
            flush(workplace)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    for old in sorted(workplace.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest_checkpoint(workplace: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None; drafts and damaged ones are passed over."""
    for draft in workplace.glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)
    for folder in sorted(workplace.glob("step-*"), reverse=True):
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            if file_digest(folder / TENSORS) == content["sha256"]:
                return Checkpoint(folder, content["state"])
        except (OSError, ValueError, KeyError):
            continue
    return None


@contextmanager
def room_for_tensors(where: Path) -> Iterator[None]:
    """`room_on_disk` for writers of safetensors, whose errors are no OSErrors and name the number in their text."""
    from safetensors import SafetensorError

    with room_on_disk(where):
        try:
            yield
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(where)) from error


def flush(path: Path) -> None:
    """Have the operating system put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
