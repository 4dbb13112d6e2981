"""Learning-rate schedules: a factor between 0 and 1 for each step of a phase."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import Field

from lingraft.registry import Choice, Registry


class Schedule(Choice, ABC):
    """A learning-rate schedule with linear warm-up."""

    warmup: float = Field(
        default=0.03,
        ge=0,
        description="below 1: share of the steps with a rising learning rate; from 1: number of "
        "steps, at most half of all",
    )

    def rise(self, steps: int) -> int:
        """Return the number of warm-up steps of `steps` steps.

        >>> Cosine(warmup=0.03).rise(1000), Cosine(warmup=50).rise(1000)
        (30, 50)
        >>> Cosine(warmup=50).rise(60)
        30
        """
        if self.warmup < 1:
            return math.ceil(self.warmup * steps)
        # A short run would otherwise never reach the peak.
        return min(round(self.warmup), steps // 2)

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the peak learning rate in `step` (from 0) of `steps`.

        >>> [round(Cosine(warmup=0.5).factor(step, 4), 3) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        rise = self.rise(steps)
        if step < rise:
            return (step + 1) / rise
        return self.after_warmup((step - rise) / max(steps - rise, 1))

    def shared_steps(self, steps: int) -> int:
        """Return how many first steps are the same in every longer phase with the same warm-up."""
        del steps
        return 0

    @abstractmethod
    def after_warmup(self, done: float) -> float:
        """Return the factor after the share `done` (0 to below 1) of the steps after warm-up."""


SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register
class Cosine(Schedule):
    """Half a cosine down to `final_factor`."""

    name: ClassVar[str] = "cosine"
    reference: ClassVar[str] = "Loshchilov and Hutter 2017, arXiv 1608.03983"

    final_factor: float = Field(
        default=0.0, ge=0, le=1, description="last learning rate as a share of the peak"
    )

    def after_warmup(self, done: float) -> float:
        """Fall slowly, fast, slowly."""
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * done))


@SCHEDULES.register
class Linear(Schedule):
    """A straight line down to `final_factor`."""

    name: ClassVar[str] = "linear"

    final_factor: float = Field(
        default=0.0, ge=0, le=1, description="last learning rate as a share of the peak"
    )

    def after_warmup(self, done: float) -> float:
        """Fall evenly."""
        return 1 - (1 - self.final_factor) * done


@SCHEDULES.register
class Constant(Schedule):
    """No change after the warm-up."""

    name: ClassVar[str] = "constant"

    def after_warmup(self, done: float) -> float:  # noqa: ARG002 - it is constant
        """Stay."""
        return 1.0

    def shared_steps(self, steps: int) -> int:
        """Return all."""
        return steps


@SCHEDULES.register
class Wsd(Schedule):
    """Warm-up, stable, decay: constant, then a fall to `final_factor` over the last steps.

    The warm-up is a number of steps, so that runs of any length start the same: a longer run
    continues from the state of a shorter one before its decay.
    """

    name: ClassVar[str] = "wsd"
    reference: ClassVar[str] = (
        "Hu et al. 2024 (MiniCPM), arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392"
    )

    warmup: float = Field(
        default=20,
        ge=0,
        description="number of steps with a rising learning rate, at most half of all; below 1: "
        "their share, and runs of other lengths share no prefix",
    )
    decay_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of the steps after the warm-up in which the learning rate falls",
    )
    final_factor: float = Field(
        default=0.0, ge=0, le=1, description="last learning rate as a share of the peak"
    )

    def after_warmup(self, done: float) -> float:
        """Stay, then fall with 1 - sqrt."""
        fallen = max(0.0, (done - (1 - self.decay_share)) / self.decay_share)
        return self.final_factor + (1 - self.final_factor) * (1 - math.sqrt(fallen))

    def shared_steps(self, steps: int) -> int:
        """Return the steps before the fall."""
        for step in range(self.rise(steps), steps):
            if self.factor(step, steps) < 1:
                return step
        return steps
