"""When a loss is no longer one: not a number, or far above where it began."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SPAN = 20


@dataclass
class Watch:
    """Keeps the first loss and the last ones (nats a token) and says what is wrong with them, if anything.

    Exploding means: the mean of the last 20 steps is over twice the first loss, and over that of a model which knows
    nothing (the logarithm of the vocabulary). Single bad batches pass.
    """

    vocabulary: int
    first: float | None = None
    last: list[float] = field(default_factory=list)

    def complaint(self, loss: float, gradient_norm: float) -> str | None:
        """Take in the loss and the gradient of a step; return what is wrong."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm is {gradient_norm}"
        if self.first is None:
            self.first = loss
        self.last = [*self.last[-SPAN + 1 :], loss]
        ceiling = max(2 * self.first, math.log(self.vocabulary))
        if len(self.last) == SPAN and _mean(self.last) > ceiling:
            return f"the loss explodes: {_mean(self.last):.2f} nats a token over {SPAN} steps, above {ceiling:.2f}"
        return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
