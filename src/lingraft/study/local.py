"""Workers on this machine: one after another in this process, or several processes at a time.

Processes are spawned, share the cores out (OMP_NUM_THREADS, unless it is set) and stand apart from the terminal, so
that Ctrl-C reaches only the study, which then has each of them save its progress. A process that dies (killed, out of
memory) is replaced, and its task is tried again: a training goes on from its last checkpoint.
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
from lingraft.study.schedule import Outcome, Schedule, Task
from lingraft.study.working import Parcel, work

ATTEMPTS = 3
PATIENCE_SECONDS = 60
"""How long a stopped worker may take to save its progress."""

Pack = Callable[[Task], Parcel]
Tell = Callable[[Outcome], None]


def one_by_one(schedule: Schedule, pack: Pack, tell: Tell) -> None:
    """Carry tasks out in this process."""
    while task := schedule.take():
        for outcome in schedule.finish(work(pack(task))):
            tell(outcome)


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: Task | None = None


class Processes:
    """So many worker processes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, schedule: Schedule, pack: Pack, tell: Tell) -> None:
        """Carry tasks out, as many at a time as there are workers."""
        deaths: Counter[str] = Counter()
        again: list[Task] = []
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
                        tell(noted)

    def _free(self, workers: list[_Worker]) -> bool:
        return len(workers) < self.count or any(worker.task is None for worker in workers)


def _give(task: Task, workers: list[_Worker], pack: Pack) -> None:
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
    process = context.Process(target=_serve, args=(theirs, number), daemon=True, name=f"study-{number}")
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
    return [busy[connection] for connection in wait(list(busy)) if isinstance(connection, Connection)]


def _received(worker: _Worker) -> Outcome | None:
    try:
        outcome: Outcome = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        return None
    return outcome


def _lost(worker: _Worker, deaths: Counter[str], again: list[Task]) -> Outcome | None:
    """Have the task of a dead worker done again, or give it up after so many."""
    if worker.task is None:
        return None
    deaths[worker.task.name] += 1
    if deaths[worker.task.name] < ATTEMPTS:
        again.append(worker.task)
        return None
    code = worker.process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    error = (f"its worker process died {ATTEMPTS} times, lastly {how}; if memory ran out, lower --workers or "
             "training.batch_tokens")
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
