"""Run the tasks of a study: in this process, in several processes, or on a Ray cluster.

Worker processes are spawned and share the cores. Ctrl-C stops the study, which lets its workers
save their progress. A process that dies (killed, out of memory) is replaced and its task is tried
again: training resumes from its last checkpoint.

On a Ray cluster, all nodes must see the folders of runs and store under the same paths. As many
tasks run at a time as the cluster has resources for. Ray repeats a task whose worker was lost; the
store keeps finished stages, so that only unfinished work is repeated.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from lingraft.errors import Interrupted, one_line
from lingraft.studies.run_task import PackedTask, run_task
from lingraft.studies.study_schedule import Outcome, StudySchedule, StudyTask
from lingraft.workers import cluster

ATTEMPTS = 3
"""How often a task is started before it counts as failed because its worker died."""

STOP_SECONDS = 60
"""How long a stopped worker may take to save its progress before it is killed."""

Pack = Callable[[StudyTask], PackedTask]
LogOutcome = Callable[[Outcome], None]


def run_in_this_process(schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
    """Run the tasks in this process, one after another."""
    while task := schedule.take():
        for outcome in schedule.finish(run_task(pack(task))):
            log(outcome)


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    number: int
    task: StudyTask | None = None


class Processes:
    """Runs tasks in up to `count` worker processes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
        """Run the tasks, as many at a time as there are workers."""
        deaths: Counter[str] = Counter()
        retries: list[StudyTask] = []
        workers: list[_Worker] = []
        with _shared_threads(self.count), _stopped_at_end(workers):
            while not schedule.finished:
                while self._has_room(workers):
                    task = retries.pop() if retries else schedule.take()
                    if task is None:
                        break
                    _send(task, workers, pack)
                for worker in _ready(workers):
                    outcome = _receive(worker)
                    if outcome is None:
                        workers.remove(worker)
                        outcome = _retry_or_fail(worker, deaths, retries)
                    worker.task = None
                    for ended in schedule.finish(outcome) if outcome else []:
                        log(ended)

    def _has_room(self, workers: list[_Worker]) -> bool:
        return len(workers) < self.count or any(worker.task is None for worker in workers)


def _send(task: StudyTask, workers: list[_Worker], pack: Pack) -> None:
    """Send a task to an idle worker, or to a new one if none is idle."""
    idle = [worker for worker in workers if worker.task is None]
    # A worker that replaces a dead one takes its number, and with it its GPU.
    taken = {worker.number for worker in workers}
    worker = idle[0] if idle else _start(next(number for number in count() if number not in taken))
    if not idle:
        workers.append(worker)
    worker.task = task
    with suppress(BrokenPipeError):  # the worker died while idle; `_receive` will notice
        worker.connection.send(pack(task))


def _start(number: int) -> _Worker:
    # Spawned, not forked: a fork of a process with threads (torch has some) can deadlock.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, number), daemon=True, name=f"study-{number}"
    )
    process.start()
    theirs.close()
    return _Worker(process, ours, number)


def _serve(connection: Connection, number: int) -> None:
    """Run tasks until the study closes the connection, and send back their outcomes."""
    # In a session of its own, a worker does not get the Ctrl-C of the terminal: it would stop at
    # once, without saving progress. The study sends SIGTERM instead.
    os.setsid()
    signal.signal(signal.SIGTERM, _stop)
    with suppress(EOFError, Interrupted, KeyboardInterrupt, BrokenPipeError):
        while True:
            packed = connection.recv()
            if packed.runtime.device in {"auto", "cuda"}:
                _use_device(number)
            connection.send(run_task(packed))


def _stop(_number: int, _frame: Any) -> None:
    raise Interrupted("stopped")


def _use_device(number: int) -> None:
    """Use a different GPU in each worker, if there are several."""
    import torch

    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Wait until a busy worker sends an outcome or dies; return these workers."""
    busy = [worker for worker in workers if worker.task is not None]
    # The connection of a worker that died is ready, too: reading it ends with EOFError.
    ready = wait([worker.connection for worker in busy])
    return [worker for worker in busy if worker.connection in ready]


def _receive(worker: _Worker) -> Outcome | None:
    """Return the outcome that a worker sent, `None` if it died."""
    try:
        outcome: Outcome = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        return None
    return outcome


def _retry_or_fail(
    worker: _Worker, deaths: Counter[str], retries: list[StudyTask]
) -> Outcome | None:
    """Schedule the task of a dead worker again; return a failed outcome after `ATTEMPTS` times."""
    if worker.task is None:
        return None
    deaths[worker.task.name] += 1
    if deaths[worker.task.name] < ATTEMPTS:
        retries.append(worker.task)
        return None
    # A process that a signal ended has the negative number of the signal as its exit code.
    code = worker.process.exitcode or 0
    cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    error = (
        f"its worker process died {ATTEMPTS} times, lastly {cause}; if memory ran out, lower "
        "--workers or training.batch_tokens"
    )
    return Outcome(worker.task.name, error)


@contextmanager
def _shared_threads(count: int) -> Iterator[None]:
    """Give each worker its share of the cores by OMP_NUM_THREADS, unless the user has set it."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _stopped_at_end(workers: list[_Worker]) -> Iterator[None]:
    """Stop all workers after the block; busy ones have `STOP_SECONDS` to save their progress."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.task is not None:
                worker.process.terminate()
            # An idle worker waits for its next task and ends when the connection is closed.
            worker.connection.close()
        for worker in workers:
            worker.process.join(STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()


@dataclass(frozen=True)
class Ray:
    """Runs tasks on a Ray cluster.

    `address` is the address of the cluster; if it is empty, a cluster of `slots` * `cpus` CPUs is
    started on this machine. Each task reserves `cpus` and `gpus`.
    """

    address: str = ""
    slots: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __call__(self, schedule: StudySchedule, pack: Pack, log: LogOutcome) -> None:
        """Run the tasks; raises `MissingExtraError` without Ray."""
        with cluster(self.address, self.slots * self.cpus) as ray:
            resources = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)
            remote = resources(run_task)
            running: dict[Any, StudyTask] = {}
            while not schedule.finished:
                while task := schedule.take():
                    running[remote.remote(pack(task))] = task
                ready, _ = ray.wait(list(running), num_returns=1)
                for reference in ready:
                    outcome = _outcome(ray, reference, running.pop(reference))
                    for ended in schedule.finish(outcome):
                        log(ended)


def _outcome(ray: Any, reference: Any, task: StudyTask) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(
            task.name,
            f"lost on the cluster {ATTEMPTS} times ({one_line(error)}); if "
            "memory ran out, give each task more of a node with --cpus",
        )
    return outcome
