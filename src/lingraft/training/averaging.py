"""The average of the weights over the last steps: less noise than the last step's, and less forgetting."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """A running mean of the first `horizon` steps, then an exponential one that reaches back about as far.

    Step t (from 0) enters with weight 1 / min(t + 1, horizon), so that nothing of the weights before training stays.
    """

    def __init__(self, parameters: Mapping[str, Tensor], horizon: int) -> None:
        self.parameters, self.horizon = parameters, max(1, horizon)
        self.means = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        weight = 1 / min(step + 1, self.horizon)
        for name, mean in self.means.items():
            mean.lerp_(self.parameters[name].detach(), weight)

    @torch.no_grad()
    def put(self) -> None:
        """Give the model the averaged weights."""
        for name, mean in self.means.items():
            self.parameters[name].copy_(mean)
