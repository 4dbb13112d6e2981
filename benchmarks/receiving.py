"""Compare the measurements of a run with those of its model after a way through other tools.

    python benchmarks/receiving.py    # some minutes of one core

Run from the root of the repository; ../shared/assets must exist. english-8m learns 500 Hindi tokens
in 17 steps. The model of the run is received twice: as a copy of its folder, and as transformers
saves it in bfloat16 with 8,960 rows and GPT2TokenizerFast. Each line of the table has the findings,
how many measurements equal those of the run, and the largest difference of bits per byte. What
depends on the speed of the machine is not compared.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2TokenizerFast

import lingraft
from lingraft.pipeline import Run
from lingraft.pipeline.received import FINDINGS

RECIPE = "benchmarks/recipes/english-8m-hindi.yaml"
SETTINGS = {
    "name": "handed-over",
    "vocabulary.size": 500,
    "training.budget": "17 steps",
    "evaluation.heldout_bytes": "50 kB",
    "evaluation.generation": None,
}
ROWS = 8960


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/receiving"))
    runs = parser.parse_args().runs
    run = lingraft.adapt(RECIPE, overrides=SETTINGS, runs=runs)
    print("| returned as | findings | equal measurements | largest difference in bits per byte |")
    print("|---|--:|--:|--:|")
    for name, make in (("copy", copy), ("bfloat16", saved_in_bfloat16)):
        folder = runs / "returned" / name
        shutil.rmtree(folder, ignore_errors=True)
        make(run.model_path, folder)
        received = lingraft.receive(folder, run, name=f"received-{name}", runs=runs)
        print(f"| {name} | {findings(received)} | {compared(run, received)} |", flush=True)


def copy(model: Path, folder: Path) -> None:
    """Copy the folder of a model."""
    shutil.copytree(model, folder)


def saved_in_bfloat16(model: Path, folder: Path) -> None:
    """Save a model as other tools do: rounded, with more rows, and with the class of its base."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    loaded.resize_token_embeddings(ROWS)
    loaded.save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(model).save_pretrained(folder)


def findings(received: Run) -> str:
    """Return how many findings were repaired and kept."""
    found = received.notes["received model"][FINDINGS]
    counts = Counter(finding["outcome"] for finding in found)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "0"


def compared(run: Run, received: Run) -> str:
    """Return how many measurements are equal, and the largest difference of bits per byte."""
    pairs = zip(comparable(run), comparable(received), strict=True)
    equal, largest, number = 0, 0.0, 0
    for mine, theirs in pairs:
        number += 1
        equal += mine == theirs
        if mine.metric == "bits per byte":
            largest = max(largest, abs(mine.value - theirs.value))
    return f"{equal} of {number} | {largest:.2g}"


def comparable(run: Run) -> list[lingraft.Measurement]:
    """Return the measurements of the adapted model that do not depend on speed."""
    rows = run.measurements.rows
    return [row for row in rows if row.subject == "adapted" and row.split != "generated"]


if __name__ == "__main__":
    main()
