"""Learning-rate schedules: a factor (0 to 1) of the peak learning rate for each step of a phase."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import Field

from lingraft.formatting import percent
from lingraft.registry import Choice, Registry

MIN_WARMUP = 5
"""The least number of warm-up steps, if the warm-up is a share of the steps."""

MIN_WARMUP_SHARE = 0.01
"""A warm-up of a smaller share of the steps gives a warning."""


FINAL_FACTOR = (
    "share of the peak to which the learning rate falls; the step after the last one would have it"
)


class Schedule(Choice, ABC):
    """A learning-rate schedule with linear warm-up."""

    warmup: float = Field(
        default=0.03,
        ge=0,
        description="below 1: share of the steps with a rising learning rate, at least 5 steps or "
        "half of all; from 1: number of steps, at most half of all. 0: no warm-up",
    )

    def rise(self, steps: int) -> int:
        """Return the number of warm-up steps in a phase of `steps` steps.

        A share may be more than half of the steps: unlike a number, it is meant for every length.

        >>> Cosine(warmup=0.03).rise(1000), Cosine(warmup=50).rise(1000)
        (30, 50)
        >>> Cosine(warmup=50).rise(60), Cosine(warmup=0.03).rise(60), Cosine(warmup=0.03).rise(6)
        (30, 5, 3)
        >>> Cosine(warmup=0.9).rise(100)
        90
        """
        # A short run would otherwise never reach the peak, by a number of steps or by MIN_WARMUP.
        half = steps // 2
        if self.warmup >= 1:
            return min(round(self.warmup), half)
        # AdamW's second moments are estimates over few steps at first, so that 1 or 2 steps of
        # warm-up are as good as none.
        least = MIN_WARMUP if self.warmup else 0
        return max(math.ceil(self.warmup * steps), min(least, half))

    def rise_reason(self, steps: int) -> str:
        """Return why a phase of `steps` steps has so many warm-up steps.

        >>> Cosine(warmup=0.03).rise_reason(1000), Cosine(warmup=0.03).rise_reason(60)
        ('3% of the steps', 'at least 5 steps')
        >>> Cosine(warmup=0.03).rise_reason(3), Cosine(warmup=0.4).rise_reason(3)
        ('at most half of the steps', '40% of the steps')
        """
        if not self.warmup:
            return "none is set"
        rise, half = self.rise(steps), steps // 2
        if self.warmup >= 1:
            return "at most half of the steps" if rise < self.warmup else "a number of steps"
        if rise == half < MIN_WARMUP and self.warmup * steps < half:
            return "at most half of the steps"
        if rise == math.ceil(self.warmup * steps):
            return f"{percent(self.warmup)} of the steps"
        return f"at least {MIN_WARMUP} steps"

    def short_warmup(self, steps: int) -> str | None:
        """Return what to set if the warm-up of a phase of `steps` steps is short.

        >>> Wsd().short_warmup(2000), Cosine().short_warmup(9), Cosine(warmup=0).short_warmup(9)
        (None, None, None)
        >>> Wsd().short_warmup(3000), Cosine(warmup=0.004).short_warmup(3000)
        ('schedule.wsd.warmup: 30', 'schedule.cosine.warmup: 0.01')
        """
        least = min(max(MIN_WARMUP, math.ceil(MIN_WARMUP_SHARE * steps)), steps // 2)
        if not self.warmup or self.rise(steps) >= least:
            return None
        return f"schedule.{self.name}.warmup: {least if self.warmup >= 1 else MIN_WARMUP_SHARE}"

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
        """Return the number of first steps whose factor is the same in every longer phase.

        The number of warm-up steps must be the same. By default no step is shared, because most
        schedules depend on the length from the start.
        """
        del steps
        return 0

    @abstractmethod
    def after_warmup(self, done: float) -> float:
        """Return the factor at `done`, the share of the steps after warm-up (0 to below 1)."""


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule)


@SCHEDULES.register
class Cosine(Schedule):
    """Half a period of a cosine, from the peak to `final_factor`."""

    name: ClassVar[str] = "cosine"
    reference: ClassVar[str] = "Loshchilov and Hutter 2017, arXiv 1608.03983"

    final_factor: float = Field(default=0.0, ge=0, le=1, description=FINAL_FACTOR)

    def after_warmup(self, done: float) -> float:
        """Follow half a period of a cosine."""
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * done))


@SCHEDULES.register
class Linear(Schedule):
    """A straight line from the peak to `final_factor`."""

    name: ClassVar[str] = "linear"

    final_factor: float = Field(default=0.0, ge=0, le=1, description=FINAL_FACTOR)

    def after_warmup(self, done: float) -> float:
        """Follow a straight line."""
        return 1 - (1 - self.final_factor) * done


@SCHEDULES.register
class Constant(Schedule):
    """The peak learning rate in every step after the warm-up."""

    name: ClassVar[str] = "constant"

    def after_warmup(self, done: float) -> float:  # noqa: ARG002 - it is constant
        """Return 1."""
        return 1.0

    def shared_steps(self, steps: int) -> int:
        """Return all steps: no factor depends on the length."""
        return steps


@SCHEDULES.register
class Wsd(Schedule):
    """Warm-up, stable, decay: the peak, then a decay to `final_factor` in the last steps.

    The warm-up is a number of steps and not a share, so the steps before the decay are the same for
    every length. A longer run can continue from the state of a shorter one before its decay. In the
    decay, the learning rate falls by the square root of the share of the decay that is done.
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
    final_factor: float = Field(default=0.0, ge=0, le=1, description=FINAL_FACTOR)

    def after_warmup(self, done: float) -> float:
        """Return 1, then 1 - sqrt of the share of the decay that is done."""
        # 1 - sqrt is the shape that Hägele et al. 2024 recommend.
        fallen = max(0.0, (done - (1 - self.decay_share)) / self.decay_share)
        return self.final_factor + (1 - self.final_factor) * (1 - math.sqrt(fallen))

    def shared_steps(self, steps: int) -> int:
        """Return the number of steps before the decay."""
        for step in range(self.rise(steps), steps):
            if self.factor(step, steps) < 1:
                return step
        return steps
