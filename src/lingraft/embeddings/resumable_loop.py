"""A loop of optimiser steps that goes on after its process was killed, to the bit as if it had not been.

What a step does must follow from its number and the parameters alone. The state (parameters, the optimiser's moments,
what the steps returned) is one safetensors file, written aside and renamed: whole or absent. It is written every half
minute, and never so often that writing takes more than a tenth of the time. What tells one loop from another (method,
settings, seed, text, model) belongs into the file's name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.progress import progress
from lingraft.store import atomic_file, digest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

SAVE_SECONDS = 30.0
SHARE_OF_SAVING = 0.1

Losses = tuple[float, ...]


@dataclass(frozen=True)
class Loop:
    """So many steps on these parameters; `file` is where progress is kept, `None` for nowhere."""

    title: str
    steps: int
    parameters: Sequence[Tensor]
    optimiser: Optimizer
    file: Path | None = None

    def run(self, step: Callable[[int], Losses]) -> list[Losses]:
        """Carry out the steps that are left and return what all of them returned."""
        losses = self._restore()
        saved, took = time.monotonic(), 0.0
        with progress(self.title, self.steps, unit="steps") as advance:
            advance(len(losses))
            for number in range(len(losses), self.steps):
                losses.append(step(number))
                advance(1)
                if self.file and time.monotonic() - saved >= max(
                    SAVE_SECONDS, took / SHARE_OF_SAVING
                ):
                    begun = time.monotonic()
                    self._save(losses, self.file)
                    saved = time.monotonic()
                    took = saved - begun
        return losses

    def _save(self, losses: list[Losses], file: Path) -> None:
        from safetensors.torch import save_file

        tensors = {
            f"{i} parameter": parameter.detach() for i, parameter in enumerate(self.parameters)
        }
        for i, parameter in enumerate(self.parameters):
            tensors |= {
                f"{i} state {name}": value
                for name, value in self.optimiser.state[parameter].items()
            }
        with atomic_file(file, option="--store") as draft:
            save_file(
                {name: value.cpu().contiguous() for name, value in tensors.items()},
                draft,
                metadata={"losses": json.dumps(losses)},
            )

    def _restore(self) -> list[Losses]:
        """Put the saved state in place; return what the steps done so far returned."""
        import torch
        from safetensors import safe_open

        if self.file is None or not self.file.exists():
            return []
        with safe_open(self.file, "pt") as saved, torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(saved.get_tensor(f"{i} parameter"))
                names = [name for name in saved.keys() if name.startswith(f"{i} state ")]  # noqa: SIM118 - no mapping
                for name in names:
                    value, kind = saved.get_tensor(name), name.removeprefix(f"{i} state ")
                    self.optimiser.state[parameter][kind] = (
                        value if kind == "step" else value.to(parameter.device)
                    )
            return [tuple(pair) for pair in json.loads(saved.metadata()["losses"])]


def progress_file(scratch_dir: Path | None, method: str, *identity: object) -> Path | None:
    """Return where a loop keeps its progress: a name that no other loop has."""
    return (
        scratch_dir / f"{method}-{digest(list(identity))[:20]}.safetensors" if scratch_dir else None
    )


def first_and_last(losses: Sequence[Losses], which: int) -> list[float]:
    """Return the means of one loss over the first and the last tenth of the steps.

    >>> first_and_last([(4.0,), (3.0,), (2.0,)], 0)
    [4.0, 2.0]
    """
    tenth = max(1, len(losses) // 10)
    return [sum(pair[which] for pair in part) / tenth for part in (losses[:tenth], losses[-tenth:])]
