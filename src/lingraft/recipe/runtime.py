"""Where and how a recipe runs. Nothing here changes an output, so nothing here is in a key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import RecipeError, did_you_mean
from lingraft.training.launch import Launch
from lingraft.training.trackers import TRACKERS
from lingraft.workers import HERE, Workers

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Runtime:
    """Where a run computes and where its files are.

    `runs` holds the run folders. `store` holds finished stages, by default in LINGRAFT_STORE or
    `runs/.store`. `launch` is the rank of this process if a launcher started several. `trackers`
    receive training metrics, stored in `runs/tracking`. `recompute` saves memory at the cost of
    speed. Progress is saved every `checkpoint_seconds`. `workers` count words and tokenise.
    """

    runs: Path = Path("runs")
    store: Path = Path()
    device: str = "auto"
    precision: str = "auto"
    launch: Launch | None = None
    trackers: tuple[str, ...] = ()
    recompute: bool = False
    checkpoint_seconds: float = 300.0
    workers: Workers = HERE

    def __post_init__(self) -> None:
        if self.store == Path():
            object.__setattr__(
                self, "store", Path(os.environ.get("LINGRAFT_STORE") or self.runs / ".store")
            )
        for name, value, known in (
            ("device", self.device.split(":")[0], DEVICES),
            ("precision", self.precision, PRECISIONS),
            *(("trackers", tracker, tuple(TRACKERS)) for tracker in self.trackers),
        ):
            if value not in known:
                msg = f"--{name} {value!r} is not known; {did_you_mean(value, known)}"
                raise RecipeError(msg)
        if not self.checkpoint_seconds > 0:
            msg = f"--checkpoint-seconds {self.checkpoint_seconds:g}: expected a number above 0"
            raise RecipeError(msg)

    def resolved_device(self) -> str:
        """Return the device to compute on: with `auto`, the fastest that torch finds."""
        if self.device != "auto":
            return self.device
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
