"""Load a model shard by shard: first shapes only, then the weights that this process holds.

In float32, a 70B model takes 282 GB: more than a GPU has, and too much for eight processes that
each hold it in main memory. Here a process reads only its shards, the embeddings and the head from
the memory-mapped files. Embeddings and head are whole, because strategies train some of their rows
separately.

This works if the names in the files are the names in the model. Otherwise every process loads the
whole model, and the notes of the run give the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.conversion_mapping import get_model_conversion_mapping

from lingraft.checkpoint.load_model import build_model, stored_dtypes
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.safetensors_files import Checkpoint, torch_dtype
from lingraft.checkpoint.weight_checks import check_finite_tensor
from lingraft.strategies.model_parts import embedding_module_parameters
from lingraft.training.distributed import shard_of


class NotByShardsError(Exception):
    """The files do not hold exactly one tensor for each parameter, so shards cannot be read."""


@dataclass(frozen=True)
class MetaModel:
    """A model whose body is on the meta device, and the files with its weights.

    Embeddings and head are loaded. `types` are the data types in which the parameters are saved.
    Weights are rounded to them before they become float32, as in `load_for_training`.
    """

    model: Any
    checkpoint: Checkpoint
    types: dict[str, torch.dtype]

    @classmethod
    def open(cls, folder: Path) -> MetaModel:
        """Build the model and read embeddings and head.

        Raises `NotByShardsError` if its weights cannot be read shard by shard.
        """
        checkpoint, config = Checkpoint.open(folder), read_model_config(folder)
        dtype = config.dtype or torch_dtype(next(iter(checkpoint.tensors.values())).dtype)
        with parameters_on_meta():
            model = build_model(config, folder, dtype=dtype)
        _compute_buffers(model)
        model.tie_weights()
        _check_names(model, checkpoint)
        _set_loaded_types(model, dtype)
        opened = cls(model, checkpoint, stored_dtypes(model, folder))
        model.float()
        # The strategy needs these weights before the model is sharded.
        opened._read_embeddings()
        model.config.use_cache = False
        return opened

    def materialize(self) -> None:
        """Read the weights of every parameter on the meta device; of a sharded one, this shard."""
        for name, parameter in list(self.model.named_parameters()):
            if parameter.is_meta:
                value = self._value(name, parameter)
                self.model.load_state_dict({name: value}, strict=False, assign=True)

    def _value(self, name: str, parameter: Tensor) -> Tensor:
        if not isinstance(parameter, DTensor):
            return self._weights(name)
        mesh = parameter.device_mesh
        shard = self._weights(name, mesh.get_local_rank(), mesh.size()).to(mesh.device_type)
        return DTensor.from_local(
            shard,
            mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )

    def _weights(self, name: str, rank: int = 0, size: int = 1) -> Tensor:
        """Read a parameter, or the shard of one process."""
        stored = self.checkpoint.tensor(name)
        weights = shard_of(stored, rank, size).to(self.types[name]).float()
        where = f"{self.checkpoint.tensors[name].file.resolve()}: {name}"
        check_finite_tensor(weights, where, first_row=math.ceil(len(stored) / size) * rank)
        return weights

    def _read_embeddings(self) -> None:
        names = embedding_module_parameters(self.model)
        weights = {name: self._weights(name) for name in names}
        self.model.load_state_dict(weights, strict=False, assign=True)
        self.model.tie_weights()


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Within the block, put the parameters of new modules on the meta device, but not buffers."""
    plain = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        plain(module, name, parameter)

    # torch.device("meta") would put buffers there too, and the files do not hold buffers.
    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


@torch.no_grad()
def _compute_buffers(model: Any) -> None:
    """Compute buffers as transformers does when it loads a model.

    Some architectures compute them differently in the constructor (GPT-J's positions in float32).
    """
    for module in model.modules():
        if next(module.buffers(recurse=False), None) is not None:
            model._init_weights(module)  # noqa: SLF001 - the hook that architectures override


def _set_loaded_types(model: Any, dtype: torch.dtype) -> None:
    """Give parameters the data types in which transformers would load files of `dtype`.

    It loads some in float32: the gates of experts, or what a recurrent layer decays by.
    """
    # transformers 5.0 has an attribute instead of the method.
    plan = getattr(model, "_get_dtype_plan", None)
    kept = plan(dtype) if plan else model.dtype_plan
    # transformers, too, takes these names for regular expressions.
    pattern = re.compile("|".join(kept).replace("*", ".*"))
    for name, parameter in model.named_parameters():
        is_kept = bool(kept) and pattern.search(name)
        parameter.data = parameter.data.to(torch.float32 if is_kept else dtype)


def _check_names(model: Any, checkpoint: Checkpoint) -> None:
    """Raise `NotByShardsError` unless the files hold every parameter by its name and shape."""
    for name, parameter in model.named_parameters():
        place = checkpoint.tensors.get(name)
        if place is None or place.shape != tuple(parameter.shape):
            msg = f"the files have no {name} of shape {tuple(parameter.shape)}"
            raise NotByShardsError(msg)
    if get_model_conversion_mapping(model, add_legacy=False):
        msg = f"transformers converts the tensors of {type(model).__name__} while it loads them"
        raise NotByShardsError(msg)
    for name, buffer in model.named_buffers():
        if buffer.is_meta or name in checkpoint.tensors:
            msg = f"{name} is a buffer that the files hold"
            raise NotByShardsError(msg)
