"""Several runs on one GPU at a time, each in a forked process of its own, until the time is over.

A model of 135M parameters leaves most of a large GPU idle: kernels are shorter than the time to
start them. Three runs at a time take little longer than one. Forking saves importing torch for
each; the parent must not have touched CUDA.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import write_json

POLL = 0.1


@dataclass(frozen=True)
class Job:
    """What is to be done under which name; `work` returns plain JSON."""

    name: str
    work: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Done:
    """A job that ended: its result, or the error that it ended with."""

    name: str
    seconds: float
    result: dict[str, Any]


def run_jobs(jobs: Sequence[Job], folder: Path, *, at_once: int, deadline: float) -> Iterator[Done]:
    """Carry jobs out in their order, `at_once` at a time; yield each as it ends.

    No job is started that could not end in time, judged by the slowest so far; what runs at the
    deadline is killed. Logs and results are kept in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting, slowest = list(jobs), 0.0
    running: dict[Any, Any] = {}
    context = multiprocessing.get_context("fork")
    while waiting or running:
        now = time.monotonic()
        while waiting and len(running) < at_once and deadline - now > slowest:
            job = waiting.pop(0)
            process = context.Process(target=_carry_out, args=(job, folder / job.name))
            process.start()
            running[job.name] = process, now
        if not running:
            return
        for name, (process, started) in list(running.items()):
            if process.is_alive() and now < deadline:
                continue
            process.kill()
            process.join()
            del running[name]
            seconds = time.monotonic() - started
            if now >= deadline:
                continue
            slowest = max(slowest, seconds)
            yield Done(name, round(seconds, 1), _result(folder / name, process.exitcode))
        time.sleep(POLL)


def _carry_out(job: Job, path: Path) -> None:
    """Run in the forked process: output goes to a log, the result to a file."""
    with path.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            result = job.work()
        except Exception as error:  # noqa: BLE001 - a failed run is a row of the table
            traceback.print_exc(file=log)
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        write_json(path.with_suffix(".json"), result)


def _result(path: Path, exit_code: int | None) -> dict[str, Any]:
    result = path.with_suffix(".json")
    if not result.is_file():
        return {"error": f"ended with exit code {exit_code}; see {path.with_suffix('.log')}"}
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found
