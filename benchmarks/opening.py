"""Memory of each process while a model is opened for several: shard by shard, and whole.

    python benchmarks/opening.py                     2 processes, a Llama of 1B with random weights
    python benchmarks/opening.py --processes 4 --shape 8B

The processes are started as by torchrun, over gloo on this machine; each way of opening has its own
set of processes. Peak memory is what a process used beyond its memory after the imports. Pages of
mapped files are counted separately: all processes share them, and the system can reclaim them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

SHAPES = {
    "1B": (2048, 5632, 22, 42_000),
    "3B": (3072, 8192, 28, 138_000),
    "8B": (4096, 14336, 32, 138_000),
}


def write_model(folder: Path, shape: str) -> int:
    """Save random bfloat16 weights and return the number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, inner, layers, rows = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        vocab_size=rows,
        num_attention_heads=width // 128,
        num_key_value_heads=8,
    )
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder, max_shard_size="2GB")
    return sum(parameter.numel() for parameter in model.parameters())


def resident() -> tuple[int, int]:
    """Return the bytes of this process's own memory, and of files that it has mapped."""
    found = {
        line.split(":")[0]: line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(("RssAnon", "RssFile"))
    }
    return int(found["RssAnon"]) * 1024, int(found["RssFile"]) * 1024


def open_one(
    rank: int, place: dict[str, str], folder: str, reason: str, results: multiprocessing.Queue
) -> None:
    """Open the model as one of the processes; tell how long it took, and the peaks."""
    os.environ.update(place, RANK=str(rank))
    import torch
    from torch.distributed.fsdp import fully_shard  # noqa: F401 - its memory is not the model's

    from lingraft.strategies.weight_strategies import Full
    from lingraft.training.distributed import init_process_group
    from lingraft.training.prepare_model import load_sharded

    torch.set_num_threads(1)
    before, peaks, done = resident(), [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peaks[:] = [
                max(peak, now - then)
                for peak, now, then in zip(peaks, resident(), before, strict=True)
            ]

    with init_process_group(sharded=True, device="cpu") as world:
        watching = threading.Thread(target=watch)
        watching.start()
        begun = time.monotonic()
        opened = load_sharded(Path(folder), "cpu", whole=reason)
        world.shard_model(
            opened.model, Full().prepare(opened.model, ()), opened.materialize, torch.float32
        )
        seconds = time.monotonic() - begun
        done.set()
        watching.join()
        results.put((rank, seconds, *peaks))


def measure(size: int, folder: str, reason: str) -> list[tuple[int, float, int, int]]:
    """Open the model in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
        }
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=open_one, args=(rank, place, folder, reason, results))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=900) for _ in processes)
    for process in processes:
        process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with multiprocessing.get_context("spawn").Pool(1) as writing:
            parameters = writing.apply(write_model, (Path(folder), arguments.shape))
        print(
            f"{parameters / 1e9:.2f}B parameters, {4 * parameters / 1e9:.1f} GB in float32, "
            f"{arguments.processes} processes\n"
        )
        print(
            "| opened | process | seconds | own memory, GB, peak | mapped files, GB |\n"
            "|---|---|---|---|---|"
        )
        for name, reason in (("shard by shard", ""), ("whole", "to compare")):
            for rank, seconds, own, files in measure(arguments.processes, folder, reason):
                print(f"| {name} | {rank} | {seconds:.1f} | {own / 1e9:.2f} | {files / 1e9:.2f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
