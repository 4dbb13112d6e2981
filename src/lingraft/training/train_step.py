"""One optimizer step: forward and backward over a batch, gradient clipping, AdamW.

Shapes: B sequences, T tokens, P predicted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import IGNORED, Batch
from lingraft.packing.shards import Integers
from lingraft.strategies.base import ParameterGroup, Rates
from lingraft.training.checkpointing import TrainingCheckpoint
from lingraft.training.column_shield import ColumnShield
from lingraft.training.compiled_layers import StepCompiler
from lingraft.training.config import Phase
from lingraft.training.distributed import (
    ProcessGroup,
    full_tensor,
    reduces_once,
    set_gradient_reduction,
)
from lingraft.training.document_attention import DocumentAttention
from lingraft.training.execution import Execution
from lingraft.training.loss import Loss
from lingraft.training.optimizer import (
    WeightAverage,
    init_state,
    make_optimizer,
    restore_numbers,
    set_learning_rate,
    state_tensors,
)
from lingraft.training.reference_model import ReferenceModel


@dataclass(frozen=True)
class StepResult:
    """The losses of a step, before its update.

    `nats_a_token` is the minimised loss: the mean over all predicted tokens, separators included.
    `text_bits` has a sum for each text (the targets, then replay), over its tokens without
    separators. `replay_kl` is the mean divergence from the reference model on replay text, in nats
    per token.
    """

    text_bits: tuple[float, ...]
    nats_a_token: float
    gradient_norm: float
    replay_kl: float | None = None


def random_state(device: str) -> tuple[Tensor, ...]:
    """Return the states of the random generators of the CPU and of a GPU."""
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.startswith("cuda") else (cpu,)


def set_random_state(device: str, state: tuple[Tensor, ...]) -> None:
    """Set what `random_state` returned."""
    torch.set_rng_state(state[0])
    for of_gpu in state[1:]:
        torch.cuda.set_rng_state(of_gpu, device)


class Stepper:
    """Runs the steps of a phase: the model, its loss, and the optimizer of the trained parameters.

    `groups` are the parameters that train, `rates` their peak learning rates. `attention` keeps the
    documents of a sequence apart, `compiler` compiles layers. `frozen` masks what is kept of the
    parameters.
    """

    def __init__(
        self,
        model: Any,
        groups: Sequence[ParameterGroup],
        rates: Rates,
        *,
        phase: Phase,
        steps: int,
        execution: Execution,
        text: Blocks,
        world: ProcessGroup,
        loss: Loss,
        attention: DocumentAttention | None = None,
        compiler: StepCompiler | None = None,
        frozen: Mapping[str, Tensor] | None = None,
        reference: ReferenceModel | None = None,
    ) -> None:
        self.model, self.rates, self.loss, self.world = model, rates, loss, world
        self.reference = reference
        self.max_grad_norm = math.inf if phase.max_grad_norm is None else phase.max_grad_norm
        self.device = execution.device
        self.parameters = {
            name: parameter for group in groups for name, parameter in group.parameters.items()
        }
        self.peaks = [getattr(rates, group.role) for group in groups]
        kind = execution.device.split(":")[0]
        # Apple's GPUs have no float64.
        self.sum_type = torch.float32 if kind == "mps" else torch.float64
        self.shield = ColumnShield(self.parameters, frozen) if frozen else None
        self.weight_decay = phase.weight_decay
        self.optimizer = make_optimizer(
            phase.optimizer,
            [{"params": list(group.parameters.values())} for group in groups],
            # The weight decay of an optimizer would change what is frozen.
            weight_decay=0.0 if self.shield else phase.weight_decay,
            sharded=world.size > 1,
            fused=kind in {"cpu", "cuda"},
        )
        # Processes may have different GPUs, but all must reduce in the same micro-batches.
        alone = not reduces_once(self.parameters.values(), execution.device)
        self.reduces_once = not world.any_rank(alone, execution.device)
        self.average: WeightAverage | None = None
        if phase.average_share:
            self.average = WeightAverage(self.parameters, round(phase.average_share * steps))
        self.tokens_at_once = execution.tokens_at_once
        self.attention = attention
        self.compiler = compiler
        self.compiled = compiler.step if compiler else nullcontext
        self.attends = attention.applied if attention else nullcontext
        self.separators = torch.tensor(text.non_text_ids, device=self.device)

    def forward_backward(self, batch: Batch) -> StepResult:
        """Compute the gradient of the mean loss of a batch, clip it, and return the losses."""
        predicted = int((batch.labels != IGNORED).sum())
        own = self.world.shard_batch(batch)
        # The loss is a mean over the tokens of all processes. FSDP divides the sum of the gradients
        # by the number of processes, so the weight multiplies by it.
        weight = self.world.size / predicted
        # A step that is computed again draws the same dropout.
        drawn, again = random_state(self.device), False
        try:
            nats, *texts = self._pass_all(own, weight)
        except Exception as error:
            if not (self.compiler and self.compiler.falls_back(error)):
                raise
            again = True
        # Outside of the handler, whose error keeps the tensors of the failed passes in memory.
        if again:
            self.optimizer.zero_grad(set_to_none=True)
            if self.reference:
                self.reference.take()
            set_random_state(self.device, drawn)
            nats, *texts = self._pass_all(own, weight)
        parameters = self.parameters.values()
        if self.shield:
            self.shield.mask_gradients()
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
        divergence = self.reference.take() if self.reference else None
        bits = tuple(text / math.log(2) for text in texts)
        return StepResult(bits, nats / predicted, float(norm), divergence)

    def _pass_all(self, own: Batch, weight: float) -> list[float]:
        """Compute the gradient of the sequences of this process.

        Returns sums of nats over all processes: of all tokens, then of those of each text.
        """
        at_once = max(1, self.tokens_at_once // own.inputs.shape[1])
        sums = torch.zeros(1 + len(own.text_bytes), dtype=self.sum_type, device=self.device)
        with self.compiled(), self.attends():
            for first in range(0, len(own.inputs), at_once):
                last = first + at_once >= len(own.inputs)
                set_gradient_reduction(self.model, enabled=last or not self.reduces_once)
                part = np.arange(first, min(first + at_once, len(own.inputs)))
                # Only replay sequences have the second term, so that they are a pass of their own.
                for rows in self._passes(own, part):
                    sums += self._part(own, rows, weight)
            # This waits for the device, so that the block has the time of the passes.
            totals: list[float] = self.world.all_reduce(sums).tolist()
        return totals

    def _passes(self, batch: Batch, part: Integers) -> list[Integers]:
        """Split sequences into those without and those with the divergence from the reference."""
        if self.reference is None:
            return [part]
        replayed = batch.replayed[part]
        return [rows for rows in (part[~replayed], part[replayed]) if len(rows)]

    def _part(self, batch: Batch, part: Integers, weight: float) -> Tensor:
        """Compute the gradient of a part of a batch; return sums of nats: all, each text.

        `weight` multiplies the gradient of each predicted token.
        """
        labels_BT = torch.from_numpy(batch.labels[part]).to(self.device)
        inputs = {"input_ids": torch.from_numpy(batch.inputs[part]).to(self.device)}
        if self.attention:
            inputs["position_ids"] = self.attention.positions(batch.inputs[part]).to(self.device)
        reference = self.reference if batch.replayed[part].any() else None
        nats_P = self.loss.backward(inputs, labels_BT, weight, reference).to(self.sum_type)
        predicted_BT = labels_BT != IGNORED
        text_P = nats_P * ~torch.isin(labels_BT[predicted_BT], self.separators)
        texts_P = torch.from_numpy(batch.texts[part]).to(self.device)
        texts_P = texts_P[:, None].expand_as(labels_BT)[predicted_BT]
        of_texts = [(text_P * (texts_P == text)).sum() for text in range(len(batch.text_bytes))]
        return torch.stack([nats_P.sum(), *of_texts])

    def update(self, step: int, factor: float) -> None:
        """Update the parameters at `factor` of the peak learning rates; `step` is of the phase."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            set_learning_rate(group, peak * factor)
            if self.shield:
                self.shield.decay(group["params"], peak * factor * self.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(step)

    def close(self) -> None:
        """End the phase: if it averages weights, copy the averages into the model."""
        if self.average:
            self.average.apply()

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint stores: trained parameters, optimizer state, weight averages.

        For a sharded model, these are the shards of this process.
        """
        stored = {
            f"parameter/{name}": parameter.detach() for name, parameter in self.parameters.items()
        }
        stored |= state_tensors(self.optimizer, self.parameters)
        if self.average:
            stored |= {f"average/{name}": mean for name, mean in self.average.means.items()}
        return stored

    def load(self, checkpoint: TrainingCheckpoint) -> None:
        """Read the tensors of a checkpoint into the parameters, the optimizer and the averages."""
        # Tensors are read in place, and AdamW creates the state of a parameter only in its first
        # step with a gradient. Text gives none to layers that attend to images (Mllama).
        stored, named = checkpoint.names(), self.parameters.items()
        init_state(self.optimizer, [one for name, one in named if f"step/{name}" in stored])
        tensors = self.tensors()
        checkpoint.read(tensors)
        restore_numbers(self.optimizer, self.parameters, tensors)
