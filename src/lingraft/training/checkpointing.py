"""Training checkpoints and whole models on disk; written atomically.

A checkpoint is a folder `step-00000120`: tensors in safetensors (one file per process), and
state.json with the hashes of all its files. The last two are kept; an older one is removed only
after a newer one is complete. A checkpoint that does not match its hashes is ignored. torch's
distributed checkpoint reads them into the shards of any number of processes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lingraft.checkpoint.safetensors_files import INDEX, Checkpoint
from lingraft.checkpoint.stored_names import stored_names
from lingraft.errors import TrainingError
from lingraft.model_code import code_files
from lingraft.store import atomic_file, atomic_folder, disk_errors, file_digest

# Two, so that a run can resume from the older one if the newest does not match its hashes.
KEPT = 2
SUFFIX, STATE = ".safetensors", "state.json"


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A complete checkpoint; `state` is what was passed to `save_checkpoint`."""

    folder: Path
    state: Mapping[str, Any]

    def read(self, into: Mapping[str, torch.Tensor]) -> None:
        """Read into these tensors: whole ones, or this process's shards."""
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict_loader import load

        with warnings.catch_warnings():
            # Each process reads by itself on purpose.
            warnings.filterwarnings("ignore", message="torch.distributed is")
            reader = HuggingFaceStorageReader(str(self.folder))
            load(dict(into), storage_reader=reader, no_dist=True)


def save_checkpoint(
    scratch_dir: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> Path:
    """Save progress; raises `StoreError` if the disk is full. Earlier checkpoints stay intact."""
    stored = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with disk_errors(scratch_dir), new_checkpoint(scratch_dir, step, state) as draft:
        save_file(stored, draft / f"tensors{SUFFIX}")
    return scratch_dir / f"step-{step:08d}"


@contextmanager
def new_checkpoint(scratch_dir: Path, step: int, state: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder to write tensors to; it becomes a checkpoint at the end of the block.

    Old checkpoints are removed then.
    """
    target = scratch_dir / f"step-{step:08d}"
    with atomic_folder(target, draft=draft_folder(scratch_dir, step)) as draft:
        yield draft
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        sums = {path.relative_to(draft).as_posix(): file_digest(path) for path in files}
        content = {"step": step, "sha256": sums, "state": state}
        (draft / STATE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    for old in sorted(scratch_dir.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def draft_folder(scratch_dir: Path, step: int) -> Path:
    """Return the temporary folder of a checkpoint, which every process can name."""
    return scratch_dir / f".draft-step-{step:08d}"


def latest_checkpoint(scratch_dir: Path) -> TrainingCheckpoint | None:
    """Return the newest valid checkpoint, or None; damaged ones are skipped."""
    return next(valid_checkpoints(scratch_dir), None)


def valid_checkpoints(scratch_dir: Path) -> Iterator[TrainingCheckpoint]:
    """Yield the checkpoints whose files match their hashes, the newest first."""
    for folder in sorted(scratch_dir.glob("step-*"), reverse=True):
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            sums = content["sha256"]
            valid = sums and all(file_digest(folder / name) == sum_ for name, sum_ in sums.items())
            state = content["state"]
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if valid:
            yield TrainingCheckpoint(folder, state)


def checkpoint_to_resume(scratch_dir: Path, fingerprint: str) -> TrainingCheckpoint | None:
    """Return the newest valid checkpoint; raises `TrainingError` where it is from another run."""
    checkpoint = latest_checkpoint(scratch_dir)
    if checkpoint and checkpoint.state["fingerprint"] != fingerprint:
        msg = (
            f"{scratch_dir}: holds the progress of another run (other plan, text, seed or "
            f"model); remove it, or name another folder"
        )
        raise TrainingError(msg)
    return checkpoint


LOW_RANK = "low-rank-{}.safetensors"
"""Low-rank matrices that a phase merged into the weights, by the number of the phase."""

UNTRAINED = "model-not-trained.safetensors"
"""Tensors of the source that transformers does not load, so that training did not see them."""

COMPUTED = (
    ".inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
)
"""Suffixes of tensors that old releases stored and that every model computes."""


def save_phase_model(model: Any, folder: Path) -> None:
    """Save the model that a phase starts with in float32: no checkpoint has its frozen weights."""
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)


def save_low_rank(learned: Mapping[str, torch.Tensor], folder: Path, phase: int) -> None:
    """Save the matrices that a phase is about to merge; those of an earlier job are removed."""
    path = folder / LOW_RANK.format(phase)
    path.unlink(missing_ok=True)
    if learned:
        with atomic_file(path) as draft:
            save_file({name: tensor.cpu().contiguous() for name, tensor in learned.items()}, draft)


def save_final_model(
    model: Any, types: Mapping[str, torch.dtype], source: Path, folder: Path
) -> None:
    """Save a finished model with each parameter in its data type of `types`.

    config.json is the one of the source: transformers 5 would write `rope_parameters`, which
    transformers 4 silently ignores.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.nn.Parameter):
            tensor.requires_grad = True
        tensor.data = tensor.data.to(types.get(name, tensor.dtype))
    model.save_pretrained(folder)
    copy_untrained(model, source, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    dtype = model.get_input_embeddings().weight.dtype
    # `load_for_training` turned the cache off.
    config |= {"use_cache": True, named: str(dtype).removeprefix("torch.")}
    config.setdefault("architectures", [type(model).__name__])
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(content, encoding="utf-8")
    for file in code_files(source):
        shutil.copyfile(file, folder / file.name)


def copy_untrained(model: Any, source: Path, folder: Path) -> list[str]:
    """Copy the tensors of the source that transformers does not load; return their names.

    Layers for multi-token prediction are in the files but not in the model. An engine that uses
    them would not load the result without them. They are as they were before training.
    """
    before, written = Checkpoint.open(source), Checkpoint.open(folder)
    present = set(written.tensors)
    for names in stored_names(model, before.tensors).values():
        present.update(names)
    missing = [
        name for name in before.tensors if name not in present and not name.endswith(COMPUTED)
    ]
    if not missing:
        return []
    tensors = {name: before.tensor(name).contiguous() for name in missing}
    save_file(tensors, folder / UNTRAINED, {"format": "pt"})
    files = {name: place.file.name for name, place in written.tensors.items()}
    files |= dict.fromkeys(missing, UNTRAINED)
    places = Checkpoint.open_files([*written.files, folder / UNTRAINED])
    size = Checkpoint(folder, places, None).tensor_bytes
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return missing
