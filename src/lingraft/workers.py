"""Maps a function over items: in this process, in several processes, or as tasks on a Ray cluster.

The results come in order. A result depends only on its item and on a shared value, so it is the
same with every executor. If a process or a node of a Ray cluster fails, its items are computed
again; if a local process fails, the error is raised.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

from lingraft.errors import MissingExtraError, RecipeError, did_you_mean

EXECUTORS = ("local", "ray")
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
        if self.is_serial:
            # Without a pool: nothing is pickled, and errors have a short traceback.
            for item in items:
                yield function(shared, item)
        elif self.executor == "ray":
            with cluster(self.address, self.count) as ray:
                remote, reference = ray.remote(num_cpus=1, max_retries=3)(_run), ray.put(shared)
                yield from self._in_order(
                    lambda item: remote.remote(function, reference, item), ray.get, items
                )
        else:
            # spawn, because a forked process can hang if the parent has threads, as torch has.
            with ProcessPoolExecutor(
                self.count, get_context("spawn"), _prepare, (function, shared)
            ) as pool:
                yield from self._in_order(
                    lambda item: pool.submit(_run_prepared, item), Future.result, items
                )

    def _in_order(
        self, submit: Callable[[Any], Any], result: Callable[[Any], Any], items: Iterable[Any]
    ) -> Iterator[Any]:
        """Yield the results in order. At most two items per worker are pending, to bound memory."""
        pending: deque[Any] = deque()
        for item in items:
            pending.append(submit(item))
            if len(pending) >= 2 * self.count:
                yield result(pending.popleft())
        while pending:
            yield result(pending.popleft())


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
        except (ConnectionError, ValueError, RuntimeError) as error:
            msg = (
                f"--ray-address {address or 'local'}: no cluster responds ({str(error)[:150]}); "
                "check the address and that the cluster runs (`ray status`)"
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


def _prepare(function: Callable[[Any, Any], Any], shared: Any) -> None:
    _PREPARED.append((function, shared))


def _run_prepared(item: Any) -> Any:
    return _run(*_PREPARED[0], item)
