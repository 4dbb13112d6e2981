"""Opening the model that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import ModelError
from lingraft.packing.mixture import positions_of
from lingraft.training.distributed import copy_into, full_tensor
from lingraft.training.job import Job
from lingraft.training.sharded_loading import MetaModel, NotByShardsError


@dataclass(frozen=True)
class Opened:
    """A model ready to train, the data types that its parameters had, and how it was come by.

    `shapes`, where there are some, still have to be filled once the model is shared out.
    """

    model: Any
    types: dict[str, torch.dtype]
    way: str = "whole"
    shapes: MetaModel | None = None

    def materialize(self) -> None:
        """Read this process's shards, where they were not read yet."""
        if self.shapes:
            self.shapes.materialize()


def open_phase(job: Job, number: int, *, shared: bool) -> Opened:
    """Open the model that a phase begins with, for one process or to be `shared` among several."""
    folder, device = job.folder(number), job.execution.device
    if shared and job.plan.phases:
        return open_shared(folder, device, whole=job.plan.phases[number].strategy.reads_whole)
    return Opened(*load_for_training(folder, device))


def open_shared(folder: Path, device: str, *, whole: str = "") -> Opened:
    """Open a model that several processes are about to share out; `whole` is a reason to open it whole at once."""
    if not whole:
        try:
            shapes = MetaModel.open(folder)
        except NotByShardsError as error:
            whole = str(error)
        else:
            return Opened(shapes.model.train(), shapes.types, "shard by shard", shapes)
    model, types = load_for_training(folder, device)
    return Opened(model, types, f"whole by every process: {whole}")


def gather_model(job: Job, number: int, shards: Mapping[str, torch.Tensor], *, first: bool) -> Any:
    """Return, in the `first` process, the model that a phase began with, with what its strategy trained, whole.

    Every process has to call it, and sends its shard of one parameter after the other.
    """
    strategy = job.plan.phases[number].strategy
    model = load_for_training(job.folder(number))[0] if first else None
    own = {name: parameter for group in (strategy.prepare(model, job.added) if model else ())
           for name, parameter in group.parameters.items()}
    for name, shard in shards.items():
        value = full_tensor(shard)
        if first:
            copy_into(own[name], value.cpu())
    return model


@torch.no_grad()
def check_apart(model: Any, opening: int) -> None:
    """Raise `ModelError` where a change in one document moves the logits of the next one in the same row."""
    size = model.get_input_embeddings().weight.shape[0]
    rows = torch.tensor([[opening, 2 % size, 3 % size, opening, 4 % size, 5 % size],
                         [opening, 6 % size, 7 % size, opening, 4 % size, 5 % size]])
    positions = torch.from_numpy(positions_of(rows.numpy(), opening))
    training = model.training
    model.eval()
    logits = model(input_ids=rows.to(model.device), position_ids=positions.to(model.device), use_cache=False).logits
    model.train(training)
    if not torch.equal(logits[0, 3:], logits[1, 3:]):
        msg = (f"{type(model).__name__} does not keep the documents of a row apart: the attention of one reaches into "
               f"the next; leave out training.document_attention_mask, or use training.packing.layout: documents")
        raise ModelError(msg)


def recompute_activations(model: Any) -> None:
    """Have the layers keep their inputs only; raises `ModelError` where transformers cannot."""
    if not model.supports_gradient_checkpointing:
        msg = f"{type(model).__name__} cannot recompute activations; leave that setting out"
        raise ModelError(msg)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
