"""Training checkpoints: write them atomically, and find the one to resume from.

A checkpoint is a folder such as `step-00000120`. It holds tensors in safetensors (one file per
process) and state.json, with the hashes of all other files and its own. The two newest are kept; an
older one is removed only after a newer one is complete. A checkpoint that does not match its hashes
is ignored. torch's distributed checkpoint reads the files into the shards of any number of
processes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed

from lingraft.errors import TrainingError
from lingraft.store import atomic_folder, digest, disk_errors, file_digest

# Two, so that a run can resume from the older one if the newest does not match its hashes.
KEPT = 2
SUFFIX, STATE = ".safetensors", "state.json"


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A checkpoint whose files match their hashes; `state` is what was saved with the tensors."""

    folder: Path
    state: Mapping[str, Any]

    def names(self) -> AbstractSet[str]:
        """Return the names of the stored tensors."""
        return HuggingFaceStorageReader(str(self.folder)).read_metadata().state_dict_metadata.keys()

    def read(self, into: Mapping[str, torch.Tensor]) -> None:
        """Read the tensors of these names in place: whole ones, or this process's shards."""
        with warnings.catch_warnings():
            # torch warns if there is no process group. Here each process reads its own shards only.
            warnings.filterwarnings("ignore", message="torch.distributed is")
            reader = HuggingFaceStorageReader(str(self.folder))
            load_distributed(dict(into), storage_reader=reader, no_dist=True)


def save_checkpoint(
    scratch_dir: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> Path:
    """Save a checkpoint of a single process; return its folder.

    Raises `StoreError` if the disk is full. Earlier checkpoints stay intact then.
    """
    stored = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with disk_errors(scratch_dir), new_checkpoint(scratch_dir, step, state) as draft:
        save_file(stored, draft / f"tensors{SUFFIX}")
    return scratch_dir / f"step-{step:08d}"


@contextmanager
def new_checkpoint(scratch_dir: Path, step: int, state: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder to write tensors to; it becomes a checkpoint at the end of the block.

    Then all others are removed, except for the one of the most steps.
    """
    target = scratch_dir / f"step-{step:08d}"
    with atomic_folder(target, draft=draft_folder(scratch_dir, step)) as draft:
        yield draft
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
        written = json.dumps({"step": step, "sha256": sums, "state": state}, allow_nan=False)
        content = {**json.loads(written), "seal": digest(json.loads(written))}
        (draft / STATE).write_text(json.dumps(content), encoding="utf-8")
    # Zero-padded step numbers sort by step, so the last names are the newest. The new one is not
    # among them where a shorter run stores its prefix after longer ones.
    others = [folder for folder in sorted(scratch_dir.glob("step-*")) if folder != target]
    for old in others[: 1 - KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def draft_folder(scratch_dir: Path, step: int) -> Path:
    """Return the folder in which a checkpoint is written.

    The name follows from the step, because all processes write to the same folder.
    """
    return scratch_dir / f".draft-step-{step:08d}"


def latest_checkpoint(scratch_dir: Path) -> TrainingCheckpoint | None:
    """Return the newest valid checkpoint, or None; damaged ones are skipped."""
    return next(valid_checkpoints(scratch_dir), None)


def valid_checkpoints(scratch_dir: Path) -> Iterator[TrainingCheckpoint]:
    """Yield the checkpoints whose files match their hashes, the newest first."""
    for folder in sorted(scratch_dir.glob("step-*"), reverse=True):
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            # The hash of state.json itself: a changed digit could resume at another place in the
            # text. Checkpoints of earlier versions have none.
            seal = content.pop("seal", None)
            sums, state = content["sha256"], content["state"]
            valid = seal in {None, digest(content)} and sums
            valid = valid and all(file_digest(folder / name) == sums[name] for name in sums)
        # What a missing or damaged state.json can cause. An older checkpoint may still be valid.
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue
        if valid:
            yield TrainingCheckpoint(folder, state)


def checkpoint_to_resume(scratch_dir: Path, fingerprint: str) -> TrainingCheckpoint | None:
    """Return the newest valid checkpoint, or None if there is none.

    Raises `TrainingError` if its fingerprint differs: its tensors would be loaded into another run.
    """
    checkpoint = latest_checkpoint(scratch_dir)
    if checkpoint and checkpoint.state["fingerprint"] != fingerprint:
        msg = (
            f"{scratch_dir}: holds the progress of another run (other plan, text, seed or "
            f"model); remove the folder, or name another one"
        )
        raise TrainingError(msg)
    return checkpoint
