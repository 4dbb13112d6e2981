"""The process group of a training run: one process, or several that share the model (FSDP2).

With a launcher such as torchrun, each process holds a shard of every weight and of the optimizer
state, and computes some of the sequences of each step. Gradients are averaged over the processes.

Shards are in float32. A run that computes in bfloat16 gathers weights in bfloat16, which halves the
bytes of a gather, and reduces gradients in float32.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lingraft.errors import LingraftError, TrainingError
from lingraft.packing.mixture import IGNORED, Batch
from lingraft.strategies.base import ParameterGroup
from lingraft.strategies.model_parts import layer_stacks
from lingraft.training.execution import WHOLE_GRADIENTS
from lingraft.training.launch import Launch, world_size

TIMEOUT = timedelta(hours=1)
"""How long processes wait for rank 0.

It writes the whole model (141 GB for 70B in bfloat16) and hashes the checkpoint of a resumed run.
"""

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The number of this process (`rank`, from 0) and the number of all processes (`size`)."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs, checkpoints and the model."""
        return self.rank == 0

    def shard_batch(self, batch: Batch) -> Batch:
        """Return this process's sequences of a step.

        All processes get the same number of sequences: the last ones are padded with sequences
        whose labels are all ignored.
        """
        if self.size == 1:
            return batch
        each = -(-len(batch.inputs) // self.size)
        wanted = np.arange(self.rank * each, (self.rank + 1) * each)
        # Indices past the end wrap around to real sequences, whose labels are ignored below.
        own = wanted % len(batch.inputs)
        labels = np.where((wanted < len(batch.inputs))[:, None], batch.labels[own], IGNORED)
        return dataclasses.replace(
            batch, inputs=batch.inputs[own], labels=labels, texts=batch.texts[own]
        )

    def shard_model(
        self,
        model: Any,
        groups: Sequence[ParameterGroup],
        materialize: Callable[[], None],
        dtype: torch.dtype,
    ) -> list[ParameterGroup]:
        """Shard a model layer by layer, materialize it, and return the groups with their shards.

        The gathered weights and the activations have the data type `dtype`. Shards, gradients and
        their reductions keep float32.

        Raises `TrainingError` where a parameter cannot be sharded.
        """
        if self.size == 1:
            return list(groups)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        # Layer by layer, so that the whole weights of only one layer are in memory at a time.
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        for stack in layer_stacks(model):
            for layer in model.get_submodule(stack):
                fully_shard(layer, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        # After sharding, so that each process reads its own shards only.
        materialize()
        # `fully_shard` replaces the parameter objects, so the groups are built again by name.
        now = dict(model.named_parameters())
        whole = [name for name, parameter in now.items() if not isinstance(parameter, DTensor)]
        if whole:
            msg = (
                f"{whole[0]} and {len(whole) - 1} other parameters are not sharded among "
                f"{self.size} processes; use one process"
            )
            raise TrainingError(msg)
        sharded = []
        for group in groups:
            own = {key: now[names[id(parameter)]] for key, parameter in group.parameters.items()}
            sharded.append(ParameterGroup(group.role, own))
        return sharded

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes in place, and return it."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any_rank(self, flag: bool, device: str) -> bool:  # noqa: FBT001 - it is the value
        """Return True in all processes where the flag is set in one of them."""
        if self.size == 1:
            return flag
        return bool(self.all_reduce(torch.tensor([int(flag)], device=device)).item())

    def compute_once(self, compute: Callable[[], T]) -> T:
        """Return what rank 0 computes, in all processes; a `LingraftError` is raised in all.

        The result is pickled and broadcast, so it should be small.
        """
        if self.size == 1:
            return compute()
        outcome: list[Any] = [None]
        if self.is_first:
            try:
                outcome = [compute()]
            except LingraftError as error:
                outcome = [error]
        torch.distributed.broadcast_object_list(outcome)
        if isinstance(outcome[0], LingraftError):
            raise outcome[0]
        return cast("T", outcome[0])

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            torch.distributed.barrier()


def reshard(model: Any) -> None:
    """Reshard after a forward-only call, which leaves parameters unsharded."""
    if hasattr(model, "reshard"):
        model.reshard()


def reduces_once(parameters: Iterable[Tensor], device: str) -> bool:
    """Return whether a step should reduce gradients once, after its last micro-batch.

    Until then, each process holds whole gradients in float32 of all trained parameters. On a GPU,
    they may take at most `WHOLE_GRADIENTS` of its memory; otherwise each micro-batch reduces them.
    """
    if not device.startswith("cuda"):
        return True
    size = sum(parameter.numel() * 4 for parameter in parameters)
    memory = torch.cuda.get_device_properties(device).total_memory
    return size <= WHOLE_GRADIENTS * memory


def set_gradient_reduction(model: Any, *, enabled: bool) -> None:
    """Let the next backward pass of a sharded model reduce gradients, or only accumulate them."""
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(enabled)


def shard_of(values: Tensor, rank: int, size: int) -> Tensor:
    """Return the part of a tensor that process `rank` of `size` holds of a sharded parameter.

    `fully_shard` splits the first dimension like `torch.chunk`, which can give fewer parts than
    processes: the last ones hold none.
    """
    parts = torch.chunk(values, size)
    return parts[rank] if rank < len(parts) else values[:0]


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered if it is sharded; every process has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into a tensor, or into this process's shard of it."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


@contextmanager
def init_process_group(*, sharded: bool, device: str) -> Iterator[ProcessGroup]:
    """Join the processes that a launcher started, if any, and yield their group.

    Raises `TrainingError` if several processes would each train a whole copy of the model.
    """
    size = world_size()
    if size == 1:
        yield ProcessGroup()
        return
    if not sharded:
        msg = (
            f"{size} processes were launched (WORLD_SIZE={size}), and each would train an "
            f"unsharded copy of the model; start one process, or train sharded: "
            f"lingraft adapt RECIPE --nproc {size}"
        )
        raise TrainingError(msg)
    # A caller that has already created the process group also destroys it.
    ours = not torch.distributed.is_initialized()
    if ours:
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield ProcessGroup(torch.distributed.get_rank(), size)
    finally:
        if ours:
            torch.distributed.destroy_process_group()


@contextmanager
def join_launched(launch: Launch, device: str) -> Iterator[ProcessGroup]:
    """Join the processes of a launcher while the block runs; its variables are set as long."""
    os.environ.update(launch.variables)
    try:
        with init_process_group(sharded=True, device=device) as group:
            yield group
    finally:
        for name in launch.variables:
            os.environ.pop(name, None)
