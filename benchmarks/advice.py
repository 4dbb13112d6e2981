"""Predictions against what came out, on real text: tokens per byte, and bits per byte from the first fifth of a run.

    python benchmarks/advice.py [small|full] [RUNS]

Run from the root of the repository; ../shared/assets must be there. Each run of recipes/english-8m-*.yaml is carried
out (what the store holds is not done again), and its predictions are made from what was known before: tokens per byte
from the base tokenizer and train text, the end from the first 20% of the log. Tokenizers alone are checked on sizes
between those that the prediction was made for. `small` takes 20 minutes on 2 cores, `full` is for a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lingraft
from lingraft.advice import checked, keep_predictions

BUDGETS = {"small": "0.4 MB", "full": "8 MB"}
LANGUAGES = {"small": ("hindi", "turkish"), "full": ("hindi", "turkish", "arabic", "tamil")}
TARGETS = {"tokens per byte": 0.01, "bits per byte": 0.03}


def main() -> None:
    """Carry the runs out and print predicted beside measured."""
    scale = sys.argv[1] if len(sys.argv) > 1 else "small"
    runs = Path(sys.argv[2] if len(sys.argv) > 2 else "runs")
    print("| run | metric | predicted (95% interval) | measured | error | target | inside |")
    print("|---|---|---|---|---|---|---|")
    for language in LANGUAGES[scale]:
        run = lingraft.adapt(Path("recipes") / f"english-8m-{language}.yaml", runs=runs, overrides={
            "name": f"advice-{language}", "training.budget": BUDGETS[scale], "training.batch_tokens": 1024,
            "training.heldout_points": 20, "target.limit.bytes": "3 MB", "evaluation.heldout_bytes": "50 kB",
            "evaluation.generation": None})
        keep_predictions(run.folder, runs / ".store")
        for row in checked(run.folder):
            one, target = row.prediction, TARGETS.get(row.prediction.metric)
            print(f"| english-8m, {language} | {one.metric} | {one.value:.4g} ({one.low:.4g} to {one.high:.4g}) | "
                  f"{row.measured:.4g} | {row.error:+.1%} | {f'{target:.0%}' if target else ''} | "
                  f"{'yes' if row.within else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
