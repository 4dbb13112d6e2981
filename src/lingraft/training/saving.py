"""Whole models on disk: between two phases, and at the end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

LEARNED = "low-rank-{}.safetensors"
"""Low-rank matrices that a phase merged into the weights, by the number of the phase."""


def keep_whole(model: Any, folder: Path) -> None:
    """Save a model in float32, whole or absent: a phase begins with it, whose frozen weights are in no checkpoint."""
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def keep_learned(learned: Mapping[str, torch.Tensor], folder: Path, phase: int) -> None:
    """Save what a phase is about to merge away, whole or absent; nothing is left of an earlier job."""
    path = folder / LEARNED.format(phase)
    path.unlink(missing_ok=True)
    if learned:
        draft = path.with_suffix(".tmp")
        save_file({name: tensor.cpu().contiguous() for name, tensor in learned.items()}, draft)
        draft.replace(path)


def write_finished(model: Any, types: Mapping[str, torch.dtype], folder: Path) -> None:
    """Save a finished model with each parameter in the data type that the source had for it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = True
        parameter.data = parameter.data.to(types[name])
    model.config.use_cache = True
    model.config.dtype = next(iter(types.values()))
    model.save_pretrained(folder)
