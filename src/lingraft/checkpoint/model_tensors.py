"""The tensors of a model in memory, in the form of a checkpoint.

The functions that find, check and resize the tensors of a model folder read them through
`Checkpoint`, so they work on a model in memory as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.find_embeddings import EmbeddingNames, find_embedding_names
from lingraft.checkpoint.model_class import check_kind
from lingraft.checkpoint.safetensors_files import (
    FLOATS,
    INTEGERS,
    Checkpoint,
    TensorPlace,
    torch_dtype,
)
from lingraft.checkpoint.vocabulary_tables import TableFinder
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ModelTensors(Checkpoint):
    """The tensors of a model by name; a tied matrix has one name. `folder` is for messages."""

    in_memory: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: Any) -> ModelTensors:
        """List the tensors that the model would save.

        Raises `ModelError` for weights that are not in the memory of this process.
        """
        tensors: dict[str, Tensor] = dict(model.named_parameters())
        saved = model.state_dict(keep_vars=True)
        tensors |= {name: buffer for name, buffer in model.named_buffers() if name in saved}
        label = Path(type(model).__name__)
        places = {}
        for name, tensor in tensors.items():
            if tensor.is_meta or type(tensor.detach()).__name__ == "DTensor":
                msg = (
                    f"{label}: the weights of {name} are not in this process (meta device, sharded "
                    "or offloaded); load the whole model, and distribute it after the resize"
                )
                raise ModelError(msg)
            size = tensor.numel() * tensor.element_size()
            dtype = _dtype_name(tensor)
            places[name] = TensorPlace(name, label, dtype, tuple(tensor.shape), 0, size)
        return cls(label, places, None, tensors)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor without its gradient, on the CPU, where methods compute rows.

        Raises `ModelError` for a dtype that rows cannot be added to.
        """
        place = self.tensors[name]
        if place.dtype not in {*FLOATS, *INTEGERS}:
            msg = (
                f"{self.folder}: {name} is {place.dtype}; rows can be added to "
                f"{', '.join(FLOATS)}: load the model unquantised"
            )
            raise ModelError(msg)
        return self.in_memory[name].detach().cpu()


def _dtype_name(tensor: Tensor) -> str:
    """Return the name that safetensors gives a dtype; for others, the name that torch gives it."""
    for name in (*FLOATS, *INTEGERS):
        if torch_dtype(name) == tensor.dtype:
            return name
    return str(tensor.dtype)


def model_embedding_names(model: Any, tensors: ModelTensors) -> EmbeddingNames:
    """Find the tensors of a model in memory that follow the vocabulary.

    Raises `ModelError` for a model that cannot be extended, and for one with adapters.
    """
    check_model(model)
    stored = {name: (name,) for name in tensors.tensors}
    finder = TableFinder(tensors, model, stored, lambda config: model_shapes(model, config))
    return find_embedding_names(finder, model.config, tensors.folder)


def check_model(model: Any) -> None:
    """Raise `ModelError` for anything but a plain causal language model of transformers."""
    from transformers import PreTrainedModel

    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        # DistributedDataParallel and others; torch.compile
        wrapped = [
            attribute
            for attribute in ("module", "_orig_mod")
            if isinstance(getattr(model, attribute, None), PreTrainedModel)
        ]
        advice = "give AutoModelForCausalLM.from_pretrained(...)"
        if hasattr(model, "peft_config"):
            advice = "resize the base model before adapters are added, or call merge_and_unload()"
        elif wrapped:
            advice = f"give its attribute `{wrapped[0]}`, and wrap the model after the resize"
        msg = f"{name}: not a model of transformers; {advice}"
        raise ModelError(msg)
    if getattr(model, "_hf_peft_config_loaded", False):
        msg = f"{name}: the model has adapters; resize it before they are added"
        raise ModelError(msg)
    check_kind(model.config, name)


def model_shapes(model: Any, config: Any) -> Any:
    """Build a model of the same class with another configuration on the meta device."""
    import torch

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return type(model)._from_config(config)  # noqa: SLF001 - what from_config of Auto calls
