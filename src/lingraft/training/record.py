"""What is written of a run while it trains: rows of its log, for trackers too, and points of the held-out curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lingraft.training.checkpoints import flush
from lingraft.training.job import Job
from lingraft.training.log import Log
from lingraft.training.outlook import Outlook
from lingraft.training.progress_state import Done
from lingraft.training.trackers import Tracker, numbers_of
from lingraft.training.world import reshard


class Record:
    """The record of a run of `steps` steps; of several processes, only the first one's has a log and trackers."""

    def __init__(self, job: Job, steps: int) -> None:
        self.job, self.steps = job, steps
        self.log: Log | None = None
        self.trackers: Sequence[Tracker] = ()
        single = job.plan.phases[0].schedule if len(job.plan.phases) == 1 else None  # phases do not continue each other
        self.outlook = Outlook(single, steps) if single else None

    def begin(self, workplace: Path, log_bytes: int) -> None:
        """Open the log where the last checkpoint left it."""
        self.log = Log(workplace, log_bytes)

    def write(self, row: dict[str, Any]) -> None:
        """Write a row."""
        if self.log:
            self.log.write(row)
        for tracker in self.trackers:
            tracker.write(row["step"], numbers_of(row))

    def flushed(self) -> int:
        """Have what was written lie on the disk; return its size."""
        if self.log is None:
            return 0
        flush(self.log.path)
        return self.log.size

    def note(self, step: int) -> str:
        """Return what is foretold of the end, for the progress bar."""
        return self.outlook.note(self.log.path, step) if self.outlook and self.log else ""

    def measure(self, model: Any, done: Done, **more: Any) -> None:
        """Write a point of the held-out curve where one is due, and with `more` always."""
        points = self.job.plan.heldout_points
        due = {round(i * self.steps / points) for i in range(points + 1)} if points else set()
        if self.job.heldout is not None and (done.step in due or more):
            self.write({"step": done.step, "bytes": done.bytes, "heldout": self.heldout(model), **more})

    def heldout(self, model: Any) -> dict[str, float]:
        """Return the bits per byte of held-out text by language."""
        model.eval()
        with torch.no_grad():
            values = dict(self.job.heldout(model)) if self.job.heldout else {}
        model.train()
        reshard(model)
        return values
