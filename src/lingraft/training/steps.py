"""One optimiser step: forward and backward over a batch, clipping, AdamW. Shapes: B rows, T tokens, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lingraft.packing.mixture import IGNORED, Batch
from lingraft.strategies.base import Group, Rates
from lingraft.training.execution import Execution
from lingraft.training.plan import Phase

BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class StepResult:
    """`bits` are those of the text alone, without separators; `nats_a_token` is the loss that was minimised."""

    bits: float
    nats_a_token: float
    gradient_norm: float


class Stepper:
    """A model with the optimiser of a phase."""

    def __init__(self, model: Any, groups: Sequence[Group], rates: Rates, *, phase: Phase,
                 execution: Execution, separators: Sequence[int]) -> None:
        self.model, self.rates, self.clip = model, rates, phase.clip
        self.parameters = {name: p for group in groups for name, p in group.parameters.items()}
        self.peaks = [getattr(rates, group.role) for group in groups]
        settings = [{"params": list(group.parameters.values())} for group in groups]
        self.optimiser = torch.optim.AdamW(settings, lr=0.0, betas=BETAS, weight_decay=phase.weight_decay,
                                           fused=execution.device.split(":")[0] in {"cpu", "cuda"})
        self.device, self.tokens_at_once = execution.device, execution.tokens_at_once
        self.autocast = execution.computes_in_bfloat16()
        self.separators = torch.tensor(sorted(separators), device=self.device)

    def forward_backward(self, batch: Batch) -> StepResult:
        """Leave the clipped gradient of the mean loss of a batch in the parameters."""
        inputs, labels = torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels)
        predicted = int((labels != IGNORED).sum())
        rows = max(1, self.tokens_at_once // inputs.shape[1])
        nats, text_nats = 0.0, 0.0
        for inputs_BT, labels_BT in zip(torch.split(inputs, rows), torch.split(labels, rows), strict=True):
            nats_BT = self._nats(inputs_BT.to(self.device), labels_BT.to(self.device))
            nats_BT.sum().div(predicted).backward()  # type: ignore[no-untyped-call]
            is_text = ~torch.isin(labels_BT.to(self.device), self.separators)
            nats += float(nats_BT.detach().sum())
            text_nats += float((nats_BT.detach() * is_text).sum())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        return StepResult(text_nats / math.log(2), nats / predicted, float(norm))

    def update(self, factor: float) -> None:
        """Move the parameters; `factor` is the schedule's."""
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _nats(self, inputs_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """Return the loss of each label, 0 where there is none."""
        with torch.autocast(inputs_BT.device.type, torch.bfloat16, enabled=self.autocast):
            logits_BTV = self.model(input_ids=inputs_BT, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), labels_BT.flatten(),
                                                 ignore_index=IGNORED, reduction="none").view_as(labels_BT)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint holds: the parameters that train, and the optimiser's state of each."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            found[f"parameter/{name}"] = parameter
            for key, value in self.optimiser.state[parameter].items():
                found[f"{key}/{name}"] = value
        return found

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what `tensors` returned."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            self.optimiser.state[parameter] = {
                key: tensors[f"{key}/{name}"].to(parameter.device if key != "step" else "cpu", copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")}
