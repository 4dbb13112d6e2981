"""The model of a phase: load it whole or sharded, check it, and gather it after the phase."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import ModelError, TrainingError
from lingraft.strategies import Strategy
from lingraft.training.distributed import ProcessGroup, copy_into, full_tensor
from lingraft.training.job import Job
from lingraft.training.save_model import save_phase_model
from lingraft.training.sharded_loading import MetaModel, NotByShardsError

MEASURED = "measured"
"""The folder of a model that all processes measure together."""


@dataclass(frozen=True)
class PhaseModel:
    """A model to train, the stored data types of its parameters, and how it was loaded.

    If `meta` is set, the body has no weights yet: shard the model, then call `materialize`.
    """

    model: Any
    types: dict[str, torch.dtype]
    how: str = "whole"
    meta: MetaModel | None = None

    def materialize(self) -> None:
        """Read this process's shards; a model that was loaded whole does not change."""
        if self.meta:
            self.meta.materialize()


def load_phase_model(job: Job, number: int, iteration: int, *, sharded: bool) -> PhaseModel:
    """Load the model that a phase, or an iteration of its branches, starts with.

    It is whole for one process, or ready to be sharded. Raises `TrainingError` if it would be
    quantised and sharded.
    """
    folder, device = job.folder(number, iteration), job.execution.device
    strategy = job.plan.phases[number].strategy if job.plan.phases else None
    if strategy and strategy.quantises:
        check_quantises(strategy, sharded=sharded)
        # `Strategy.move` quantises on the way to the device, which may not hold the whole model.
        return PhaseModel(*load_for_training(folder, dtype="stored"))
    if strategy and sharded:
        return load_sharded(folder, device, whole=strategy.full_load_reason)
    return PhaseModel(*load_for_training(folder, device))


def check_quantises(strategy: Strategy, *, sharded: bool) -> None:
    """Raise `TrainingError` if a strategy would quantise a model that is sharded."""
    if strategy.quantises and sharded:
        msg = (
            f"training.strategy {strategy.name} stores weights in 4 bits, and these cannot be "
            f"sharded among processes; use one process"
        )
        raise TrainingError(msg)


def load_sharded(folder: Path, device: str, *, whole: str = "") -> PhaseModel:
    """Load a model to be sharded, with its body on the meta device where that is possible.

    Otherwise every process loads all weights. `whole` is a reason to do that in any case.
    """
    if not whole:
        try:
            meta = MetaModel.open(folder)
        except NotByShardsError as error:
            whole = str(error)
        else:
            return PhaseModel(meta.model.train(), meta.types, "shard by shard", meta)
    model, types = load_for_training(folder, device)
    return PhaseModel(model, types, f"whole by every process: {whole}")


def gather_model(
    job: Job, number: int, iteration: int, shards: Mapping[str, torch.Tensor], *, first: bool
) -> Any:
    """Gather the trained parameters of a phase, or of one of its branches.

    Returns the whole model in rank 0, None elsewhere. `first` is whether this process is rank 0.
    Every process has to call this.
    """
    strategy = job.plan.phases[number].strategy
    model = load_for_training(job.folder(number, iteration))[0] if first else None
    own: dict[str, torch.nn.Parameter] = {}
    for group in strategy.prepare(model, job.added) if model else ():
        own |= group.parameters
    # Gathering is a collective operation, so all processes need the same order. One parameter at a
    # time, so that memory holds one whole parameter in addition to the model.
    for name, shard in shards.items():
        value = full_tensor(shard)
        if first:
            copy_into(own[name], value.cpu())
    return model


@contextmanager
def on_every_process(
    model: Any, types: Mapping[str, torch.dtype], job: Job, world: ProcessGroup
) -> Iterator[Any]:
    """Yield the model of rank 0 for a measurement by all processes: shards of a copy on the disk.

    A single process has its own. Every process has to call this; others than rank 0 have no model.
    `types` are the stored data types of the parameters.
    """
    if world.size == 1:
        yield measured_copy(model, types, job.execution.device)
        return
    folder = job.scratch_dir / MEASURED
    if world.is_first:
        save_phase_model(model, folder)
    world.barrier()
    shared = load_sharded(folder, job.execution.device)
    dtype = torch.bfloat16 if job.execution.computes_in_bfloat16() else torch.float32
    world.shard_model(shared.model, (), shared.materialize, dtype)
    yield shared.model
    world.barrier()
    if world.is_first:
        shutil.rmtree(folder)


def measured_copy(model: Any, types: Mapping[str, torch.dtype], device: str) -> Any:
    """Return a model on the device; if it is in CPU memory, a copy in the dtypes it is saved in.

    Quantised training leaves its result in CPU memory, in float32. A GPU that trained it in 4 bits
    need not have room for float32, but it evaluates the finished model in its saved dtypes anyway.
    """
    parameters = dict(model.named_parameters())
    if all(one.device.type == torch.device(device).type for one in parameters.values()):
        return model

    def stored(name: str, parameter: torch.Tensor) -> torch.Tensor:
        return parameter.to(types.get(name, parameter.dtype)).to(device)

    return copy_model(model, stored).to(device)


def copy_model(model: Any, convert: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    """Return a copy of a model with converted parameters; buffers are copied."""
    # Of the parameters, `deepcopy` takes these copies: a tied weight stays one.
    copies: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        converted = convert(name, parameter.detach())
        copies[id(parameter)] = torch.nn.Parameter(converted, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, copies)


def recompute_activations(model: Any) -> None:
    """Turn on activation checkpointing; raises `ModelError` where the model has none."""
    if not model.supports_gradient_checkpointing:
        msg = f"--recompute: {type(model).__name__} cannot recompute activations; leave it out"
        raise ModelError(msg)
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def keep_activations(model: Any) -> None:
    """Turn off activation checkpointing, where a phase before has turned it on."""
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        disable = getattr(model, "activation_checkpointing_disable", None)
        (disable or model.gradient_checkpointing_disable)()
