"""Workers on this machine: one after another in this process, or several processes at a time.

Processes are spawned, share the cores out (OMP_NUM_THREADS, unless it is set) and stand apart from the terminal, so
that Ctrl-C reaches only the study, which then has each of them save its progress. A process that dies (killed, out of
memory) is replaced, and its task is tried again: a training goes on from its last checkpoint.

Tasks of a study on a Ray cluster: as many at a time as the cluster has the wanted resources for.

The nodes share the file system with this machine: runs and store lie there. Ray starts a task again whose worker was
lost, and the store keeps what was finished, so that little is done twice.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from lingraft.errors import Interrupted
from lingraft.study.run_task import Parcel, work
from lingraft.study.study_schedule import Outcome, StudySchedule, StudyTask
from lingraft.workers import cluster

ATTEMPTS = 3
PATIENCE_SECONDS = 60
"""How long a stopped worker may take to save its progress."""

Pack = Callable[[StudyTask], Parcel]
LogOutcome = Callable[[Outcome], None]


def one_by_one(schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
    """Carry tasks out in this process."""
    while task := schedule.take():
        for outcome in schedule.finish(work(pack(task))):
            log(outcome)


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: StudyTask | None = None


class Processes:
    """So many worker processes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
        """Carry tasks out, as many at a time as there are workers."""
        deaths: Counter[str] = Counter()
        again: list[StudyTask] = []
        workers: list[_Worker] = []
        with _shared_threads(self.count), _ended(workers):
            while not schedule.finished:
                while self._free(workers) and (task := again.pop() if again else schedule.take()):
                    _give(task, workers, pack)
                for worker in _ready(workers):
                    outcome = _received(worker)
                    if outcome is None:
                        workers.remove(worker)
                        outcome = _lost(worker, deaths, again)
                    worker.task = None
                    for noted in schedule.finish(outcome) if outcome else []:
                        log(noted)

    def _free(self, workers: list[_Worker]) -> bool:
        return len(workers) < self.count or any(worker.task is None for worker in workers)


def _give(task: StudyTask, workers: list[_Worker], pack: Pack) -> None:
    """Send a task to an idle worker, or to a new one where none is idle."""
    worker = next((worker for worker in workers if worker.task is None), None)
    if worker is None:
        worker = _start(len(workers))
        workers.append(worker)
    worker.task = task
    with suppress(BrokenPipeError):  # it died while idle: waiting for its answer finds that out
        worker.connection.send(pack(task))


def _start(number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, number), daemon=True, name=f"study-{number}"
    )
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, number: int) -> None:
    """Be a worker: answer parcels with outcomes until there are no more."""
    os.setsid()
    signal.signal(signal.SIGTERM, _stop)
    with suppress(EOFError, Interrupted, KeyboardInterrupt, BrokenPipeError):
        while True:
            parcel = connection.recv()
            if parcel.runtime.device in {"auto", "cuda"}:
                _use_device(number)
            connection.send(work(parcel))


def _stop(_number: int, _frame: Any) -> None:
    raise Interrupted("stopped")


def _use_device(number: int) -> None:
    """Share several accelerators out over the workers."""
    import torch

    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Wait until a busy worker has something to say, or is no more."""
    busy = {worker.connection: worker for worker in workers if worker.task is not None}
    return [
        busy[connection] for connection in wait(list(busy)) if isinstance(connection, Connection)
    ]


def _received(worker: _Worker) -> Outcome | None:
    try:
        outcome: Outcome = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        return None
    return outcome


def _lost(worker: _Worker, deaths: Counter[str], again: list[StudyTask]) -> Outcome | None:
    """Have the task of a dead worker done again, or give it up after so many."""
    if worker.task is None:
        return None
    deaths[worker.task.name] += 1
    if deaths[worker.task.name] < ATTEMPTS:
        again.append(worker.task)
        return None
    code = worker.process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    error = (
        f"its worker process died {ATTEMPTS} times, lastly {how}; if memory ran out, lower --workers or "
        "training.batch_tokens"
    )
    return Outcome(worker.task.name, error)


@contextmanager
def _shared_threads(count: int) -> Iterator[None]:
    """Give each worker its part of the cores, unless the environment says how many threads there are."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _ended(workers: list[_Worker]) -> Iterator[None]:
    """See that no worker outlives the study: idle ones end, busy ones are told to save and stop."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.task is not None:
                worker.process.terminate()
            worker.connection.close()
        for worker in workers:
            worker.process.join(PATIENCE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()


@dataclass(frozen=True)
class Ray:
    """Where the cluster is (an empty address: one on this machine) and what each task takes of it."""

    address: str = ""
    slots: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __call__(self, schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
        """Carry tasks out; raises `MissingExtraError` without Ray."""
        with cluster(self.address, self.slots * self.cpus) as ray:
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(
                work
            )
            running: dict[Any, StudyTask] = {}
            while not schedule.finished:
                while task := schedule.take():
                    running[remote.remote(pack(task))] = task
                ready, _ = ray.wait(list(running), num_returns=1)
                for reference in ready:
                    for outcome in schedule.finish(
                        _outcome(ray, reference, running.pop(reference))
                    ):
                        log(outcome)


def _outcome(ray: Any, reference: Any, task: StudyTask) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(
            task.name,
            f"lost on the cluster {ATTEMPTS} times ({' '.join(str(error).split())[:200]}); if "
            "memory ran out, give each task more of a node with --cpus",
        )
    return outcome
