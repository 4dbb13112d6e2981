"""Sweep body rate x added-row rate x batch x budget, and fit how the best rates follow.

    python benchmarks/rates_sweep.py --cost                     # cells and hours of each part
    python benchmarks/rates_sweep.py --budgets 0.1MB            # english-8m, Hindi and Turkish
    python benchmarks/rates_sweep.py                            # all budgets, the cheapest first
    python benchmarks/rates_sweep.py --table                    # what was run so far
    python benchmarks/rates_sweep.py --scale smollm2 --precision bfloat16   # SmolLM2-135M
    python benchmarks/rates_sweep.py --point 256 3e-4 8e-4      # one point and the default
    python benchmarks/rates_sweep.py --scale small              # a smoke test: 100 s of one core

Run from the root of the repository; ../shared/assets must exist. By `--cost` on one idle core,
0.1 MB takes 52 minutes a language (72 runs of 40 s, and six for the seeds), 1 MB of Hindi 93
minutes (24 runs of 185 s). `--cost` leaves out what a run needs besides training and scoring, 5 to
10 s, and takes the tokens of Turkish as those of Hindi: 12 runs over 1 MB of it took five minutes
each. 8 runs over 4 MB of Hindi took 11 minutes each, 4 of Turkish 17.

The grid is the study benchmarks/recipes/study-rates.yaml with one seed, in one study for each
budget, language and batch, whose points are printed when it is done. Runs share the extended model
and the packed text, and a process that was killed goes on where it was. Then the best point of each
budget and language, and the default that the rule gives, run with three seeds.

The best point is chosen on documents held out of the training files, in both languages, and
reported on the held-out files, which no choice has read. It has the lowest bits per byte of the
language among those where the base's language is at most 1% worse than before, or, if it is worse
at all points, than at the point that keeps it best. The fit is
log(best body rate) = a + b log(batch) + c log(budget) over the best body rates of each batch; the
rule (`training/batch_rule.py`) has b = 0.5 below 2,048 tokens, and c = 0.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gpu.intervals import interval

import lingraft
from lingraft import pipeline
from lingraft.recipe import Runtime
from lingraft.studies.cells import Cell, cells_of
from lingraft.studies.study_file import read_study
from lingraft.studies.study_folder import STUDY as STUDY_RECORD
from lingraft.studies.study_folder import StudyFolder
from lingraft.training import Budget

STUDY = Path("benchmarks/recipes/study-rates.yaml")
TEXTS = "../shared/assets/text"
BUDGET, BATCH = "training.budget", "training.batch_tokens"
BODY, ROWS = "training.learning_rates.body", "training.learning_rates.added_rows"
SEEDS = {"full": [0, 1, 2], "smollm2": [0, 1, 2], "small": [0, 1]}
"""Seeds of the best point and the default, by scale."""
MOST_LOST = 1.01
"""The replayed language may be so many times as bad as before training, or as at the best point."""

Place = tuple[str, str]  # budget, language


@dataclass(frozen=True)
class Point:
    """A cell of the sweep with one seed, and its bits per byte."""

    place: Place
    batch: float
    body: float
    rows: float
    target: float
    replay: float
    replay_before: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="full", choices=("full", "smollm2", "small"))
    parser.add_argument("--budgets", nargs="+", help="only these budgets of the grid (0.1MB)")
    parser.add_argument("--languages", nargs="+", help="only these languages of the grid (hi)")
    parser.add_argument("--model", help="another model folder than that of the recipe")
    parser.add_argument(
        "--point",
        nargs=3,
        type=float,
        metavar=("BATCH", "BODY", "ROWS"),
        help="only run this point and the default with the seeds",
    )
    parser.add_argument("--cost", action="store_true", help="only print what the grid costs")
    parser.add_argument("--table", action="store_true", help="only print what was run so far")
    parser.add_argument("--runs", type=Path, default=Path("runs/rates-sweep"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", default="auto", help="as that of lingraft study")
    arguments = parser.parse_args()
    parts = parts_of(arguments)
    if not parts:
        parser.error("the grid has no such budget or language")
    if arguments.cost:
        cost(arguments, parts)
        return
    if arguments.point:
        for place in dict.fromkeys(place for place, _ in parts):
            print_seeds(arguments, place, *arguments.point)
        return
    points: list[Point] = []
    for place, batch in parts:
        found = points_of(run(arguments, place, str(batch), {BATCH: [batch]}))
        print_points(found)
        points += found
    print_fit(points)
    for place, point in choose(points).items():
        print(f"\nchosen: {point.target:.4f} where the points were compared")
        print_seeds(arguments, place, point.batch, point.body, point.rows)


def parts_of(arguments: argparse.Namespace) -> dict[tuple[Place, int], list[Cell]]:
    """Return the cells of each budget, language and batch that is asked for, the cheapest first."""
    study = read_study(STUDY, [f"{name}={value}" for name, value in settings_of(arguments).items()])
    budgets = {Budget.model_validate(budget).amount for budget in arguments.budgets or ()}
    parts: dict[tuple[Place, int], list[Cell]] = defaultdict(list)
    for cell in cells_of(study, STUDY.parent):
        place = (str(cell.labels[BUDGET]), str(cell.labels["language"]))
        is_asked = not budgets or amount_of(place) in budgets
        if is_asked and place[1] in (arguments.languages or [place[1]]):
            parts[place, int(cell.labels[BATCH])].append(cell)
    return dict(sorted(parts.items(), key=lambda part: amount_of(part[0][0])))


def amount_of(place: Place) -> tuple[str, float]:
    """Return the unit and the amount of a place's budget."""
    return Budget.model_validate(place[0]).amount


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every study, as overrides."""
    return {"scale": arguments.scale, **({"model": arguments.model} if arguments.model else {})}


def run(
    arguments: argparse.Namespace, place: Place, part: str, changes: dict[str, Any]
) -> list[dict[str, Any]]:
    """Run the study of a place with changes, unless only finished ones count; return its table."""
    budget, language = place
    name = f"study-rates-{arguments.scale}-{language}-{budget}-{part}".replace(" ", "")
    folder = arguments.runs / name
    if arguments.table:
        return StudyFolder(folder).table() if (folder / STUDY_RECORD).is_file() else []
    at_place = {"study.name": name, BUDGET: [budget], "language": [language]}
    finished = lingraft.study(
        STUDY,
        overrides={**settings_of(arguments), **at_place, **changes},
        runs=arguments.runs,
        workers=arguments.workers,
        precision=arguments.precision,
    )
    return finished.table()


def points_of(table: list[dict[str, Any]]) -> list[Point]:
    """Return the points of a study's table."""
    scores: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    labels: dict[str, dict[str, Any]] = {}
    for row in table:
        if row["metric"] == "bits per byte":
            scores[row["cell"]][row["subject"], row["role"]] = row["value"]
            labels[row["cell"]] = row
    points = []
    for cell, found in scores.items():
        axes = {name: labels[cell][f"axis.{name}"] for name in (BUDGET, BATCH, BODY, ROWS)}
        place = (str(axes[BUDGET]), str(labels[cell]["axis.language"]))
        rates = (float(axes[BATCH]), float(axes[BODY]), float(axes[ROWS]))
        before = found["source", "replay"]
        after = (found["adapted", "target"], found["adapted", "replay"])
        points.append(Point(place, *rates, *after, before))
    return points


