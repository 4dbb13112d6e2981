"""Opening a model shard by shard: its shapes first, and each process's part of the numbers once it is shared out.

In float32 a 70B model is 282 GB: more than any GPU has, and more than main memory has for each of eight processes. Here
a process only ever holds its shards, the embeddings and the head (strategies keep rows of them apart), and it reads no
more than these from the files, which are mapped into memory. It works where the files name their tensors as the model
does; else the model is opened whole by every process, and the notes say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lingraft.checkpoint.load_model import build_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.tensor_files import Checkpoint, torch_dtype
from lingraft.checkpoint.weight_checks import check_finite_tensor


class NotByShardsError(Exception):
    """The files do not say, tensor by tensor, what the model holds."""


@dataclass(frozen=True)
class MetaModel:
    """A model of which only embeddings and head have numbers, and the files with all of them.

    `dtype` is the one that transformers would read the files in; numbers are rounded to it first, as it does.
    """

    model: Any
    checkpoint: Checkpoint
    dtype: torch.dtype

    @classmethod
    def open(cls, folder: Path) -> MetaModel:
        """Build the model without its numbers, but for embeddings and head; raises `NotByShardsError`."""
        checkpoint, config = Checkpoint.open(folder), read_model_config(folder)
        dtype = config.dtype or torch_dtype(next(iter(checkpoint.tensors.values())).dtype)
        with parameters_on_meta():
            model = build_model(config, folder, dtype=dtype)
        _compute_buffers(model)
        model.float().tie_weights()
        _check(model, checkpoint)
        shapes = cls(model, checkpoint, dtype)
        shapes._read_embeddings()
        model.config.use_cache = False
        return shapes

    @property
    def types(self) -> dict[str, torch.dtype]:
        """The data type that each parameter has where the model is opened whole."""
        return {name: self.dtype for name, _ in self.model.named_parameters()}

    def fill(self) -> None:
        """Read every parameter that has no numbers yet, of one that is shared out this process's rows alone."""
        for name, parameter in list(self.model.named_parameters()):
            if parameter.is_meta:
                self.model.load_state_dict({name: self._value(name, parameter)}, strict=False, assign=True)

    def _value(self, name: str, parameter: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        if not isinstance(parameter, DTensor):
            return self._numbers(name)
        mesh = parameter.device_mesh
        rows = self._numbers(name, mesh.get_local_rank(), mesh.size()).to(mesh.device_type)
        return DTensor.from_local(rows, mesh, parameter.placements, run_check=False, shape=parameter.shape,
                                  stride=parameter.stride())

    def _numbers(self, name: str, rank: int = 0, size: int = 1) -> Tensor:
        """Read a parameter, or the rows of it that one of several processes has: `fully_shard` cuts as `chunk` does."""
        parts = torch.chunk(self.checkpoint.tensor(name), size)
        rows = parts[rank] if rank < len(parts) else parts[0][:0]
        numbers = rows.to(self.dtype).float()
        before = len(parts[0]) * rank
        check_finite_tensor(numbers, f"{self.checkpoint.tensors[name].file.resolve()}: {name}", first_row=before)
        return numbers

    def _read_embeddings(self) -> None:
        head = self.model.get_output_embeddings()
        own = {id(p) for module in (self.model.get_input_embeddings(), head) if module is not None
               for p in module.parameters()}
        names = [name for name, parameter in self.model.named_parameters() if id(parameter) in own]
        self.model.load_state_dict({name: self._numbers(name) for name in names}, strict=False, assign=True)
        self.model.tie_weights()


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Let parameters that modules register have a shape and no numbers; buffers are computed as ever."""
    plain = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        meta = None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        plain(module, name, meta)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


@torch.no_grad()
def _compute_buffers(model: Any) -> None:
    """Compute what lies beside parameters as transformers does when it reads a model: GPT-J's positions in float32."""
    for module in model.modules():
        if next(module.buffers(recurse=False), None) is not None:
            model._init_weights(module)  # noqa: SLF001 - what an architecture overrides to say how its modules begin


def _check(model: Any, checkpoint: Checkpoint) -> None:
    """Raise `NotByShardsError` unless every parameter lies in the files under its name, in its shape, as it is."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    for name, parameter in model.named_parameters():
        place = checkpoint.tensors.get(name)
        if place is None or place.shape != tuple(parameter.shape):
            msg = f"the files have no {name} of shape {tuple(parameter.shape)}"
            raise NotByShardsError(msg)
    if get_model_conversion_mapping(model, add_legacy=False):
        msg = f"transformers translates the tensors of {type(model).__name__} while it reads them"
        raise NotByShardsError(msg)
    lost = [name for name, buffer in model.named_buffers() if buffer.is_meta or name in checkpoint.tensors]
    if lost:
        msg = f"{lost[0]} is kept beside the parameters"
        raise NotByShardsError(msg)
