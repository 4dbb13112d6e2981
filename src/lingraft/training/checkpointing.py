"""Training checkpoints and whole models on disk; written atomically.

A checkpoint is a folder `step-00000120`: tensors in safetensors (one file per process), and state.json with the hashes
of all its files. The last two are kept; an older one is removed only after a newer one is complete. A checkpoint that
does not match its hashes is ignored. torch's distributed checkpoint reads them into shards of any number of processes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from lingraft.checkpoint.stored_names import stored_names
from lingraft.checkpoint.tensor_files import INDEX, Checkpoint
from lingraft.errors import TrainingError
from lingraft.model_code import code_files
from lingraft.store import atomic_file, atomic_folder, disk_errors, file_digest

if TYPE_CHECKING:
    import torch

KEPT = 2
SUFFIX, STATE = ".safetensors", "state.json"


@dataclass(frozen=True)
class TrainingCheckpoint:
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


def save_checkpoint(scratch_dir: Path, step: int, tensors: Mapping[str, torch.Tensor],
                    state: Mapping[str, Any]) -> Path:
    """Save progress; raises `StoreError` if the disk is full, with the earlier checkpoints intact."""
    with disk_errors(scratch_dir), new_checkpoint(scratch_dir, step, state) as draft:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, draft / f"tensors{SUFFIX}")
    return scratch_dir / f"step-{step:08d}"


@contextmanager
def new_checkpoint(scratch_dir: Path, step: int, state: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder to write tensors to; it becomes a checkpoint when the block ends, and old ones are removed."""
    with atomic_folder(scratch_dir / f"step-{step:08d}", draft=draft_folder(scratch_dir, step)) as draft:
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
    """Return the newest whole checkpoint, or None; damaged ones are passed over."""
    return next(whole_checkpoints(scratch_dir), None)


def whole_checkpoints(scratch_dir: Path) -> Iterator[TrainingCheckpoint]:
    """Yield the whole checkpoints, the newest first."""
    for folder in sorted(scratch_dir.glob("step-*"), reverse=True):
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            whole = content["sha256"] and all(file_digest(folder / name) == sha
                                              for name, sha in content["sha256"].items())
            state = content["state"]
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if whole:
            yield TrainingCheckpoint(folder, state)


def own_checkpoint(scratch_dir: Path, fingerprint: str) -> TrainingCheckpoint | None:
    """Return the newest whole checkpoint of a run; raises `TrainingError` where it is another run's."""
    checkpoint = latest_checkpoint(scratch_dir)
    if checkpoint and checkpoint.state["fingerprint"] != fingerprint:
        msg = (f"{scratch_dir}: holds the progress of another run (other plan, text, seed or model); remove it or name "
               f"another place")
        raise TrainingError(msg)
    return checkpoint


LEARNED = "low-rank-{}.safetensors"
"""Low-rank matrices that a phase merged into the weights, by the number of the phase."""

CARRIED = "model-not-trained.safetensors"
"""Tensors that transformers does not load and training did not see."""

COMPUTED = (".inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""How the names end of what old releases stored and every model computes itself."""


def keep_whole(model: Any, folder: Path) -> None:
    """Save the model that a phase starts with, in float32: its frozen weights are in no checkpoint."""
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)


def keep_learned(learned: Mapping[str, torch.Tensor], folder: Path, phase: int) -> None:
    """Save the matrices that a phase is about to merge; those of an earlier job are removed."""
    path = folder / LEARNED.format(phase)
    path.unlink(missing_ok=True)
    if learned:
        with atomic_file(path) as draft:
            save_file({name: tensor.cpu().contiguous() for name, tensor in learned.items()}, draft)


def write_finished(model: Any, types: Mapping[str, torch.dtype], source: Path, folder: Path) -> None:
    """Save a finished model with each parameter in the data type that the source had for it.

    config.json is the source's, as whoever published it wrote it: transformers 5 would write one of which
    transformers 4 leaves out, without a word, how positions are turned.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.nn.Parameter):
            tensor.requires_grad = True
        tensor.data = tensor.data.to(types.get(name, tensor.dtype))
    model.save_pretrained(folder)
    carry_over(model, source, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    dtype = model.get_input_embeddings().weight.dtype
    config |= {"use_cache": True, named: str(dtype).removeprefix("torch.")}
    config.setdefault("architectures", [type(model).__name__])
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in code_files(source):
        shutil.copyfile(file, folder / file.name)


def carry_over(model: Any, source: Path, folder: Path) -> list[str]:
    """Take over the tensors of the source that transformers did not load; return their names.

    Layers of multi-token prediction stand in the files and not in the model: without them, what serves a model with
    them would not load the result. They are as they were before training.
    """
    before = Checkpoint.open(source)
    loaded = {name for names in stored_names(model, before.tensors).values() for name in names}
    left = [name for name in before.tensors if name not in loaded and not name.endswith(COMPUTED)]
    written = Checkpoint.open(folder)
    left = [name for name in left if name not in written.tensors]
    if not left:
        return []
    save_file({name: before.tensor(name).contiguous() for name in left}, folder / CARRIED, {"format": "pt"})
    files = {name: place.file.name for name, place in written.tensors.items()} | dict.fromkeys(left, CARRIED)
    size = sum(place.end - place.begin for place in Checkpoint.open_files(
        [*written.files, folder / CARRIED]).values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return left
