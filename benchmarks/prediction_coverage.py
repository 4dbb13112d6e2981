"""Compare the predictions that runs made before they trained with what they measured.

    lingraft study benchmarks/recipes/study-predictions.yaml    # 24 runs
    python benchmarks/prediction_coverage.py runs/study-predictions
    python benchmarks/prediction_coverage.py RUN ...            # of any finished runs

Run from the root of the repository; ../shared/assets must exist. For each predicted metric and each
base of the study: the number of predictions, how many of their 95% intervals hold the measured
value, and the mean error, the mean of its amount and the largest one as shares of it. Training time
is left out, because a busy machine swings.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lingraft.forecast.training_curve import ProgressForecast, read_log
from lingraft.measurement import read_measurements, select
from lingraft.recipe import load_recipe
from lingraft.studies.study_folder import STUDY, StudyFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="finished studies, or runs")
    parser.add_argument(
        "--again",
        action="store_true",
        help="predict bits per byte with today's code from the same part of the log",
    )
    arguments = parser.parse_args()
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for base, folder in runs_of(arguments.folders):
        measured = read_measurements(folder / "measurements.parquet")
        prediction = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        rows = prediction["rows"]
        for row in predicted_again(folder, rows) if arguments.again else rows:
            found = select(
                measured, metric=row["metric"], language=row["language"], subject="adapted"
            )
            if not row["language"] or not found:
                continue
            value = found[0].value
            for group in dict.fromkeys((base, "all")):
                errors[row["metric"], group].append(row["value"] / value - 1)
                held[row["metric"], group].append(row["low"] <= value <= row["high"])
    heads = "predictions | in the 95% interval | mean error, signed | mean error | largest error"
    print(f"| predicted | base | {heads} |")
    print(f"|{'---|' * 7}")
    for key in sorted(errors):
        inside, off = held[key], errors[key]
        print(
            f"| {key[0]} | {key[1]} | {len(off)} | {sum(inside)} ({fmean(inside):.0%}) | "
            f"{fmean(off):+.1%} | {fmean(map(abs, off)):.1%} | {max(map(abs, off)):.1%} |"
        )


def predicted_again(folder: Path, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the predictions of a run, those of bits per byte made again from its log."""
    log = read_log(folder / "training.jsonl")
    for row in rows:
        made = [record for record in log if "predicted" in record]
        if row["metric"] == "bits per byte" and made:
            step, steps = made[-1]["step"], made[-1]["of_steps"]
            schedule = load_recipe(folder / "recipe.yaml").training.phases[0].schedule
            seen = [record for record in log if record["step"] <= step]
            end = ProgressForecast(schedule.factor, steps).predict_end(seen, step)
            yield {**row, "value": end.value, "low": end.low, "high": end.high}
        else:
            yield row


def runs_of(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the run folder of each cell of a study with its base, and each run as it is."""
    for folder in folders:
        if not (folder / STUDY).is_file():
            yield "all", folder
            continue
        study = StudyFolder(folder)
        for cell in study.record["cells"]:
            if cell["status"] == "done":
                yield str(cell["labels"].get("base", "all")), study.cell(cell["name"])


if __name__ == "__main__":
    main()
