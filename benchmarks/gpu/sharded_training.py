"""Piece e.

The 1B shape of piece a on all GPUs of the machine, sharded by FSDP2 (torch's `fully_shard`).

Started by torchrun, a process a GPU: `python -m torch.distributed.run --standalone --nproc-per-node
N -m benchmarks.gpu.sharded_training FILE DEVICE SHAPE`. The first process writes the row as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu import training_speed
from benchmarks.gpu.results import Column, Results, write_json
from benchmarks.gpu.training_speed import Case, measure
from lingraft.training.world import joined

TITLE = "FSDP2 on all GPUs of the machine"
COLUMNS = (Column("devices", "devices"), *training_speed.COLUMNS)


def run(results: Results, device: str, work: Path, devices: int, *, smoke: bool) -> None:
    """Measure the shape on all devices, to be read next to piece a.

    Peak memory is that of the first process.
    """
    if devices < 2:
        results.end("left out: it takes two GPUs or more, and there is one")
        return
    shape, tokens = ("tiny", 64) if smoke else ("1B", 2048)
    output = work / "sharded.json"
    output.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={devices}",
        "-m",
        "benchmarks.gpu.sharded_training",
        str(output),
        device,
        shape,
        str(tokens),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(10, results.left())
        )
        failed = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]
    except subprocess.TimeoutExpired:
        failed = "the time was over"
    if output.is_file():
        row: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    else:
        row = {**asdict(Case(shape, tokens=tokens)), "devices": devices, "error": failed}
    results.add(row)
    results.end("complete")


def main() -> None:
    """Take part as one of several processes."""
    output, device, shape, tokens = sys.argv[1:]
    local = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    case = Case(shape, tokens=int(tokens))
    with joined(sharded=True, device=local) as world:
        found = measure(case, local, world)
        if world.is_first:
            write_json(Path(output), {**asdict(case), **found})


if __name__ == "__main__":
    main()
