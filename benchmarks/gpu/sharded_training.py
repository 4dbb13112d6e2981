"""Piece e: the 1B shape of piece a on all GPUs of the machine, sharded by FSDP2 (`fully_shard`).

A forked process for each GPU, with the environment that torchrun would set. To be read next to
piece a, which trains the same shape on one GPU.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import training_speed
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.results import Column, Results
from benchmarks.gpu.training_speed import Case, measure
from lingraft.training.distributed import init_process_group

TITLE = "FSDP2 on all GPUs of the machine"
COLUMNS = (Column("devices", "devices"), *training_speed.COLUMNS)


def run(results: Results, device: str, work: Path, devices: int, *, smoke: bool) -> None:
    """Measure the shape on all devices; peak memory is that of the first one."""
    if devices < 2:
        results.end("left out: it takes two GPUs or more, and there is one")
        return
    case = Case("tiny", tokens=64, steps=2) if smoke else Case("1B")
    port = free_port()
    jobs = [
        Job(f"rank-{rank}", partial(take_part, rank, devices, port, case, device))
        for rank in range(devices)
    ]
    ended = run_jobs(jobs, work / "jobs", at_once=devices, deadline=results.deadline)
    found = {one.name: one.result for one in ended}
    failed = [one["error"] for one in found.values() if "error" in one]
    row = {
        **asdict(case),
        "devices": devices,
        **found.get("rank-0", {"error": "the time was over"}),
    }
    if failed:
        row["error"] = failed[0]
    results.add(row)
    results.end("complete")


def take_part(rank: int, devices: int, port: int, case: Case, device: str) -> dict[str, Any]:
    """Train as one of several processes; the first one returns what it measured."""
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": devices}
    for name, value in {**addresses, **numbers}.items():
        os.environ[name] = str(value)
    local = f"cuda:{rank}" if device == "cuda" else device
    with init_process_group(sharded=True, device=local) as world:
        found = measure(case, local, world)
        return found if world.is_first else {}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
