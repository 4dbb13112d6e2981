"""Trunks: what a run leaves behind so that a longer one with the same beginning goes on from there.

The first steps of a phase with the schedule `wsd` or `constant` do not depend on how long it will be: same rows, same
rates, same random numbers. Where they end, a run keeps its progress next to its scratch directory, under a key of
everything that these steps depend on. A longer run takes the longest trunk of its key into its own scratch directory
and resumes, as from a checkpoint of its own, and ends bit-identical to one that began at the beginning. Only the last
phase may differ in length; averaged weights depend on the length, and have no trunk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.store import digest, link_or_copy, lock
from lingraft.training.checkpointing import (
    LOW_RANK,
    STATE,
    TrainingCheckpoint,
    latest_checkpoint,
    new_checkpoint,
    valid_checkpoints,
)
from lingraft.training.job import Job, PhaseSteps
from lingraft.training.train_log import LOG


@dataclass(frozen=True)
class PrefixCheckpoint:
    """The trunk of a run of `steps` steps: where those of its key lie, and after how many steps its own ends."""

    folder: Path
    end: int
    steps: int

    def take(self, scratch_dir: Path, fingerprint: str) -> None:
        """Fill a scratch directory without a checkpoint from the longest trunk that is not longer than this run's."""
        if latest_checkpoint(scratch_dir) or not self.folder.is_dir():
            return
        with lock(self._lock()):
            for found in valid_checkpoints(self.folder):
                if found.state["done"]["step"] <= self.end:
                    self._lay_out(found, scratch_dir, fingerprint)
                    return

    def keep(self, scratch_dir: Path, at: int) -> None:
        """Keep the checkpoint that was saved after `at` steps, if that is where the trunk ends."""
        if at != self.end or at in {one.state["done"]["step"] for one in valid_checkpoints(self.folder)}:
            return
        checkpoint = next(one for one in valid_checkpoints(scratch_dir) if one.state["done"]["step"] == at)
        with lock(self._lock()), new_checkpoint(self.folder, at, checkpoint.state) as draft:
            for file in (path for path in checkpoint.folder.iterdir() if path.name != STATE):
                link_or_copy(file, draft / file.name)
            begun = scratch_dir / f"phase-{checkpoint.state['phase']}"
            merged = [path for number in range(checkpoint.state["phase"])
                      if (path := scratch_dir / LOW_RANK.format(number)).is_file()]
            # the model that the last phase began with, whose frozen weights are nowhere else, and what it had learned
            for file in (*begun.glob("*"), *merged):
                link_or_copy(file, draft / begun.name / file.name)
            (draft / LOG).write_bytes((scratch_dir / LOG).read_bytes()[:checkpoint.state["log_bytes"]])

    def _lay_out(self, found: TrainingCheckpoint, scratch_dir: Path, fingerprint: str) -> None:
        rows = [json.loads(line) for line in (found.folder / LOG).read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps({**row, **({"steps": self.steps} if "steps" in row else {})}) + "\n" for row in rows]
        (scratch_dir / LOG).write_text("".join(lines), encoding="utf-8")
        at, phase = found.state["done"]["step"], f"phase-{found.state['phase']}"
        shutil.rmtree(scratch_dir / phase, ignore_errors=True)
        for file in (found.folder / phase).glob("*"):
            beside = file.match(LOW_RANK.format("*"))
            link_or_copy(file, scratch_dir / ("" if beside else phase) / file.name)
        log_bytes = (scratch_dir / LOG).stat().st_size
        state = {**found.state, "fingerprint": fingerprint, "trunk": at, "log_bytes": log_bytes}
        # The checkpoint comes last: as long as there is none, everything above is done again.
        with new_checkpoint(scratch_dir, at, state) as draft:
            for file in found.folder.iterdir():
                if file.is_file() and file.name not in {STATE, LOG}:
                    link_or_copy(file, draft / file.name)

    def _lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")


def prefix_checkpoint(job: Job, legs: Sequence[PhaseSteps], parameters: int) -> PrefixCheckpoint | None:
    """Return the trunk of a run; None where it keeps none, or where its schedule leaves none."""
    if job.trunks is None or not legs or job.plan.phases[-1].average_share:
        return None
    last, leg = job.plan.phases[-1], legs[-1]
    before, steps = sum(one.steps for one in legs[:-1]), leg.steps
    end = min(last.schedule.trunk(steps), leg.rows // leg.rows_of_a_step)  # the last step may take fewer rows
    if not end:
        return None
    beginning = job.plan.model_dump(mode="json", exclude={"merge_back"})
    phase = beginning["phases"][-1]
    phase["budget"], phase["schedule"] = None, [last.schedule.name, last.schedule.rise(steps)]
    key = digest([beginning, leg.rows_of_a_step, *job.identity(parameters)])[:20]
    return PrefixCheckpoint(job.trunks / key, before + end, before + steps)
