"""The processes that train together: one, or several that hold a shard each (torch's own `fully_shard`).

Under a launcher such as torchrun each process holds a part of every weight and of the optimiser's state and runs its
own rows of a step; gradients are averaged over the processes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lingraft.errors import TrainingError
from lingraft.packing.mixture import IGNORED, Batch
from lingraft.strategies.base import Group
from lingraft.strategies.parts import layer_stack

PATIENCE = timedelta(hours=1)
"""How long processes wait for the first one, which writes whole models: 70B in bfloat16 are 141 GB."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among the others: `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs, checkpoints and the model."""
        return self.rank == 0

    def part(self, batch: Batch) -> Batch:
        """Return this process's own rows of a step; all get as many, filled up with rows that teach nothing."""
        if self.size == 1:
            return batch
        each = -(-len(batch.inputs) // self.size)
        wanted = np.arange(self.rank * each, (self.rank + 1) * each)
        own = wanted % len(batch.inputs)
        labels = np.where((wanted < len(batch.inputs))[:, None], batch.labels[own], IGNORED)
        return dataclasses.replace(batch, inputs=batch.inputs[own], labels=labels, replayed=batch.replayed[own])

    def shard(self, model: Any, groups: Sequence[Group], fill: Callable[[], None]) -> list[Group]:
        """Shard a model layer by layer, fill it, and return the groups with what their parameters have become."""
        if self.size == 1:
            return list(groups)
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        names = {id(parameter): name for name, parameter in model.named_parameters()}
        packed = [name for name, parameter in model.named_parameters() if not parameter.is_floating_point()]
        if packed:
            msg = f"{packed[0]} is quantised, and {self.size} processes hold shards of whole numbers; use one process"
            raise TrainingError(msg)
        prefix, _ = layer_stack(model)
        for layer in model.get_submodule(prefix):
            fully_shard(layer)
        fully_shard(model)
        fill()
        now = dict(model.named_parameters())
        left = [name for name, parameter in now.items() if not isinstance(parameter, DTensor)]
        if left:
            msg = f"{len(left)} parameters stay whole in each of {self.size} processes ({left[0]}); use one process"
            raise TrainingError(msg)
        return [Group(group.role, {key: now[names[id(parameter)]] for key, parameter in group.parameters.items()})
                for group in groups]

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over the processes."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, flag: bool, device: str) -> bool:  # noqa: FBT001 - it is the value
        """Say whether a flag is set in any process; all of them get the same answer."""
        if self.size == 1:
            return flag
        return bool(self.summed(torch.tensor([int(flag)], device=device)).item())

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()


def reshard(model: Any) -> None:
    """Give up whole parameters, which a call without a backward pass leaves: they would outlast a change of shards."""
    if hasattr(model, "reshard"):
        model.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all its shards; every process has to ask for it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Set a tensor, or this process's shard of it, from a whole one."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


@contextmanager
def init_process_group(*, sharded: bool, device: str) -> Iterator[ProcessGroup]:
    """Join the processes of a launcher; raises `TrainingError` where they would train copies of the model."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1:
        yield ProcessGroup()
        return
    if not sharded:
        msg = (f"{size} processes were launched (WORLD_SIZE={size}), and each would train an unsharded copy of the "
               f"model; start one process, or train sharded: lingraft adapt RECIPE --nproc {size}")
        raise TrainingError(msg)
    ours = not torch.distributed.is_initialized()
    if ours:
        if device.startswith("cuda"):
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(torch.distributed.get_rank(), size)
    finally:
        if ours:
            torch.distributed.destroy_process_group()
