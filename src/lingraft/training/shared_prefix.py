"""Shared prefixes: a longer run continues from a checkpoint of a shorter one.

With the schedules `wsd` and `constant`, and a warm-up that is a number of steps, the first steps of
a phase do not depend on its length: the sequences, learning rates and random numbers are the same.
The prefix of a run is the steps up to the end of these. After them, the run copies its checkpoint
to a shared folder, under a key of everything that the steps depend on. A longer run with this key
copies the longest stored prefix into its own folder and resumes from it. Its result is
bit-identical to a run from the start.

Only the last phase may differ in length. The default batch of every phase depends on the budget of
all phases, so the batches and the steps of the earlier phases are part of the key. A run whose last
phase averages weights or merges branches shares no prefix, because both depend on the length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.store import digest, link_or_copy, lock
from lingraft.training.checkpointing import (
    STATE,
    TrainingCheckpoint,
    new_checkpoint,
    valid_checkpoints,
)
from lingraft.training.column_shield import SHIELD, read_frozen, write_frozen
from lingraft.training.job import Job
from lingraft.training.phase_steps import PhaseSteps
from lingraft.training.save_model import LOW_RANK
from lingraft.training.train_log import LOG


@dataclass(frozen=True)
class PrefixCheckpoint:
    """The shared prefix of a run of `steps` steps; it ends after step `end`.

    `folder` is named by the key and holds the stored prefixes.
    """

    folder: Path
    end: int
    steps: int

    def take(self, scratch_dir: Path, fingerprint: str) -> None:
        """Copy the longest stored prefix of at most `end` steps to `scratch_dir`, if there is one.

        `scratch_dir` must have no checkpoint of its own.
        """
        if not self.folder.is_dir():
            return
        with lock(self._lock()):
            for found in valid_checkpoints(self.folder):
                if found.state["done"]["step"] <= self.end:
                    self._copy(found, scratch_dir, fingerprint)
                    return

    def keep(self, scratch_dir: Path, at: int) -> None:
        """Store the checkpoint of step `at` as the prefix, if the prefix ends at this step."""
        if at != self.end or _checkpoint_at(self.folder, at):
            return
        checkpoint = _checkpoint_at(scratch_dir, at)
        if checkpoint is None:
            return
        phase = checkpoint.state["phase"]
        # A checkpoint holds only trained parameters. The frozen weights are in the model that the
        # phase started with.
        files = [*(scratch_dir / f"phase-{phase}").glob("*")]
        own = [LOW_RANK.format(number) for number in range(phase)]
        own += [SHIELD.format(number) for number in range(phase + 1)]
        files += [scratch_dir / name for name in own if (scratch_dir / name).is_file()]
        with lock(self._lock()), new_checkpoint(self.folder, at, checkpoint.state) as draft:
            for file in checkpoint.folder.iterdir():
                if file.name != STATE:
                    link_or_copy(file, draft / file.name)
            for file in files:
                link_or_copy(file, draft / f"phase-{phase}" / file.name)
            # The log may be longer than it was at the checkpoint.
            log = (scratch_dir / LOG).read_bytes()
            (draft / LOG).write_bytes(log[: checkpoint.state["log_bytes"]])

    def _copy(self, found: TrainingCheckpoint, scratch_dir: Path, fingerprint: str) -> None:
        """Copy a prefix to a folder, as a checkpoint of the run with this fingerprint."""
        lines = []
        for line in (found.folder / LOG).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            # The number of all steps is that of this run, which is longer.
            if "steps" in record:
                record["steps"] = self.steps
            lines.append(json.dumps(record) + "\n")
        (scratch_dir / LOG).write_text("".join(lines), encoding="utf-8")
        at, phase = found.state["done"]["step"], f"phase-{found.state['phase']}"
        shutil.rmtree(scratch_dir / phase, ignore_errors=True)
        for file in (found.folder / phase).glob("*"):
            if file.match(SHIELD.format("*")):
                # The steps of the prefix have frozen these columns, so the others must, too.
                write_frozen(read_frozen(file), scratch_dir / file.name, fingerprint)
                continue
            folder = scratch_dir if file.match(LOW_RANK.format("*")) else scratch_dir / phase
            link_or_copy(file, folder / file.name)
        state = {
            **found.state,
            "fingerprint": fingerprint,
            "trunk": at,
            "log_bytes": (scratch_dir / LOG).stat().st_size,
        }
        # The checkpoint is written last: if the process is killed before, `take` starts again.
        with new_checkpoint(scratch_dir, at, state) as draft:
            for file in found.folder.iterdir():
                if file.is_file() and file.name not in {STATE, LOG}:
                    link_or_copy(file, draft / file.name)

    def _lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")


def _checkpoint_at(folder: Path, step: int) -> TrainingCheckpoint | None:
    for checkpoint in valid_checkpoints(folder):
        if checkpoint.state["done"]["step"] == step:
            return checkpoint
    return None


def prefix_checkpoint(
    job: Job, phases: Sequence[PhaseSteps], parameters: int
) -> PrefixCheckpoint | None:
    """Return the shared prefix of a job, or None if it can share no steps."""
    if job.prefix_dir is None or not phases or job.plan.phases[-1].depends_on_length:
        return None
    last, steps = job.plan.phases[-1], phases[-1].steps
    before = sum(phase.steps for phase in phases[:-1])
    # The last step of a phase may take fewer sequences, so that a longer phase differs in it.
    full_steps = phases[-1].sequences // phases[-1].sequences_per_step
    end = min(last.schedule.shared_steps(steps), full_steps)
    if not end:
        return None
    plan = job.plan.model_dump(mode="json", exclude={"merge_back"})
    phase = plan["phases"][-1]
    # Left out of the key: the length, and how the learning rate decays after the prefix.
    phase["budget"], phase["schedule"] = None, [last.schedule.name, last.schedule.rise(steps)]
    batches = [phase.sequences_per_step for phase in phases]
    earlier = [phase.steps for phase in phases[:-1]]
    key = digest([plan, batches, earlier, *job.identity(parameters, phases)])[:20]
    return PrefixCheckpoint(job.prefix_dir / key, before + end, before + steps)
