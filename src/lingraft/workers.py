"""Maps a function over items: in this process, in several processes, or as tasks on a Ray cluster.

The results come in order. A result depends only on its item and on a shared value, so it is the
same with every executor. If a process is killed, or a node of a Ray cluster fails, its items are
computed again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import current_process, get_context
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self, TypeVar

from lingraft.errors import LingraftError, MissingExtraError, RecipeError, did_you_mean
from lingraft.progress import warn

EXECUTORS = ("local", "ray")
RETRIES = 3
"""How often the pool is started again (local) or a task is retried (Ray) when a worker dies."""
Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """The number of workers and their executor.

    `address` is that of a Ray cluster; if it is empty, a cluster is started on this machine. Raises
    `RecipeError` for an unknown executor, or for an address without the executor `ray`.
    """

    count: int = 1
    executor: str = "local"
    address: str = ""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            hint = did_you_mean(self.executor, EXECUTORS)
            msg = f"--executor {self.executor!r}: unknown; {hint}"
            raise RecipeError(msg)
        if self.address and self.executor != "ray":
            msg = f"--ray-address {self.address}: needs --executor ray"
            raise RecipeError(msg)

    @property
    def is_serial(self) -> bool:
        """Whether everything runs in this process."""
        return self.count == 1 and self.executor == "local"

    def map(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield function(shared, item) for each item, in order.

        >>> list(Workers().map(pow, 2, [1, 2, 3]))
        [2, 4, 8]
        """
        with self.start(function, shared) as run:
            yield from run(items)

    @contextmanager
    def start(
        self, function: Callable[[Shared, Item], Result], shared: Shared
    ) -> Iterator[Callable[[Iterable[Item]], Iterator[Result]]]:
        """Start the workers; the returned function maps several series of items one by one.

        >>> with Workers().start(pow, 2) as run:
        ...     list(run([1, 2])), list(run([3]))
        ([2, 4], [8])
        """
        if self.is_serial:
            # Without a pool: nothing is pickled, and errors have a short traceback.
            yield lambda items: (function(shared, item) for item in items)
        elif self.executor == "ray":
            with cluster(self.address, self.count) as ray:
                remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
                reference = ray.put(shared)
                yield partial(
                    self._in_order,
                    lambda item: remote.remote(function, reference, item),
                    lambda task, _: _ray_result(ray, task),
                )
        else:
            with _LocalProcesses(self.count, function, shared) as processes:
                yield partial(self._in_order, processes.submit, processes.result)

    def _in_order(
        self,
        submit: Callable[[Any], Any],
        result: Callable[[Any, deque[Any]], Any],
        items: Iterable[Any],
    ) -> Iterator[Any]:
        """Yield the results in order. At most two items per worker are pending, to bound memory."""
        pending: deque[Any] = deque()
        for item in items:
            pending.append(submit(item))
            if len(pending) >= 2 * self.count:
                yield result(pending.popleft(), pending)
        while pending:
            yield result(pending.popleft(), pending)


@dataclass
class _Task:
    """An item, and its result as soon as there is one."""

    item: Any
    future: Future[Any]


class _LocalProcesses:
    """A pool of processes that is started again if one of them dies."""

    def __init__(self, count: int, function: Callable[[Any, Any], Any], shared: Any) -> None:
        self.count = count
        # Pickled here, because a queue only prints the error of a value that it cannot pickle.
        self.prepared = bytes(ForkingPickler.dumps((function, shared)))
        self.restarts = 0
        self.pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Python sets it while a new process imports the main script. There, the call would start
        # processes again, which Python refuses, and the pool would then wait for them forever.
        if getattr(current_process(), "_inheriting", False):
            msg = (
                f"workers={self.count}: each worker imports the main script, which starts workers "
                'again; put its code under `if __name__ == "__main__":`'
            )
            raise LingraftError(msg)
        # spawn, because a forked process can hang if the parent has threads, as torch has.
        context = get_context("spawn")
        # Not as arguments of the process: Python writes these into a pipe before it looks whether
        # the process lives, and waits forever for one that ended while it started.
        prepared = context.Queue()
        prepared.cancel_join_thread()
        for _ in range(self.count):
            prepared.put(self.prepared)
        return ProcessPoolExecutor(self.count, context, _prepare, (prepared,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def submit(self, item: Any) -> _Task:
        try:
            future = self.pool.submit(_run_prepared, item)
        except BrokenProcessPool as error:  # the result of an earlier item starts the pool again
            future = Future()
            future.set_exception(error)
        return _Task(item, future)

    def result(self, task: _Task, others: Iterable[_Task]) -> Any:
        """Return the result of a task; if a process died, compute it and the others again."""
        while True:
            try:
                return task.future.result()
            except BrokenProcessPool:
                self._restart()
                for lost in (task, *others):
                    if not lost.future.done() or lost.future.exception() is not None:
                        lost.future = self.submit(lost.item).future

    def _restart(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        if self.restarts == RETRIES:
            raise LingraftError(_lost_message(f"--workers {self.count}"))
        self.restarts += 1
        warn("a worker process was killed; its work is done again in a new process")
        self.pool = self._start()


def _ray_result(ray: Any, task: Any) -> Any:
    """Return the result of a task of Ray; its errors are those of the function."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LingraftError):
            raise error.cause from None  # without the traceback that Ray adds to the message
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise LingraftError(_lost_message("--executor ray")) from error


def _lost_message(option: str) -> str:
    return (
        f"{option}: workers ended unexpectedly {RETRIES + 1} times, as happens when memory runs "
        "out; use fewer workers, or a machine with more memory. If a worker failed to start, its "
        "error is printed above"
    )


HERE = Workers()
"""One worker: this process."""


@contextmanager
def cluster(address: str, slots: float) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one on this machine with `slots` CPUs.

    A cluster that was started here is stopped at the end. Raises `MissingExtraError` without Ray,
    and `RecipeError` if no cluster responds.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", extra="ray") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        # By default Ray hides the GPUs from a task that requests none.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"address": address}
        if not address:
            options = {"address": "local", "num_cpus": slots, "include_dashboard": False}
        try:
            ray.init(**options, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises this class itself, for a slow start
            reason = str(error)[:150]
            msg = (
                f"--ray-address {address}: no cluster responds ({reason}); check the address and "
                "that the cluster runs (`ray status`)"
                if address
                else f"--executor ray: a cluster on this machine did not start ({reason}); try "
                "again, or use --executor local"
            )
            raise RecipeError(msg) from error
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _run(function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
    # Each worker is one process of many, so threads of `tokenizers` would only compete.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return function(shared, item)


_PREPARED: list[tuple[Callable[[Any, Any], Any], Any]] = []
"""The function and the shared value of a worker process. They are sent once, not with each item."""


def _prepare(prepared: Queue[bytes]) -> None:
    _PREPARED.append(ForkingPickler.loads(prepared.get()))


def _run_prepared(item: Any) -> Any:
    return _run(*_PREPARED[0], item)
