"""How large the report of many runs is, and how long a browser takes to open it.

    python benchmarks/report.py [RUN] [--runs 200]

Copies one finished run (default: runs/demo-hi) that many times, each copy with its own name and
varied measures. Writes the page that compares them, and a study page with as many cells. Opens
both, and the report of one run, in headless Chromium from disk. Prints the size, the time to write
and the time to load: from the navigation to the first frame drawn after the load event. The best of
three loads counts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lingraft.measurement import read_measurements, write_measurements
from lingraft.report import compare_runs, write_report, write_study_report
from tests.browser import browser
from tests.test_report_study import make_study

LOADED = (
    "new Promise(done => requestAnimationFrame("
    "() => requestAnimationFrame(() => done(performance.now()))))"
)
SMALL_FILES = (
    "recipe.yaml",
    "certificate.json",
    "samples.json",
    "generated.json",
    "splice.json",
    "training.jsonl",
    "curve.json",
)


def copies(run: Path, count: int, folder: Path) -> list[Path]:
    """Copy a run so many times, each measure moved by up to 10%."""
    measured, drawn = read_measurements(run / "measurements.parquet"), random.Random(0)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    made = []
    for number in range(count):
        copy = folder / f"run-{number:03d}"
        copy.mkdir(parents=True)
        factor = drawn.uniform(0.9, 1.1)
        for name in SMALL_FILES:
            if (run / name).is_file():
                shutil.copyfile(run / name, copy / name)
        rows = [
            replace(
                row,
                value=row.value * factor,
                low=None if row.low is None else row.low * factor,
                high=None if row.high is None else row.high * factor,
            )
            for row in measured
        ]
        write_measurements(rows, copy / "measurements.parquet")
        named = record | {"name": copy.name, "key": f"{number:020x}"}
        (copy / "run.json").write_text(json.dumps(named), encoding="utf-8")
        made.append(copy)
    return made


def opening(page, path: Path) -> float:
    """Return the seconds until a page is loaded and drawn, the best of three."""
    seconds = []
    for _ in range(3):
        page.open("about:blank")
        page.open(path.as_uri())
        seconds.append(page.evaluate(LOADED) / 1000)
        assert not page.complaints, page.complaints
    return min(seconds)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("run", type=Path, nargs="?", default=Path("runs/demo-hi"))
    asked.add_argument("--runs", type=int, default=200)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        runs = copies(given.run, given.runs, folder)
        cells = tuple(range(0, 50 * given.runs, 100))
        study = make_study(folder / "study", sizes=cells, seeds=(0,))
        makers = {
            "one run": lambda: write_report(runs[0]),
            f"{len(runs)} runs side by side": lambda: compare_runs(
                runs, folder / "comparison.html"
            ),
            f"study of {2 * len(cells)} cells": lambda: write_study_report(study),
        }
        with browser(folder / "profile") as page:
            print("| page | size, MB | written in, s | opened in, s |\n|---|---|---|---|")
            for name, make in makers.items():
                begin = time.perf_counter()
                path = make()
                wrote = time.perf_counter() - begin
                print(
                    f"| {name} | {path.stat().st_size / 1e6:.2f} | {wrote:.1f} | "
                    f"{opening(page, path):.2f} |"
                )


if __name__ == "__main__":
    main()
