"""Whole models on disk: between two phases, and at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lingraft.model_code import code_files

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


def write_finished(model: Any, types: Mapping[str, torch.dtype], source: Path, folder: Path) -> None:
    """Save a finished model with each parameter in the data type that the source had for it.

    config.json is the source's, as whoever published it wrote it: transformers 5 would write one of which
    transformers 4 leaves out, without a word, how positions are turned.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad = True
        parameter.data = parameter.data.to(types[name])
    model.save_pretrained(folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    config |= {"use_cache": True, named: str(next(iter(types.values()))).removeprefix("torch.")}
    config.setdefault("architectures", [type(model).__name__])
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in code_files(source):
        shutil.copyfile(file, folder / file.name)
