"""Whole models on disk: between two phases, and at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lingraft.checkpoint.stored_names import stored_names
from lingraft.checkpoint.tensor_files import INDEX, Checkpoint
from lingraft.model_code import code_files

LEARNED = "low-rank-{}.safetensors"
"""Low-rank matrices that a phase merged into the weights, by the number of the phase."""

CARRIED = "model-not-trained.safetensors"
"""Tensors that transformers does not load and training did not see."""

COMPUTED = (".inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""How the names end of what old releases stored and every model computes itself."""


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
