"""Tasks of a study on a Ray cluster: as many at a time as the cluster has the wanted resources for.

The nodes share the file system with this machine: runs and store lie there. Ray starts a task again whose worker was
lost, and the store keeps what was finished, so that little is done twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lingraft.study.local import ATTEMPTS, Pack, Tell
from lingraft.study.schedule import Outcome, Schedule, Task
from lingraft.study.working import work
from lingraft.workers import cluster


@dataclass(frozen=True)
class Ray:
    """Where the cluster is (an empty address: one on this machine) and what each task takes of it."""

    address: str = ""
    slots: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __call__(self, schedule: Schedule, pack: Pack, tell: Tell) -> None:
        """Carry tasks out; raises `MissingExtraError` without Ray."""
        with cluster(self.address, self.slots * self.cpus) as ray:
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(work)
            running: dict[Any, Task] = {}
            while not schedule.finished:
                while task := schedule.take():
                    running[remote.remote(pack(task))] = task
                ready, _ = ray.wait(list(running), num_returns=1)
                for reference in ready:
                    for outcome in schedule.finish(_outcome(ray, reference, running.pop(reference))):
                        tell(outcome)


def _outcome(ray: Any, reference: Any, task: Task) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(task.name, f"lost on the cluster {ATTEMPTS} times ({' '.join(str(error).split())[:200]}); if "
                                  "memory ran out, give each task more of a node with --cpus")
    return outcome
