"""The model of a phase: load it whole or sharded, check it, and gather it after the phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import ModelError
from lingraft.training.distributed import copy_into, full_tensor
from lingraft.training.job import Job
from lingraft.training.sharded_loading import MetaModel, NotByShardsError


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

    It is whole for one process, or ready to be sharded.
    """
    folder, device = job.folder(number, iteration), job.execution.device
    if sharded and job.plan.phases:
        return load_sharded(folder, device, whole=job.plan.phases[number].strategy.full_load_reason)
    return PhaseModel(*load_for_training(folder, device))


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


def recompute_activations(model: Any) -> None:
    """Turn on activation checkpointing; raises `ModelError` where the model has none."""
    if not model.supports_gradient_checkpointing:
        msg = f"--recompute: {type(model).__name__} cannot recompute activations; leave it out"
        raise ModelError(msg)
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
