"""A loop of optimizer steps that resumes after its process was killed, with the same result.

A step may depend only on its number, the parameters and the state of the optimizer; then a resumed
loop gives the same parameters bit for bit. Parameters, optimizer state and the losses of the steps
are stored in one safetensors file with their hash, which is written atomically; a damaged file is
not used, and the loop starts again. Everything else that the steps depend on must be the same when
a file is read again. The name of the file holds the method, its settings and the seed. Its folder
stands for the text, the tokenizers and the model: it is the scratch directory of one stage, whose
key holds them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from lingraft.progress import progress, say
from lingraft.store import atomic_file, digest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

SAVE_SECONDS = 30.0
"""A killed process loses about this much work."""

MAX_SAVING_SHARE = 0.1
"""Largest share of the time that is spent on saving: on a slow disk, saves are less frequent."""

Losses = tuple[float, ...]
"""The losses of one step."""


@dataclass(frozen=True)
class ResumableLoop:
    """`steps` optimizer steps on `parameters`; the state is saved in `file` unless it is `None`."""

    title: str
    steps: int
    parameters: Sequence[Tensor]
    optimizer: Optimizer
    file: Path | None = None

    def run(self, step: Callable[[int], Losses]) -> list[Losses]:
        """Run the steps that are left and return the losses of all steps."""
        losses = self._restore()
        saved_at, save_seconds = time.monotonic(), 0.0
        with progress(self.title, self.steps, unit="steps") as advance:
            advance(len(losses))
            for number in range(len(losses), self.steps):
                losses.append(step(number))
                advance(1)
                pause = max(SAVE_SECONDS, save_seconds / MAX_SAVING_SHARE)
                if self.file and time.monotonic() - saved_at >= pause:
                    begin = time.monotonic()
                    self._save(losses, self.file)
                    saved_at = time.monotonic()
                    save_seconds = saved_at - begin
        return losses

    def _save(self, losses: list[Losses], file: Path) -> None:
        """Write the state to the file."""
        from safetensors.torch import save_file

        tensors = {}
        for i, parameter in enumerate(self.parameters):
            tensors[f"{i} parameter"] = parameter.detach().cpu().contiguous()
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"{i} state {name}"] = value.cpu().contiguous()
        with atomic_file(file, option="--store") as draft:
            written = json.dumps(losses)
            save_file(tensors, draft, metadata={"losses": written, "hash": _hash(tensors, written)})

    def _restore(self) -> list[Losses]:
        """Load the saved state, if there is one; return the losses of the steps done so far."""
        import torch

        saved = None if self.file is None else _read(self.file)
        if saved is None:
            return []
        tensors, losses = saved
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"{i} parameter"])
                prefix = f"{i} state "
                for name, value in tensors.items():
                    if name.startswith(prefix):
                        kind = name.removeprefix(prefix)
                        # Adam counts its steps in a tensor on the CPU, wherever the parameters are.
                        on_device = value if kind == "step" else value.to(parameter.device)
                        self.optimizer.state[parameter][kind] = on_device
        return list(map(tuple, json.loads(losses)))  # JSON has no tuples


def _read(file: Path) -> tuple[dict[str, Tensor], str] | None:
    """Return the tensors of a saved state and the losses; `None` if it is missing or damaged."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as saved:
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
            metadata = saved.metadata() or {}
    except (SafetensorError, OSError):
        metadata = {}
    losses = metadata.get("losses", "")
    if not metadata or metadata.get("hash") != _hash(tensors, losses):
        say(f"{file}: the saved progress is damaged, or of an earlier version; starting again")
        return None
    return tensors, losses


def _hash(tensors: Mapping[str, Tensor], losses: str) -> str:
    """Return the SHA-256 of tensors and losses."""
    import torch

    sha256 = hashlib.sha256(losses.encode())
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def progress_file(scratch_dir: Path | None, method: str, *identity: object) -> Path | None:
    """Return the file for a loop's state, named by the hash of `identity`.

    Returns `None` without a scratch directory. `identity` is what the steps depend on, as JSON,
    apart from the text, the tokenizers and the model, for which the directory stands.
    """
    if scratch_dir is None:
        return None
    return scratch_dir / f"{method}-{digest(list(identity))[:20]}.safetensors"


def first_and_last(losses: Sequence[Losses], which: int) -> list[float]:
    """Return the means of loss number `which` over the first and the last tenth of the steps.

    >>> first_and_last([(4.0,), (3.0,), (2.0,)], 0)
    [4.0, 2.0]
    """
    tenth = max(1, len(losses) // 10)
    values = [step[which] for step in losses]
    return [sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth]
