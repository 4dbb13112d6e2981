"""Sweep body rate x added-row rate x batch x budget, and fit how the best rates follow.

    python benchmarks/rates_sweep.py --cost                  # cells and hours of the grid
    python benchmarks/rates_sweep.py                         # english-8m, Hindi and Turkish
    python benchmarks/rates_sweep.py --scale smollm2         # SmolLM2-135M at small budgets
    python benchmarks/rates_sweep.py --scale small           # minutes: a smoke test

Run from the root of the repository; ../shared/assets must exist. The grid is the study
benchmarks/recipes/study-rates.yaml with one seed. Its best points, and the default that the rule
gives, then run as a second study with three seeds. Cells share the spliced model and the packed
text, the cheapest run first, and a process that was killed goes on where it was.

The best point of a budget and a language has the lowest bits per byte of the language among those
where the base's language is at most 1% worse than before. The fit is
log(best body rate) = a + b log(batch) + c log(budget) over the best body rates of each batch; the
rule (`training/batch_rule.py`) has b = 0.5 below the batch by size, and c = 0.
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
from lingraft.studies.cells import cells_of
from lingraft.studies.config import read_study
from lingraft.training import Budget

STUDY = Path("benchmarks/recipes/study-rates.yaml")
BUDGET, BATCH = "training.budget", "training.batch_tokens"
BODY, ROWS = "training.learning_rates.body", "training.learning_rates.added_rows"
SEEDS = [0, 1, 2]
MOST_LOST = 1.01
"""The replayed language may be so many times as bad as before training."""

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

    @property
    def keeps(self) -> bool:
        """Whether the replayed language is about as good as before."""
        return self.replay <= MOST_LOST * self.replay_before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="full", choices=("full", "smollm2", "small"))
    parser.add_argument("--model", help="another model folder than that of the recipe")
    parser.add_argument("--cost", action="store_true", help="only print what the grid costs")
    parser.add_argument("--runs", type=Path, default=Path("runs/rates-sweep"))
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments)
        return
    points = points_of(run(arguments, "study-rates", {}))
    print_grid(points)
    best = choose(points)
    print_fit(points)
    for place, point in best.items():
        print_seeds(arguments, place, point)


def run(arguments: argparse.Namespace, name: str, changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the study with changes; return its table."""
    named = {"scale": arguments.scale, "study.name": f"{name}-{arguments.scale}"}
    model = {"model": arguments.model} if arguments.model else {}
    finished = lingraft.study(
        STUDY,
        overrides={**named, **model, **changes},
        runs=arguments.runs,
        workers=arguments.workers,
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
    best: dict[Place, Point] = {}
    for point in sorted(points, key=lambda point: (not point.keeps, point.target)):
        best.setdefault(point.place, point)
    return dict(sorted(best.items(), key=lambda item: Budget.model_validate(item[0][0]).amount))


def print_grid(points: list[Point]) -> None:
    """Print every point, the best of each budget and language first."""
    print("| budget | language | tokens a step | body | added rows | target | replay | lost |")
    print("|---|---|---|---|---|---|---|---|")
    for point in sorted(points, key=lambda point: (*point.place, not point.keeps, point.target)):
        budget, language = point.place
        lost = point.replay / point.replay_before - 1
        print(
            f"| {budget} | {language} | {point.batch:,.0f} | {point.body:.3g} | {point.rows:.3g} | "
            f"{point.target:.4f} | {point.replay:.4f} | {lost:+.1%} |"
        )


def print_fit(points: list[Point]) -> None:
    """Print how the best body rate follows the batch and the budget."""
    groups: dict[tuple[Place, float], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.place, point.batch].append(point)
    inner, edges = [], 0
    for (place, batch), group in groups.items():
        best = min(group, key=lambda point: (not point.keeps, point.target))
        rates = {point.body for point in group}
        # The best rate of a whole grid may be beyond its edge, which says nothing of where it is.
        edges += best.body in {min(rates), max(rates)}
        amount = Budget.model_validate(place[0]).amount[1]
        if len(rates) > 2 and best.body not in {min(rates), max(rates)}:
            inner.append((math.log(batch), math.log(amount), math.log(best.body)))
    print(f"\nbest body rates: {len(inner)} inside the grid, {edges} of {len(groups)} at an edge")
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


def print_seeds(arguments: argparse.Namespace, place: Place, point: Point) -> None:
    """Run the best point and the default with three seeds, and print their difference."""
    budget, language = place
    shared = {"language": language_axis(arguments, language), BUDGET: [budget], "seeds": SEEDS}
    name = f"study-rates-{language}-{budget}".replace(" ", "")
    own = {BATCH: [int(point.batch)], BODY: [point.body], ROWS: [point.rows]}
    best = target_bits(run(arguments, f"{name}-best", {**shared, **own}))
    # A setting without a value has its default: the batch and the rates of the rule.
    unset = {BATCH: [None], BODY: [None], ROWS: [None]}
    default = target_bits(run(arguments, f"{name}-default", {**shared, **unset}))
    pairs = [mine - theirs for mine, theirs in zip(best, default, strict=True)]
    print(
        f"{budget} of {language}: best {point.batch:,.0f} tokens a step, {point.body:.3g} and "
        f"{point.rows:.3g}: {interval(best)} bits per byte, the rule's "
        f"{interval(default)}, difference {interval(pairs)}"
    )


def target_bits(table: list[dict[str, Any]]) -> list[float]:
    """Return the bits per byte of the target language after training, by seed."""
    found = {}
    for row in table:
        if (row["metric"], row["subject"], row["role"]) == ("bits per byte", "adapted", "target"):
            found[row["seed"]] = row["value"]
    return [found[seed] for seed in sorted(found)]


def language_axis(arguments: argparse.Namespace, language: str) -> dict[str, Any]:
    """Return the language axis of the study with one value."""
    axis = read_study(STUDY, [f"scale={arguments.scale}"]).axes["language"]
    return {language: dict(axis)[language]}


def cost(arguments: argparse.Namespace) -> None:
    """Print the cells of the grid and the time of their training and scoring on this machine."""
    model = [f"model={arguments.model}"] if arguments.model else []
    study = read_study(STUDY, [f"scale={arguments.scale}", *model])
    cells = cells_of(study, STUDY.parent)
    planned: dict[Place, tuple[float, float]] = {}
    seconds = flops = 0.0
    for cell in cells:
        place = (str(cell.labels[BUDGET]), str(cell.labels["language"]))
        if place not in planned:
            rows = pipeline.plan(cell.recipe, Runtime(arguments.runs), notes=False)
            costs = [row for row in rows if row.flops]
            planned[place] = (
                sum(row.seconds or 0.0 for row in costs),
                sum(row.flops or 0.0 for row in costs),
            )
        seconds += planned[place][0]
        flops += planned[place][1]
    print(f"{len(cells):,} cells, {flops:.3g} FLOPs, about {seconds / 3600:.1f} hours")
    for (budget, language), (each, _) in planned.items():
        print(f"  {budget} of {language}: {each:.0f} s a cell")


if __name__ == "__main__":
    main()
