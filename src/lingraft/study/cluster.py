"""Tasks of a study on a Ray cluster: as many at a time as the cluster has the wanted resources for.

The nodes share the file system with this machine: runs and store lie there. Ray starts a task again whose worker was
lost, and the store keeps what was finished, so that little is done twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError
from lingraft.study.local import ATTEMPTS, Pack, Tell
from lingraft.study.schedule import Outcome, Schedule, Task
from lingraft.study.working import work


@dataclass(frozen=True)
class Ray:
    """Where the cluster is (an empty address: one on this machine) and what each task takes of it."""

    address: str = ""
    slots: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __call__(self, schedule: Schedule, pack: Pack, tell: Tell) -> None:
        """Carry tasks out; raises `MissingExtraError` without Ray."""
        with self._cluster() as ray:
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(work)
            running: dict[Any, Task] = {}
            while not schedule.finished:
                while task := schedule.take():
                    running[remote.remote(pack(task))] = task
                ready, _ = ray.wait(list(running), num_returns=1)
                for reference in ready:
                    for outcome in schedule.finish(_outcome(ray, reference, running.pop(reference))):
                        tell(outcome)

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Join the cluster, or start one here with a slot for each worker; what was started here is ended."""
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", extra="ray") from error
        begun = not ray.is_initialized()
        if begun:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            where: dict[str, Any] = {"address": self.address} if self.address else {
                "address": "local", "num_cpus": self.slots * self.cpus, "include_dashboard": False}
            try:
                ray.init(**where, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError) as error:
                msg = f"--ray-address {self.address or 'local'}: no cluster answers there ({str(error)[:150]})"
                raise RecipeError(msg) from error
        try:
            yield ray
        finally:
            if begun:
                ray.shutdown()


def _outcome(ray: Any, reference: Any, task: Task) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(task.name, f"lost on the cluster {ATTEMPTS} times ({' '.join(str(error).split())[:200]}); if "
                                  "memory ran out, give each task more of a node with --cpus")
    return outcome
