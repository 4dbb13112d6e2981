"""Check the later phases before the first step, so that none fails after hours of training.

The first phase is set up before its first step anyway. A later one is set up on a copy of the model
on the meta device, which has shapes and no weights: that takes no memory and little time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lingraft.strategies import Shielded, Strategy
from lingraft.training.column_shield import base_language_text, shielded_parameters
from lingraft.training.job import Job
from lingraft.training.optimizer import execution_with, make_optimizer
from lingraft.training.phase_steps import PhaseSteps
from lingraft.training.prepare_model import check_quantises, copy_model
from lingraft.training.reference_model import check_reference


def check_phases(job: Job, phases: Sequence[PhaseSteps], model: Any, processes: int) -> None:
    """Raise the error that a later phase or the end of the training would raise.

    That is `RecipeError`, `MissingExtraError` or `TrainingError`. `model` does not change.
    """
    for phase, steps in list(zip(job.plan.phases, phases, strict=True))[1:]:
        execution = execution_with(phase.optimizer, job.execution)
        check_quantises(phase.strategy, sharded=processes > 1)
        check_reference(phase.replay_kl, steps.mixture.replay, processes)
        # Refuses several processes, or a package that is missing.
        group = {"params": [nn.Parameter(torch.zeros(1))]}
        make_optimizer(
            phase.optimizer, [group], weight_decay=0.0, fused=False, sharded=processes > 1
        )
        if isinstance(phase.strategy, Shielded):
            base_language_text(job.text)
        _check_model(phase.strategy, on_meta(model), job.added, execution.device)


def on_meta(model: Any) -> Any:
    """Return a copy of a model whose parameters are on the meta device; buffers are copied."""
    return copy_model(model, lambda _, parameter: torch.empty_like(parameter, device="meta"))


def _check_model(strategy: Strategy, model: Any, added: Sequence[int], device: str) -> None:
    strategy.check(model, device)
    groups = strategy.prepare(model, added)
    if isinstance(strategy, Shielded):
        body = [name for group in groups if group.role == "body" for name in group.parameters]
        shielded_parameters(model, body)
