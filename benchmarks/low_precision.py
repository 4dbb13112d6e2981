"""Weights in bfloat16 with stochastic rounding and 8-bit moments, compared with float32.

    python benchmarks/low_precision.py                    # three seeds, 1 MB of Hindi
    python benchmarks/low_precision.py --seeds 1 --bytes "0.2 MB"
    python benchmarks/low_precision.py --smoke            # a minute: a smoke test

Run from the root of the repository, with the extra `torchao`; ../shared/assets must exist.
english-8m learns Hindi with +3,000 tokens. The runs of a seed differ in `training.optimizer` only:
`adamw` (float32), and `adamw8bit_bfloat16`. A stopped run goes on where it was: finished stages are
cached. Intervals over seeds are Student's t at 95%, paired by seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gpu.intervals import interval

import lingraft
from lingraft.measurement import select

RECIPE = Path("benchmarks/recipes/english-8m-hindi.yaml")
OPTIMIZERS = ("adamw", "adamw8bit_bfloat16")
LANGUAGES = ("hi", "en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bytes", default="1 MB", help="Hindi text to train on")
    parser.add_argument("--size", type=int, default=3000, help="tokens added")
    parser.add_argument("--heldout", default="100 kB", help="scored in each language")
    parser.add_argument("--runs", type=Path, default=Path("runs/low-precision"))
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seeds, arguments.bytes = 1, "0.02 MB"
        arguments.size, arguments.heldout = 100, "2 kB"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in OPTIMIZERS}
    for seed in range(arguments.seeds):
        for optimizer in OPTIMIZERS:
            found[optimizer].append(bits(arguments, optimizer, seed))
    print(
        f"{arguments.bytes} of Hindi, +{arguments.size:,} tokens, {arguments.seeds} seeds\n\n"
        f"| optimizer | language | bits per byte | more than float32 | largest difference |\n"
        f"|---|---|---|---|---|"
    )
    for optimizer in OPTIMIZERS:
        for language in LANGUAGES:
            values = [one[language] for one in found[optimizer]]
            exact = [one[language] for one in found["adamw"]]
            more = [mine - other for mine, other in zip(values, exact, strict=True)]
            most = max(more, key=abs)
            last = f"{interval(more)} | {most:+.4f}" if optimizer != "adamw" else " |"
            print(f"| {optimizer} | {language} | {interval(values)} | {last} |")


def bits(arguments: argparse.Namespace, optimizer: str, seed: int) -> dict[str, float]:
    """Train; return the bits per byte of the adapted model by language."""
    run = lingraft.adapt(
        RECIPE,
        overrides={
            "name": f"{optimizer}-{arguments.bytes}-{seed}".replace(" ", "-"),
            "seed": seed,
            "vocabulary": {"size": arguments.size},
            "training": {
                "optimizer": optimizer,
                "budget": arguments.bytes,
                "packing": {"block_size": 256},
                "heldout_points": 0,
            },
            "evaluation": {
                "heldout_bytes": arguments.heldout,
                "context": 256,
                "generation": None,
                "bootstrap": {"resamples": 100},
            },
        },
        runs=arguments.runs,
    )
    rows = (
        select(run.measurements, metric="bits per byte", language=language, subject="adapted")
        for language in LANGUAGES
    )
    return {language: found[0].value for language, found in zip(LANGUAGES, rows, strict=True)}


if __name__ == "__main__":
    main()
