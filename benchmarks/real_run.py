"""The table of a run, as the README and benchmarks/results.md hold it.

    python benchmarks/real_run.py [benchmarks/recipes/english-8m-hindi.yaml | runs/NAME]

A recipe is run first (stages in runs/.store are reused), with document masks, as by default: the
recipe leaves them out for the studies that build on it. A finished run folder is only read. Prints
the table of the terminal, then the Markdown table of the model card with all measurements. Run from
the root of the repository.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import lingraft
from lingraft.formatting import duration
from lingraft.model_card.card_table import measurement_table
from lingraft.pipeline import Run, before_after


def main() -> None:
    """Carry the recipe out if there is no run yet, and print its tables."""
    from rich.console import Console

    source = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/recipes/english-8m-hindi.yaml")
    started = time.monotonic()
    masks = {"training.document_attention_mask": "auto"}
    run = Run(source) if source.is_dir() else lingraft.adapt(source, overrides=masks)
    Console(width=160).print(before_after(run))
    print(f"\n{measurement_table(run.measurements)}\n")
    print(f"{duration(time.monotonic() - started)}, report {run.report}")


if __name__ == "__main__":
    main()
