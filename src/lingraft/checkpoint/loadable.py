"""Check that a model folder loads: its tensors have the shapes that config.json implies.

transformers builds the model of config.json on the meta device (shapes without weights), and its
shapes are compared with the headers of the files. No weight is read, so the check takes the same
time for every size of model.
"""

from __future__ import annotations

from pathlib import Path

from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.load_model import describe_misfit, meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.checkpoint.stored_names import splits_tensors, stored_names
from lingraft.errors import ModelError


def check_config_fits(checkpoint: Checkpoint) -> None:
    """Raise `ModelError` if the files lack a weight of the model, or hold it in another shape.

    transformers gives a missing weight random values, and other programs refuse the model.
    """
    folder = checkpoint.folder
    model = meta_model(read_model_config(folder), folder)
    if splits_tensors(model):
        return  # the names of the files do not tell which weights they hold
    stored = stored_names(model, checkpoint.tensors)
    aliases: dict[int, list[str]] = {}  # a tied parameter has several names, one of them stored
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    faults = []
    for names in aliases.values():
        files = [file_name for name in names for file_name in stored.get(name, ())]
        expected = tuple(model.get_parameter(names[0]).shape)
        if not files:
            faults.append(f"{names[0]} is missing")
        elif names[0] in files and checkpoint.tensors[names[0]].shape != expected:
            found = checkpoint.tensors[names[0]].shape
            faults.append(f"{names[0]} has the shape {list(found)}, not {list(expected)}")
    if faults:
        raise ModelError(describe_misfit(folder, sorted(faults)))


def check_loadable(folder: Path, names: EmbeddingNames) -> None:
    """Raise `ModelError` where a resized tensor does not fit the model of the new config.json."""
    checkpoint = Checkpoint.open(folder)
    model = meta_model(read_model_config(folder), folder)
    parameters, resized = model.state_dict(), set(names.all)
    architecture = type(model).__name__
    for parameter, stored in stored_names(model, checkpoint.tensors).items():
        expected = tuple(parameters[parameter].shape)
        for name in resized.intersection(stored):
            shape = checkpoint.tensors[name].shape
            if shape != expected:
                msg = (
                    f"{folder}: {name} would have shape {list(shape)}, while {architecture} "
                    f"expects {list(expected)} with the new config.json; this architecture cannot "
                    f"be extended"
                )
                raise ModelError(msg)
    # Checked as well when the input matrix is under a name that transformers does not translate.
    expected_rows = model.get_input_embeddings().weight.shape[0]
    rows = checkpoint.tensors[names.input[0]].shape[0]
    if rows != expected_rows:
        msg = (
            f"{folder}: {names.input[0]} would have {rows:,} rows, while {architecture} expects "
            f"{expected_rows:,} with the new config.json; this architecture cannot be extended"
        )
        raise ModelError(msg)
