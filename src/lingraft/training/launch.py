"""Start the processes of a sharded training, or join those that a launcher has started.

A launcher such as torchrun sets environment variables. torch, accelerate and lm-eval read them and
then wait for the other processes. But only training runs in all processes, so the variables are
removed from the environment and restored while the model trains.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lingraft.errors import RecipeError
from lingraft.progress import say

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The variables that have to be there if WORLD_SIZE is, so that the processes find each other."""

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
    """The place of this process among those of a launcher, and the launcher's variables.

    Rank 0 builds all stages; the other processes only train.
    """

    rank: int
    size: int
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Launch | None:
        """Take the launcher's variables out of the environment; None without several processes.

        Raises `RecipeError` if one of them is missing or wrong.
        """
        size = world_size()
        if size == 1:
            return None
        if missing := [name for name in NEEDED if not os.environ.get(name)]:
            msg = (
                f"WORLD_SIZE={size} without {', '.join(missing)}: torchrun sets them all, and "
                "docs/launch/slurm.sh shows how srun does; for several processes of this machine "
                "give --nproc, and for one process unset WORLD_SIZE"
            )
            raise RecipeError(msg)
        rank = _number("RANK")
        if rank >= size:
            msg = f"RANK={rank}: the ranks of WORLD_SIZE={size} processes are 0 to {size - 1}"
            raise RecipeError(msg)
        return cls(rank, size, _take_variables())


def check_device(device: str, processes: int) -> None:
    """Raise `RecipeError` if several processes would train on one device: `--device cuda:1`."""
    if processes > 1 and ":" in device:
        kind = device.partition(":")[0]
        msg = (
            f"--device {device}: {processes} processes need a device each; give --device {kind} "
            "(CUDA_VISIBLE_DEVICES chooses the GPUs), or train in one process"
        )
        raise RecipeError(msg)


def world_size() -> int:
    """Return the number of processes that a launcher started; 1 without a launcher.

    Raises `RecipeError` if WORLD_SIZE is not a number above 0.
    """
    return _number("WORLD_SIZE", "1")


def _take_variables() -> dict[str, str]:
    return {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}


def _number(name: str, default: str = "") -> int:
    """Return the value of an environment variable that is a number; an empty one is not set."""
    value = os.environ.get(name) or default
    if not value.isdecimal() or (name == "WORLD_SIZE" and int(value) == 0):
        msg = (
            f"{name}={value}: expected a number; launchers such as torchrun set it, and without "
            f"one it has to be unset: unset {name}"
        )
        raise RecipeError(msg)
    return int(value)


def launched(processes: int | None) -> Launch | None:
    """Return the launch of this process, or None; `processes` is the value of --nproc.

    Raises `RecipeError` if a launcher started another number of processes, or if its variables are
    incomplete.
    """
    if processes and not os.environ.get("RANK"):
        # Job files export WORLD_SIZE for their own use; --nproc starts the processes here.
        _take_variables()
        return None
    launch = Launch.take()
    if launch and processes and processes != launch.size:
        msg = (
            f"--nproc {processes}, but a launcher started {launch.size} processes; leave "
            f"out --nproc"
        )
        raise RecipeError(msg)
    return launch


def _describe_end(number: int) -> str:
    """Return how a signal ended a process, the likely reason, and what to do.

    >>> _describe_end(11)
    'was ended by SIGSEGV: a library crashed; its output is above, and doctor checks the packages'
    """
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    if name == "SIGKILL":
        reason = (
            "most likely by the kernel for lack of main memory (see `dmesg`), or by a job's memory "
            "limit; use fewer processes or more memory, and the same command continues from the "
            "last checkpoint"
        )
    elif name in {"SIGTERM", "SIGINT", "SIGHUP"}:
        reason = "somebody stopped it; the same command continues from the last checkpoint"
    else:
        reason = "a library crashed; its output is above, and doctor checks the packages"
    return f"was ended by {name}: {reason}"


def start_processes(count: int, arguments: Sequence[str]) -> int:
    """Run `lingraft` with these arguments in `count` local processes; return the exit code.

    torch's elastic launcher starts them, as in torchrun: if a process fails, it stops the others.
    The end of a process by a signal is printed, and the exit code is 128 plus its number.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # By default, each process would use all CPU cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # The processes print their own errors; that of a signal, which leaves no time for it, is below.
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
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        number = -failure.exitcode
        say(f"error: process {rank + 1} of {count} {_describe_end(number)}")
        return 128 + number  # as shells do
    except SignalException:
        return 130  # the exit code of shells after Ctrl-C
    return 0
