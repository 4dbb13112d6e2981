"""Save models during and after training: phase models, low-rank matrices, the finished model.

Checkpoints, from which a stopped run resumes, are in `checkpointing`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lingraft.checkpoint.safetensors_files import INDEX, SINGLE, Checkpoint
from lingraft.checkpoint.stored_names import stored_names
from lingraft.model_code import code_files
from lingraft.store import atomic_file, atomic_folder

LOW_RANK = "low-rank-{}.safetensors"
"""The file name of the low-rank matrices that a phase merged; `{}` is the number of the phase."""

UNTRAINED = "model-not-trained.safetensors"
"""The file of the source's tensors that transformers does not load, so they were not trained."""

TRAINED = "model-trained.safetensors"
"""The file of the other tensors, where transformers would write a single file."""

COMPUTED = (
    ".inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
)
"""Suffixes of tensors that old releases of transformers stored and that every model computes."""


def save_phase_model(model: Any, folder: Path) -> None:
    """Save the model that a phase starts with, in float32.

    Resuming in this phase needs it, because checkpoints hold only the parameters that train.
    """
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)


def save_low_rank(learned: Mapping[str, torch.Tensor], folder: Path, phase: int) -> None:
    """Save the low-rank matrices of a phase before they are merged; write nothing without any."""
    path = folder / LOW_RANK.format(phase)
    # An interrupted attempt may have written this file.
    path.unlink(missing_ok=True)
    if learned:
        with atomic_file(path) as draft:
            save_file({name: tensor.cpu().contiguous() for name, tensor in learned.items()}, draft)


def save_final_model(
    model: Any, types: Mapping[str, torch.dtype], source: Path, folder: Path
) -> None:
    """Save a finished model with each parameter in its data type of `types`.

    config.json, the untrained tensors and the model's own code come from the `source` folder. If
    that has no generation_config.json, config.json holds its settings, and no file is written.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.nn.Parameter):
            tensor.requires_grad = True
        tensor.data = tensor.data.to(types.get(name, tensor.dtype))
    model.save_pretrained(folder)
    copy_untrained(model, source, folder)
    # The config.json of the source replaces the one that transformers 5 has just written:
    # transformers 4 silently ignores its `rope_parameters`.
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    dtype = model.get_input_embeddings().weight.dtype
    # `load_for_training` turned the cache off.
    config |= {"use_cache": True, named: str(dtype).removeprefix("torch.")}
    config.setdefault("architectures", [type(model).__name__])
    content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(content, encoding="utf-8")
    if not (source / "generation_config.json").exists():
        # transformers 5 has written what config.json states, without the ids of the model's class.
        (folder / "generation_config.json").unlink(missing_ok=True)
    for file in code_files(source):
        shutil.copyfile(file, folder / file.name)


def copy_untrained(model: Any, source: Path, folder: Path) -> list[str]:
    """Copy the tensors of the source that transformers does not load; return their names.

    Layers for multi-token prediction, for example, are in the files but not in the model. An engine
    that uses them does not load a model without them. Training does not change them.
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
    if (folder / SINGLE).exists():
        # Next to an index, transformers would still read a file of this name, and only it.
        (folder / SINGLE).rename(folder / TRAINED)
        written = Checkpoint(folder, Checkpoint.open_files([folder / TRAINED]), None)
    files = {name: place.file.name for name, place in written.tensors.items()}
    files |= dict.fromkeys(missing, UNTRAINED)
    places = Checkpoint.open_files([*written.files, folder / UNTRAINED])
    size = Checkpoint(folder, places, None).tensor_bytes
    # Without an index, transformers would read only its own file.
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return missing
