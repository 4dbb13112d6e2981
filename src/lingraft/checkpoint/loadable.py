"""Whether a written model folder loads: every tensor under a name and in a shape that its config.json promises.

transformers builds the model of the written config.json without numbers; its shapes are compared with the headers of
the written files. No number is read, so that it costs the same for every size of model.
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
    """Raise `ModelError` where a tensor of a written folder does not fit the model that config.json describes."""
    checkpoint = Checkpoint.open(folder)
    model = meta_model(read_model_config(folder), folder)
    own, changed = model.state_dict(), set(names.all)
    for name, stored in stored_names(model, checkpoint.tensors).items():
        for one in stored:
            place = checkpoint.tensors[one]
            if one in changed and place.shape != tuple(own[name].shape):
                msg = (
                    f"{folder}: {one} would have shape {list(place.shape)}, while {type(model).__name__} reads "
                    f"{list(own[name].shape)} from the new config.json; this architecture cannot be extended"
                )
                raise ModelError(msg)
    table = model.get_input_embeddings().weight
    rows = checkpoint.tensors[names.input[0]].shape[0]
    if table.shape[0] != rows:
        msg = (
            f"{folder}: {names.input[0]} would have {rows:,} rows, while {type(model).__name__} makes "
            f"{table.shape[0]:,} of the new config.json; this architecture cannot be extended"
        )
        raise ModelError(msg)
