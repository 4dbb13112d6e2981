"""The memory of a training before it has run, and whether it would recompute activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lingraft.errors import RecipeError
from lingraft.pipeline.model_shape import Shape, model_of
from lingraft.recipe import Recipe, Runtime
from lingraft.training.config import Phase
from lingraft.training.execution import Execution
from lingraft.training.optimizer_memory import describe_memory, state_bytes
from lingraft.training.phase_outline import CountedSteps
from lingraft.training.step_memory import (
    available_memory,
    computes_in,
    micro_tokens,
    step_memory,
)


@dataclass(frozen=True)
class PlannedMemory:
    """The memory of the training of a recipe.

    `shape` is that of the adapted model, with so many `added` tokens. `loaded_bytes` are those of a
    parameter of a model that is loaded to run.
    """

    recipe: Recipe
    runtime: Runtime
    shape: Shape
    added: int
    loaded_bytes: float

    @cached_property
    def _model(self) -> Any | None:
        """The model of the base without weights; None if its code must not run here."""
        return model_of(dict(self.recipe.model.config() or {}))

    @cached_property
    def inserted(self) -> list[tuple[int, float]]:
        """`Strategy.inserted_weights` of each phase; 0 for models whose code must not run here."""
        strategies = [phase.strategy for phase in self.recipe.training.phases]
        if not any(strategy.has_adapter for strategy in strategies) or self._model is None:
            return [(0, 0.0)] * len(strategies)
        return [strategy.inserted_weights(self._model) for strategy in strategies]

    @property
    def line(self) -> str:
        """The memory of weights, gradients and moments in one line; "" if it is small."""
        phases = self.recipe.training.phases
        if not phases or not self.shape.parameters:
            return ""
        states = [(self._states(number), phase.optimizer) for number, phase in enumerate(phases)]
        reference = max(map(self._reference_bytes, phases))
        memory = describe_memory(states, reference, self._processes)
        adapters = any(phase.strategy.has_adapter for phase in phases)
        if memory and adapters and not any(matrices for matrices, _ in self.inserted):
            memory += ", and so do the low-rank matrices"
        return memory

    def recomputes(self, steps: Sequence[CountedSteps] | None, block: int) -> tuple[bool, str]:
        """Return whether the training would recompute activations by itself, and the line about it.

        `steps` are those of each phase, over sequences of at most `block` tokens.
        """
        if not steps or not self.shape.parameters or self.runtime.recompute is not None:
            return False, ""
        try:
            device = self.runtime.available_device()
        except RecipeError:
            return False, ""  # a plan for another machine, whose memory is not known here
        available, processes = available_memory(device), self._processes
        if available is None:
            return False, ""
        execution = Execution(device=device, precision=self.runtime.precision)
        for number, phase in enumerate(self.recipe.training.phases):
            memory = step_memory(
                self.shape.sizes,
                self._states(number) + self._reference_bytes(phase),
                micro_tokens(steps[number].sequences_per_step, block, processes),
                trained=self._trained(number),
                devices=processes,
                in_4_bits=self._in_4_bits(number),
                computes=computes_in(phase.optimizer, execution, processes),
                device_memory=available,
            )
            if memory.recompute_line(available):
                able = self._model is None or self._model.supports_gradient_checkpointing
                unable = "" if able else type(self._model).__name__
                return bool(able), memory.recompute_line(available, unable)
        return False, ""

    def _trained(self, number: int) -> float:
        """Return how many parameters train in a phase."""
        shape, strategy = self.shape, self.recipe.training.phases[number].strategy
        rows = strategy.trained_rows(shape.rows, self.added) / max(1, shape.rows)
        of_body = strategy.trained_body_share(shape.layers) * shape.body
        matrices, _ = self.inserted[number]
        trained: float = of_body + rows * (shape.parameters - shape.body) + matrices
        return trained

    def _states(self, number: int) -> float:
        """Return the bytes of weights, gradients and moments in a phase."""
        phase, trained = self.recipe.training.phases[number], self._trained(number)
        frozen = self.shape.parameters + self.inserted[number][0] - trained
        return state_bytes(phase.optimizer, trained, frozen, self._in_4_bits(number))

    def _in_4_bits(self, number: int) -> int:
        strategy = self.recipe.training.phases[number].strategy
        return strategy.packed_weights(self._model) if strategy.has_adapter and self._model else 0

    def _reference_bytes(self, phase: Phase) -> float:
        """Return the bytes of the model before training, if a phase compares with it."""
        return self.loaded_bytes * self.shape.parameters if phase.replay_kl else 0.0

    @property
    def _processes(self) -> int:
        return self.runtime.launch.size if self.runtime.launch else 1
