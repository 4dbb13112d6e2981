"""The cost of a run at 7B to 70B: memory of each GPU, hours, GPU-hours, disk and main memory.

    python benchmarks/scale_table.py
    python benchmarks/scale_table.py --tokens 2e9 --added 20000 --gpus H100:8 --gpus H100:64

A GPU holds its share of the training state, and during a step the full embeddings, head and two
layers. Opening a model takes less, since each process reads only its shards. When a phase ends, the
first process holds all weights in float32 in main memory. While a checkpoint is written, a machine
holds the shards of its own processes (8 here) in main memory.

Nothing is run: the table comes from `lingraft.advice.costs`, the estimator behind `lingraft
advise`. Give the price per GPU-hour with --price; there is no default, since prices change.
"""

from __future__ import annotations

import argparse

from lingraft.advice.costs import UTILISATION, Gpus, cost_of
from lingraft.pipeline.model_shape import Shape
from lingraft.training.mfu import SPEEDS

SHAPES = {  # parameters, rows, width, layers, tied, as the models' configurations say
    "Llama-2-7B": Shape(6_738_415_616, 32_000, 4096, 32, tied=False),
    "Llama-3.1-8B": Shape(8_030_261_248, 128_256, 4096, 32, tied=False),
    "Llama-2-13B": Shape(13_015_864_320, 32_000, 5120, 40, tied=False),
    "Llama-3.1-70B": Shape(70_553_706_496, 128_256, 8192, 80, tied=False),
}
PROGRESS_BYTES = 12
"""Of a trained parameter in a checkpoint: the weight and AdamW's two moments, float32."""
MACHINE = 8
"""GPUs, and so processes, of a machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=float, default=1e9, help="trained on, replay included")
    parser.add_argument("--added", type=int, default=10_000, help="tokens added to the vocabulary")
    parser.add_argument(
        "--gpus",
        action="append",
        help="KIND:COUNT, several times (default: H100:8, H100:16, H100:64)",
    )
    parser.add_argument("--price", type=float, help="of a GPU-hour")
    arguments = parser.parse_args()
    print(
        f"{arguments.tokens / 1e9:g}B tokens, +{arguments.added:,} rows, every weight trained, "
        f"{UTILISATION:.0%} of the data sheet's speed\n"
    )
    price = " | cost" if arguments.price else ""
    print(
        "| model | GPUs | GB on each | fits | GB with --recompute | fits | hours | GPU-hours | "
        "tokens/s | disk, GB | "
        f"main memory, GB: checkpoint | main memory, GB: end of a phase{price} |\n"
        f"|{'---|' * (12 + bool(price))}"
    )
    for name, shape in SHAPES.items():
        for text in arguments.gpus or ("H100:8", "H100:16", "H100:64"):
            gpus = Gpus.parse(text)
            extended = shape.resized(shape.rows, arguments.added)
            print(row(name, extended, gpus, round(arguments.tokens), arguments.price))
    print(f"\nGPUs known: {', '.join(SPEEDS)}")


def row(name: str, shape: Shape, gpus: Gpus, tokens: int, price: float | None) -> str:
    """Return the line of a model on some GPUs."""
    cost = cost_of(shape, tokens, gpus)
    hours, gpu_hours = cost.hours or 0.0, cost.gpu_hours or 0.0
    cells = [
        name,
        f"{gpus.count} x {gpus.kind}",
        f"{cost.memory_per_device / 1e9:.0f}",
        "yes" if cost.fits else "no",
        f"{cost.memory_recomputed / 1e9:.0f}",
        "yes" if cost.fits_recomputed else "no",
        f"{hours:.1f}",
        f"{gpu_hours:,.0f}",
        f"{tokens / (hours * 3600):,.0f}",
        f"{cost.disk / 1e9:,.0f}",
        f"{PROGRESS_BYTES * shape.parameters * min(1, MACHINE / gpus.count) / 1e9:,.0f}",
        f"{4 * shape.parameters / 1e9:,.0f}",
        *([f"{gpu_hours * price:,.0f}"] if price else []),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