def choose(points: list[Point]) -> dict[Place, Point]:
    """Return the best point of each budget and language."""
    groups: dict[Place, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.place].append(point)
    return {place: best_of(groups[place]) for place in sorted(groups, key=amount_of)}


def best_of(points: list[Point]) -> Point:
    """Return the lowest point among those that keep the replayed language."""
    least = max(points[0].replay_before, min(point.replay for point in points))
    kept = [point for point in points if point.replay <= MOST_LOST * least]
    return min(kept, key=lambda point: point.target)


def print_points(points: list[Point]) -> None:
    """Print points of one budget, language and batch: a line for each body rate.

    A cell has the bits per byte of the language, and the change of the replayed one.
    """
    if not points:
        return
    (budget, language), rows = points[0].place, sorted({point.rows for point in points})
    head = " | ".join(f"added rows {rate:.3g}" for rate in rows)
    print(f"\n{budget} of {language}, {points[0].batch:,.0f} tokens a step:\n")
    print(f"| body | {head} |\n|---|{'---|' * len(rows)}")
    cells = {(point.body, point.rows): point for point in points}
    for body in sorted({point.body for point in points}):
        line = []
        for rate in rows:
            point = cells.get((body, rate))
            lost = point.replay / point.replay_before - 1 if point else 0.0
            line.append(f"{point.target:.4f} ({lost:+.1%})" if point else "")
        print(f"| {body:.3g} | {' | '.join(line)} |", flush=True)


