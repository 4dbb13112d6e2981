"""Progress on disk that a killed process leaves whole or not at all.

A checkpoint is a folder `step-00000120`: tensors in safetensors (one file of one process, a file of each of several),
and state.json with the hashes of all its files. All is written into a draft folder and flushed to the disk before one
rename; the two last ones are kept, and an older one is removed only when a newer one is in place. What does not match
its hashes is passed over. torch's distributed checkpoint reads both kinds, into shards of any number of processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import TrainingError
from lingraft.store import file_digest, room_on_disk

if TYPE_CHECKING:
    import torch

KEPT = 2
SUFFIX, STATE = ".safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: `state` is what was passed to `save_checkpoint`."""

    folder: Path
    state: Mapping[str, Any]

    def read(self, into: Mapping[str, torch.Tensor]) -> None:
        """Read tensors into place: whole ones, or this process's shards of them."""
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict_loader import load

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is")  # each process reads by itself, wanted so
            load(dict(into), storage_reader=HuggingFaceStorageReader(str(self.folder)), no_dist=True)


def save_checkpoint(workplace: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Save progress; raises `StoreError` where the disk is full, with the earlier checkpoints intact."""
    from safetensors.torch import save_file

    with room_for_tensors(workplace), drafted(workplace, step) as draft:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, draft / f"tensors{SUFFIX}")
        return complete(workplace, step, draft, state)


@contextmanager
def drafted(workplace: Path, step: int) -> Iterator[Path]:
    """Make a draft folder for a checkpoint; what is left of it at the end is removed."""
    draft = workplace / f".draft-{step:08d}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def complete(workplace: Path, step: int, draft: Path, state: Mapping[str, Any]) -> Path:
    """Make a checkpoint of a draft that holds all its tensors, and remove old ones."""
    target = workplace / f"step-{step:08d}"
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
    content = {"step": step, "sha256": sums, "state": state}
    (draft / STATE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    for path in (*files, draft / STATE, draft):
        flush(path)
    if target.exists():
        shutil.rmtree(target)
    draft.replace(target)
    flush(workplace)
    for old in sorted(workplace.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest_checkpoint(workplace: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None; damaged ones are passed over."""
    return next(whole_checkpoints(workplace), None)


def whole_checkpoints(workplace: Path) -> Iterator[Checkpoint]:
    """Yield the whole checkpoints, the newest first."""
    for folder in sorted(workplace.glob("step-*"), reverse=True):
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            whole = content["sha256"] and all(file_digest(folder / name) == sha
                                              for name, sha in content["sha256"].items())
            state = content["state"]
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if whole:
            yield Checkpoint(folder, state)


def own_checkpoint(workplace: Path, fingerprint: str) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run; raises `TrainingError` where it is another run's."""
    checkpoint = latest_checkpoint(workplace)
    if checkpoint and checkpoint.state["fingerprint"] != fingerprint:
        msg = (f"{workplace}: holds the progress of another run (other plan, text, seed or model); remove it or name "
               f"another place")
        raise TrainingError(msg)
    return checkpoint


def remove_drafts(workplace: Path) -> None:
    """Remove what a killed process left half-written."""
    for draft in workplace.glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)


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
