"""Processes that a launcher started for one training: which of them this one is, and starting them ourselves.

Torch and the libraries on top of it look for a launcher's variables and then wait for the other processes. Only
training has others to wait for, so the variables are taken out of the environment, and put back while it trains.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lingraft.errors import RecipeError

if TYPE_CHECKING:
    from lingraft.training.distributed import ProcessGroup

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
             "ROLE_WORLD_SIZE", "TORCHELASTIC_RUN_ID")


@dataclass(frozen=True)
class Launch:
    """This process among `size`; the one of rank 0 makes every stage, the others take part in its training."""

    rank: int
    size: int
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Launch | None:
        """Take a launcher's variables out of the environment; `None` where this process is the only one."""
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return None
        found = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
        return cls(int(found["RANK"]), int(found["WORLD_SIZE"]), found)

    @contextmanager
    def together(self, device: str) -> Iterator[ProcessGroup]:
        """Meet the other processes; in the block, this process trains as one of them."""
        from lingraft.training.distributed import init_process_group

        os.environ.update(self.variables)
        try:
            with init_process_group(sharded=True, device=device) as world:
                yield world
        finally:
            for name in self.variables:
                os.environ.pop(name, None)


def launched(processes: int | None) -> Launch | None:
    """Return the launch that this process belongs to; raises `RecipeError` where another number was asked for."""
    launch = Launch.take()
    if launch and processes and processes != launch.size:
        msg = f"--nproc {processes}, but a launcher started {launch.size} processes; leave --nproc out"
        raise RecipeError(msg)
    return launch


def start_processes(count: int, arguments: Sequence[str]) -> int:
    """Run `lingraft` with these arguments in so many processes on this machine; return the exit code.

    It is torch's elastic launcher, as torchrun uses it: where a process fails, the others are ended. Each gets its part
    of the processor's cores.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # processes say themselves what is wrong
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", max_restarts=0, local_addr="127.0.0.1")
    try:
        elastic_launch(config, sys.executable)("-m", "lingraft", *arguments)
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException:
        return 130
    return 0
