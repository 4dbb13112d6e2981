"""Compare the predictions that runs made before they trained with what they measured.

    lingraft study benchmarks/recipes/study-predictions.yaml    # 24 runs
    python benchmarks/prediction_coverage.py runs/study-predictions
    python benchmarks/prediction_coverage.py RUN ...            # of any finished runs
    python benchmarks/prediction_coverage.py --time FOLDER ...  # of every training.jsonl below

Run from the root of the repository; ../shared/assets must exist. For each predicted metric and each
base of the study: the number of predictions, how many of their 95% intervals hold the measured
value, and the mean error, the mean of its amount and the largest one as shares of it.

Training time has a fixed allowance instead of an interval, and a busy machine swings, so it has a
table of its own: how many trainings ended in the allowance, the median error of the prediction, and
the bounds of the middle 95% of measured / predicted. `--again` predicts with today's code: bits per
byte from the part of the log that it reads, time from the same part as before, where the time of a
point of the held-out curve is that of the log's first one.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from lingraft.forecast.prediction import TIME
from lingraft.forecast.training_curve import (
    FIRST_PART,
    LogRecord,
    ProgressForecast,
    read_log,
    records_with,
)
from lingraft.forecast.training_time import (
    TIME_RANGE,
    MeasuringTime,
    measuring_seconds,
    predict_time,
)
from lingraft.measurement import read_measurements, select
from lingraft.recipe import load_recipe
from lingraft.studies.study_folder import STUDY, StudyFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="finished studies, or runs")
    parser.add_argument(
        "--again",
        action="store_true",
        help="predict bits per byte, or time (from the same part of the log), with today's code",
    )
    parser.add_argument(
        "--time", action="store_true", help="compare the training times of all logs below"
    )
    arguments = parser.parse_args()
    if arguments.time:
        print_times(arguments.folders, again=arguments.again)
        return
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


def print_times(folders: Sequence[Path], *, again: bool) -> None:
    """Print how the predicted training times of the logs below folders compare with the true."""
    low, high = TIME_RANGE
    print(f"| logs below | trainings | {low} to {high} of the prediction | median error | 95% |")
    print(f"|{'---|' * 5}")
    all_ratios: list[float] = []
    # Run folders link to the logs of the store.
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        ratios = []
        for path in sorted(folder.rglob("training.jsonl")):
            status = path.stat()
            if (status.st_dev, status.st_ino) not in seen:
                ratios += time_ratios(read_log(path), again=again)
            seen.add((status.st_dev, status.st_ino))
        all_ratios += ratios
        print_ratios(str(folder), ratios)
    print_ratios("all", all_ratios)


def print_ratios(name: str, ratios: Sequence[float]) -> None:
    """Print a line of the table from measured / predicted training times."""
    if not ratios:
        return
    inside = [TIME_RANGE[0] <= ratio <= TIME_RANGE[1] for ratio in ratios]
    low, high = np.quantile(ratios, [0.025, 0.975])
    print(
        f"| {name} | {len(ratios)} | {sum(inside)} ({fmean(inside):.0%}) | "
        f"{median(1 / ratio - 1 for ratio in ratios):+.1%} | {low:.2f} to {high:.2f} |"
    )


def time_ratios(log: Sequence[LogRecord], *, again: bool) -> list[float]:
    """Return measured / predicted of the training times that a finished log predicts."""
    timed, ratios = records_with(log, "seconds"), []
    for index, record in enumerate(log):
        for row in record.get("predicted", ()):
            steps = record["of_steps"]
            # Another number of steps is that of a shorter training, which this one continues.
            if row["metric"] != TIME or timed[-1]["step"] != steps:
                continue
            value = row["value"]
            if again:
                made = list(predict_time(log[:index], steps, measuring_time(log, record["step"])))
                if not made:
                    continue
                value = made[0].value
            ratios.append(timed[-1]["seconds"] / value)
    return ratios


def measuring_time(log: Sequence[LogRecord], step: int) -> MeasuringTime:
    """Return the seconds of the first point of a held-out curve, and the points from `step` on."""
    last = records_with(log, "seconds")[-1]["step"]
    points = [record["step"] for record in records_with(log, "heldout")]
    points = [point for point in points if 0 < point < last]
    if not points:
        return MeasuringTime()
    # Up to the step after the first point, whose time shows the measurement.
    known = [record for record in log if record["step"] <= max(step, points[0] + 1)]
    return MeasuringTime(measuring_seconds(known), sum(point >= step for point in points))


def predicted_again(folder: Path, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the predictions of a run, those of bits per byte made again from its log."""
    log = read_log(folder / "training.jsonl")
    for row in rows:
        made = [record for record in log if "predicted" in record]
        if row["metric"] == "bits per byte" and made:
            steps = made[-1]["of_steps"]
            points = [record["step"] for record in records_with(log, "heldout")]
            step = max(ceil(FIRST_PART * steps), min(filter(None, points), default=0))
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
