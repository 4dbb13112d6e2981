"""Check that a written model folder loads: its tensors have the shapes that config.json implies.

transformers builds the model of the written config.json on the meta device (shapes without
weights), and its shapes are compared with the headers of the written files. No weight is read, so
the check takes the same time for every size of model.
"""

from __future__ import annotations

from pathlib import Path

from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.checkpoint.stored_names import stored_names
from lingraft.errors import ModelError


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
