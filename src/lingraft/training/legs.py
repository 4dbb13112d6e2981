"""A phase worked out for given text and a given model: how many rows, how many steps, which row where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lingraft.packing.mixture import Batch, Mixture
from lingraft.training.budget import Budget

CHUNK = 65536


@dataclass(frozen=True)
class Leg:
    """A phase of `rows` rows, `rows_of_a_step` at a time; the last step may take fewer."""

    mixture: Mixture
    rows: int
    rows_of_a_step: int

    @property
    def steps(self) -> int:
        """The number of optimiser steps."""
        return math.ceil(self.rows / self.rows_of_a_step)

    def batch(self, step: int) -> Batch:
        """Return the rows of a step (from 0)."""
        first = step * self.rows_of_a_step
        return self.mixture.batch(first, min(self.rows_of_a_step, self.rows - first))


def leg_of(mixture: Mixture, budget: Budget, rows_of_a_step: int) -> Leg:
    """Return the leg that first reaches the budget, to the row."""
    unit, amount = budget.amount
    if unit == "steps":
        return Leg(mixture, int(amount) * rows_of_a_step, rows_of_a_step)
    if unit == "epochs":
        unit, amount = "target rows", math.ceil(amount * len(mixture.target))
    first, reached = 0, 0
    while True:
        measures = mixture.measures(first, CHUNK)
        target = 1 - measures[:, 0]
        each = {"tokens": measures[:, 1], "bytes": measures[:, 2] * target, "documents": measures[:, 3] * target,
                "target rows": target}[unit]
        sums = reached + np.cumsum(each)
        if sums[-1] >= amount:
            return Leg(mixture, first + int(np.searchsorted(sums, amount)) + 1, rows_of_a_step)
        first, reached = first + CHUNK, int(sums[-1])
