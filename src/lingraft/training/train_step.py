"""One optimiser step: forward and backward over a batch, clipping, AdamW. MetaModel: B rows, T tokens, P predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import IGNORED, Batch, positions_of
from lingraft.strategies.base import Group, Rates
from lingraft.training.checkpointing import TrainingCheckpoint
from lingraft.training.config import Phase
from lingraft.training.distributed import ProcessGroup, full_tensor
from lingraft.training.execution import Execution
from lingraft.training.loss import Loss
from lingraft.training.optimizer import Average, begin_state, make_optimizer, state_of, take_numbers


@dataclass(frozen=True)
class StepResult:
    """`bits` are those of the text alone, without separators, `replayed_bits` the part of it that is replay.

    `nats_a_token` is the loss that was minimised, separators included.
    """

    bits: float
    replayed_bits: float
    nats_a_token: float
    gradient_norm: float


class Stepper:
    """A model with the optimiser of a phase; `apart` keeps the documents of a row apart."""

    def __init__(self, model: Any, groups: Sequence[Group], rates: Rates, *, phase: Phase, steps: int,
                 execution: Execution, text: Blocks, world: ProcessGroup, loss: Loss, apart: bool = False) -> None:
        self.model, self.rates, self.clip = model, rates, phase.max_grad_norm
        self.parameters = {name: p for group in groups for name, p in group.parameters.items()}
        self.peaks = [getattr(rates, group.role) for group in groups]
        settings = [{"params": list(group.parameters.values())} for group in groups]
        kind = execution.device.split(":")[0]
        self.sum_type = torch.float32 if kind == "mps" else torch.float64  # Apple's devices have no float64
        self.optimiser = make_optimizer(phase.optimizer, settings, weight_decay=phase.weight_decay,
                                      fused=world.size == 1 and kind in {"cpu", "cuda"}, sharded=world.size > 1)
        self.average = Average(self.parameters, round(phase.average_share * steps)) if phase.average_share else None
        self.loss = loss
        self.world, self.device, self.tokens_at_once = world, execution.device, execution.tokens_at_once
        self.opening = text.opening if apart else None
        self.separators = torch.tensor(text.no_text, device=self.device)

    def forward_backward(self, batch: Batch) -> StepResult:
        """Leave the clipped gradient of the mean loss of a batch in the parameters."""
        predicted = int((batch.labels != IGNORED).sum())
        rows = max(1, self.tokens_at_once // batch.inputs.shape[1])
        sums = torch.zeros(3, dtype=self.sum_type, device=self.device)
        own = self.world.shard_batch(batch)
        weight = self.world.size / predicted  # gradients are averaged over the processes
        for first in range(0, len(own.inputs), rows):
            sums += self._part(own, slice(first, first + rows), weight)
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip))
        nats, text, replayed = self.world.all_reduce(sums).tolist()
        return StepResult(text / math.log(2), replayed / math.log(2), nats / predicted, float(norm))

    def _part(self, batch: Batch, rows: slice, weight: float) -> Tensor:
        """Run some rows; return the sums of all nats, of those of text, and of those of replayed text."""
        labels_BT = torch.from_numpy(batch.labels[rows]).to(self.device)
        inputs = {"input_ids": torch.from_numpy(batch.inputs[rows]).to(self.device)}
        if self.opening is not None:
            inputs["position_ids"] = torch.from_numpy(positions_of(batch.inputs[rows], self.opening)).to(self.device)
        nats_P = self.loss.backward(inputs, labels_BT, weight).to(self.sum_type)
        predicted_BT = labels_BT != IGNORED
        text_P = nats_P * ~torch.isin(labels_BT[predicted_BT], self.separators)
        replayed = np.broadcast_to(batch.replayed[rows, None], batch.labels[rows].shape).copy()
        replayed_P = torch.from_numpy(replayed).to(self.device)[predicted_BT]
        return torch.stack([nats_P.sum(), text_P.sum(), (text_P * replayed_P).sum()])

    def update(self, step: int, factor: float) -> None:
        """Move the parameters; `step` counts within the phase, `factor` is the schedule's."""
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(step)

    def close(self) -> None:
        """End the phase: put the averaged weights in place, where an average is kept."""
        if self.average:
            self.average.put()

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint holds: the parameters that train, the optimiser's state, the averages.

        Of a sharded model they are this process's shards.
        """
        means = self.average.means if self.average else {}
        return {**{f"parameter/{name}": parameter.detach() for name, parameter in self.parameters.items()},
                **state_of(self.optimiser, self.parameters),
                **{f"average/{name}": mean for name, mean in means.items()}}

    def load(self, checkpoint: TrainingCheckpoint) -> None:
        """Go back to what `tensors` returned."""
        begin_state(self.optimiser)
        tensors = self.tensors()
        checkpoint.read(tensors)
        take_numbers(self.optimiser, self.parameters, tensors)
