"""Pieces of work done elsewhere, their results in order: in this process, in several, or as tasks of a Ray cluster.

What is done with a piece depends on nothing but the piece and what all share, so the answer is the same whatever does
it. A piece whose process died, or whose node was lost, is done again on a cluster; here, the error is raised.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

from lingraft.errors import MissingExtraError, RecipeError, did_you_mean

EXECUTORS = ("local", "ray")
Shared = TypeVar("Shared")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """How many pieces are worked on at a time, and where; `address` is that of a Ray cluster, empty: one started here.

    Raises `RecipeError` for an executor that is not known, or an address without a cluster.
    """

    count: int = 1
    executor: str = "local"
    address: str = ""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            msg = f"--executor {self.executor!r} is not known; {did_you_mean(self.executor, EXECUTORS)}"
            raise RecipeError(msg)
        if self.address and self.executor != "ray":
            msg = f"--ray-address {self.address}: goes with --executor ray"
            raise RecipeError(msg)

    @property
    def here(self) -> bool:
        """Whether everything is done in this process."""
        return self.count == 1 and self.executor == "local"

    def map(
        self, function: Callable[[Shared, Piece], Result], shared: Shared, pieces: Iterable[Piece]
    ) -> Iterator[Result]:
        """Yield function(shared, piece) for each piece, in order; at most two pieces a worker are under way.

        >>> list(Workers().map(pow, 2, [1, 2, 3]))
        [2, 4, 8]
        """
        if self.here:
            for piece in pieces:
                yield function(shared, piece)
        elif self.executor == "ray":
            with cluster(self.address, self.count) as ray:
                remote, common = ray.remote(num_cpus=1, max_retries=3)(_alone), ray.put(shared)
                yield from self._in_order(
                    lambda piece: remote.remote(function, common, piece), ray.get, pieces
                )
        else:
            with ProcessPoolExecutor(
                self.count, get_context("spawn"), _prepare, (function, shared)
            ) as pool:
                yield from self._in_order(
                    lambda piece: pool.submit(_work, piece), lambda one: one.result(), pieces
                )

    def _in_order(
        self, begin: Callable[[Any], Any], end: Callable[[Any], Any], pieces: Iterable[Any]
    ) -> Iterator[Any]:
        waiting: deque[Any] = deque()
        for piece in pieces:
            waiting.append(begin(piece))
            if len(waiting) >= 2 * self.count:
                yield end(waiting.popleft())
        while waiting:
            yield end(waiting.popleft())


HERE = Workers()
"""This process alone."""


@contextmanager
def cluster(address: str, slots: float) -> Iterator[Any]:
    """Join a Ray cluster, or start one here with so many CPUs; what was started here is ended.

    Raises `MissingExtraError` without Ray, `RecipeError` where no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", extra="ray") from error
    begun = not ray.is_initialized()
    if begun:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        where: dict[str, Any] = (
            {"address": address}
            if address
            else {"address": "local", "num_cpus": slots, "include_dashboard": False}
        )
        try:
            ray.init(**where, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            msg = (
                f"--ray-address {address or 'local'}: no cluster answers there ({str(error)[:150]})"
            )
            raise RecipeError(msg) from error
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()


def _alone(function: Callable[[Any, Any], Any], shared: Any, piece: Any) -> Any:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers are the parallelism
    return function(shared, piece)


_OWN: list[tuple[Callable[[Any, Any], Any], Any]] = []
"""What a worker process does, and what it shares with the others; sent once."""


def _prepare(function: Callable[[Any, Any], Any], shared: Any) -> None:
    _OWN.append((function, shared))


def _work(piece: Any) -> Any:
    return _alone(*_OWN[0], piece)
