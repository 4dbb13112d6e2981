"""The main run on a really pretrained model: before and after, with intervals, and how long it took.

    python benchmarks/real_run.py [recipes/english-8m-hindi.yaml]

Run from the root of the repository; ../shared/assets must be there. Finished stages are taken from the store: remove
runs/.store for a run from nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import lingraft
from lingraft.measurement import Measurement, select

SHOWN = ("tokens per word", "bits per byte", "generation speed")


def cell(rows: list[Measurement]) -> str:
    """Return a value with its interval."""
    if not rows:
        return ""
    (row,) = rows
    interval = f" ({row.low:.3g} to {row.high:.3g})" if row.low is not None and row.high is not None else ""
    return f"{row.value:.4g}{interval}"


def main() -> None:
    """Carry the recipe out and print its table."""
    recipe = Path(sys.argv[1] if len(sys.argv) > 1 else "recipes/english-8m-hindi.yaml")
    started = time.monotonic()
    run = lingraft.adapt(recipe)
    rows = run.measurements()
    print("| metric | language | source | spliced | adapted |\n|---|---|---|---|---|")
    for metric in SHOWN:
        for language in dict.fromkeys(row.language for row in rows):
            cells = [cell(select(rows, metric=metric, language=language, subject=subject))
                     for subject in ("source", "spliced", "adapted")]
            print(f"| {metric} | {language} | {' | '.join(cells)} |")
    print(f"{time.monotonic() - started:.0f} s, report {run.report}")


if __name__ == "__main__":
    main()