def print_fit(points: list[Point]) -> None:
    """Print how the best body rate follows the batch and the budget."""
    groups: dict[tuple[Place, float], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.place, point.batch].append(point)
    inner, edges, lowest = [], 0, 0
    for (place, batch), group in groups.items():
        best = best_of(group)
        rates = {point.body for point in group}
        lowest += best.rows == min(point.rows for point in group)
        # The best rate of a whole grid may be beyond its edge, which says nothing of where it is.
        edges += best.body in {min(rates), max(rates)}
        amount = Budget.model_validate(place[0]).amount[1]
        if len(rates) > 2 and best.body not in {min(rates), max(rates)}:
            inner.append((math.log(batch), math.log(amount), math.log(best.body)))
    print(f"\nbest body rates: {len(inner)} inside the grid, {edges} of {len(groups)} at an edge")
    print(f"best added-row rates: {lowest} of {len(groups)} are the lowest of the grid")
    if len(inner) < 4:
        print("too few of them for a fit")
        return
    values = np.array(inner)
    features = np.column_stack([np.ones(len(inner)), values[:, :2]])
    (constant, of_batch, of_budget), *_ = np.linalg.lstsq(features, values[:, 2], rcond=None)
    left = values[:, 2] - features @ np.array([constant, of_batch, of_budget])
    print(
        f"body rate = {math.exp(constant):.3g} x batch^{of_batch:.2f} x budget^{of_budget:.2f}, "
        f"within a factor of {math.exp(np.abs(left).max()):.2f}"
    )


def print_seeds(
    arguments: argparse.Namespace, place: Place, batch: float, body: float, rows: float
) -> None:
    """Run a point and the default with three seeds, and print both and their difference.

    They are scored on the held-out files, of which the choice of the point has read nothing.
    """
    budget, language = place
    heldout = {
        "seeds": SEEDS[arguments.scale],
        "target.heldout": f"{TEXTS}/{language}.heldout.jsonl.gz",
        "replay.heldout": f"{TEXTS}/en.heldout.jsonl.gz",
    }
    own = {BATCH: [int(batch)], BODY: [body], ROWS: [rows]}
    name = f"best-{batch:.0f}-{body:.3g}-{rows:.3g}"
    best = run(arguments, place, name, {**heldout, **own})
    # A setting without a value has its default: the batch and the rates of the rule.
    unset: dict[str, Any] = {BATCH: [None], BODY: [None], ROWS: [None]}
    default = run(arguments, place, "default", {**heldout, **unset})
    print(f"\n{budget} of {language}: {batch:,.0f} tokens a step, {body:.3g} and {rows:.3g}")
    for role in ("target", "replay") if best and default else ():
        ours, theirs = bits(best, role), bits(default, role)
        pairs = [mine - other for mine, other in zip(ours, theirs, strict=True)]
        print(
            f"  {role}, held-out files: {interval(ours)} bits per byte, the rule's "
            f"{interval(theirs)}, difference {interval(pairs)}"
        )


def bits(table: list[dict[str, Any]], role: str) -> list[float]:
    """Return the bits per byte after training of the target language or of replay, by seed."""
    found = {}
    for row in table:
        if (row["metric"], row["subject"], row["role"]) == ("bits per byte", "adapted", role):
            found[row["seed"]] = row["value"]
    return [found[seed] for seed in sorted(found)]


def cost(arguments: argparse.Namespace, parts: dict[tuple[Place, int], list[Cell]]) -> None:
    """Print the cells of each place, and the time of training and scoring on this machine."""
    cells: dict[Place, list[Cell]] = defaultdict(list)
    for (place, _), of_part in parts.items():
        cells[place] += of_part
    total = 0.0
    print("| budget | language | cells | a cell | all, with the runs of the seeds |")
    print("|---|---|---|---|---|")
    for (budget, language), of_place in cells.items():
        rows = pipeline.plan(of_place[0].recipe, Runtime(arguments.runs), notes=False)
        # Tokens, rows and the source's scores are shared by all cells.
        seconds = sum(row.seconds or 0.0 for row in rows if row.flops)
        minutes = seconds * (len(of_place) + 2 * len(SEEDS[arguments.scale])) / 60
        total += minutes
        print(f"| {budget} | {language} | {len(of_place)} | {seconds:.0f} s | {minutes:.0f} min |")
    print(f"\nall: {total / 60:.1f} hours")


if __name__ == "__main__":
    main()
