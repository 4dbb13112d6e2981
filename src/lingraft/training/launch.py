"""Starting the processes of one training, or finding this process among those of a launcher.

Torch and libraries that use it look for a launcher's environment variables and then wait for the
other processes. Only training has others to wait for, so the variables are removed from the
environment and set again while it trains.
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

VARIABLES = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
)


@dataclass(frozen=True)
class Launch:
    """This process (`rank`) among `size`; rank 0 builds all stages, the others only train."""

    rank: int
    size: int
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Launch | None:
        """Remove a launcher's variables from the environment; `None` for a single process."""
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return None
        found = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
        return cls(int(found["RANK"]), int(found["WORLD_SIZE"]), found)

    @contextmanager
    def together(self, device: str) -> Iterator[ProcessGroup]:
        """Join the other processes while the block runs."""
        from lingraft.training.distributed import init_process_group

        os.environ.update(self.variables)
        try:
            with init_process_group(sharded=True, device=device) as group:
                yield group
        finally:
            for name in self.variables:
                os.environ.pop(name, None)


def launched(processes: int | None) -> Launch | None:
    """Return the launch of this process; raises `RecipeError` where --nproc disagrees with it."""
    launch = Launch.take()
    if launch and processes and processes != launch.size:
        msg = (
            f"--nproc {processes}, but a launcher started {launch.size} processes; leave "
            f"--nproc out"
        )
        raise RecipeError(msg)
    return launch


def start_processes(count: int, arguments: Sequence[str]) -> int:
    """Run `lingraft` with these arguments in `count` processes here; return the exit code.

    This is torch's elastic launcher, which torchrun uses too: where a process fails, the others
    are stopped. Each process gets its share of the CPU cores.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # The processes print their own errors.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        local_addr="127.0.0.1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "lingraft", *arguments)
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException:
        return 130
    return 0
