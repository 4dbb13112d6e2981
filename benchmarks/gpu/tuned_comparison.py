"""Piece f: the default recipe, the paper's and training alone, each at its own best rate and batch.

As benchmarks/recipes_compare.py, for the model of the pack and Hindi. Every arm is tuned over the
same grid of learning rates and batches, one seed; then the arms are compared with other held-out
text. `default` and `paper` read the same bytes; `no added tokens`, and `paper` once more, get the
training FLOPs of `default`.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.compared_recipes import ALONE, DEFAULT, PAPER, RECIPES, Point
from benchmarks.gpu.intervals import interval
from benchmarks.gpu.jobs import Done, Job, run_jobs
from benchmarks.gpu.recipes import Base, Sizes, tuned_recipe
from benchmarks.gpu.results import Column, Results
from lingraft import pipeline
from lingraft.measurement import select
from lingraft.pipeline.build_stage import build_node
from lingraft.pipeline.model_shape import Shape
from lingraft.pipeline.stages import build_graph
from lingraft.progress import discard_line
from lingraft.recipe import Runtime
from lingraft.store import Manifest, Store
from lingraft.tokenizer import open_tokenizer
from lingraft.training.mfu import flops_per_token

TITLE = "Recipes at their own best rate and batch, Hindi"
COLUMNS = (
    Column("part", "part"),
    Column("arm", "arm"),
    Column("equal", "equal"),
    Column("rate", "rate", ".3g"),
    Column("tokens a step", "batch", ",d"),
    Column("seed", "seed"),
    Column("hi before", "hi source", ".4f"),
    Column("hi adapted", "hi adapted", ".4f"),
    Column("en before", "en source", ".4f"),
    Column("en adapted", "en adapted", ".4f"),
    Column("tokens", "tokens", ",d"),
    Column("hi bytes", "target_bytes", ",d"),
    Column("job, s", "job seconds", ".0f"),
    Column("failed", "error"),
)
TOKENS = (DEFAULT, PAPER)
"""The arms that add tokens."""
COMPARED = ((DEFAULT, "bytes"), (PAPER, "bytes"), (ALONE, "FLOPs"), (PAPER, "FLOPs"))


@dataclass(frozen=True)
class Attempt:
    """A run of an arm. `equal` names what it shares with the default: bytes or FLOPs."""

    arm: str
    equal: str
    point: Point
    seed: int = 0
    is_trial: bool = False

    @property
    def row(self) -> dict[str, Any]:
        """The columns that are known before the run."""
        return {
            "part": "tune" if self.is_trial else "compare",
            "arm": self.arm,
            "equal": self.equal,
            "rate": self.point.rate,
            "batch": self.point.batch,
            "seed": self.seed,
        }


def run(results: Results, base: Base, work: Path, device: str, *, at_once: int) -> None:
    """Tune every arm, then compare them seed by seed, and say what the intervals carry."""
    sizes = base.sizes
    grid = [Point(*pair) for pair in itertools.product(sizes.rates, sizes.batches)]
    # The runs are short and wait for the CPU more than for the GPU, so more of them share it.
    runs = Runs(results, base, work, device, 2 * at_once)
    runs.prepare()
    runs.carry_out(
        [Attempt(arm, "bytes", point, is_trial=True) for point in grid for arm in TOKENS]
    )
    tokens = tokens_of_default(results.rows)
    if tokens:
        alone = [Attempt(ALONE, "FLOPs", point, is_trial=True) for point in grid]
        runs.carry_out(alone, tokens)
    chosen = {arm: best for arm in RECIPES if (best := best_point(results.rows, arm))}
    for arm, point in chosen.items():
        results.facts[f"chosen for {arm}"] = described(point, sizes)
    compared = [
        Attempt(arm, equal, chosen[arm], seed)
        for seed in range(sizes.seeds)
        for arm, equal in COMPARED
        if arm in chosen and (tokens or equal == "bytes")
    ]
    runs.carry_out(compared, tokens)
    wanted = len(grid) * len(RECIPES) + len(COMPARED) * sizes.seeds
    results.end(ending(results.rows, wanted), summary(results.rows))


def ending(rows: Sequence[dict[str, Any]], wanted: int) -> str:
    """Return "complete" if all wanted runs ended well, or how many did and why others did not.

    >>> ending([{"arm": DEFAULT, "tokens": 9}, {"arm": PAPER, "error": "killed"}], 2)
    '1 of 2 runs: 1 failed'
    """
    failed = sum("error" in row for row in rows)
    missing, reasons = wanted - len(rows), []
    if failed:
        reasons.append(f"{failed} failed")
    if missing and tokens_of_default(rows):
        reasons.append(
            f"{missing} were not carried out: the time was over, or no run of tuning "
            f"their arm ended well"
        )
    elif missing:
        reasons.append(
            f"{missing} were not carried out: no run of {DEFAULT} ended well, whose "
            f"tokens or rate they need"
        )
    return f"{len(rows) - failed} of {wanted} runs: {'; '.join(reasons)}" if reasons else "complete"


@dataclass(frozen=True)
class Runs:
    """Carries out runs, `at_once` at a time, and adds their rows to the results."""

    results: Results
    base: Base
    work: Path
    device: str
    at_once: int

    def prepare(self) -> None:
        """Build the stages that runs share."""
        jobs = []
        for arm, is_trial in itertools.product(RECIPES, (True, False)):
            name = f"prepare-{arm}-{'trial' if is_trial else 'run'}".replace(" ", "-")
            jobs.append(Job(name, partial(prepared, self.base, arm, is_trial=is_trial)))
        for done in self._done(jobs, at_once=len(jobs)):
            print(f"f | {done.name}: {done.seconds} s {done.result.get('error', '')}", flush=True)

    def carry_out(self, attempts: Sequence[Attempt], tokens: int = 0) -> None:
        """Carry out attempts; `tokens` are those of the default, for equal FLOPs."""
        jobs, by_name, before = [], {}, len(self.results.rows)
        for number, one in enumerate(attempts, before):
            name = f"{number}-{one.arm}".replace(" ", "-")
            by_name[name] = one
            jobs.append(Job(name, partial(self._trained, one, tokens)))
        for done in self._done(jobs, at_once=self.at_once):
            row = {**by_name[done.name].row, **done.result, "job seconds": done.seconds}
            self.results.add(row)

    def _done(self, jobs: Sequence[Job], *, at_once: int) -> Iterator[Done]:
        folder, deadline = self.work / "jobs", self.results.deadline
        return run_jobs(jobs, folder, at_once=at_once, deadline=deadline)

    def _trained(self, one: Attempt, tokens: int) -> dict[str, Any]:
        """Carry out one run; return its bits per byte by language, its tokens and bytes."""
        base, budget = self.base, budget_of(self.base, one.arm, one.equal, tokens)
        recipe = tuned_recipe(base, one.arm, one.point, one.seed, budget, is_trial=one.is_trial)
        done = pipeline.run(
            recipe,
            Runtime(self.work / "runs", base.store, self.device),
            write_report=lambda _: None,  # many short runs: nobody reads their reports
            log=lambda line: print(line, flush=True),
        )
        row: dict[str, Any] = {}
        for language, subject in itertools.product(("hi", "en"), ("source", "adapted")):
            (found,) = select(
                done.measurements, metric="bits per byte", language=language, subject=subject
            )
            row[f"{language} {subject}"] = found.value
        store, graph = Store(base.store), build_graph(recipe)
        assert graph.training is not None
        notes = Manifest.read(store.folder(graph.training.stage)).notes
        # A model for each run would fill a small disk.
        shutil.rmtree(store.folder(graph.training.stage), ignore_errors=True)
        return {**row, **{key: notes[key] for key in ("tokens", "target_bytes")}}


def described(point: Point, sizes: Sizes) -> str:
    """Return a point in words, and whether it is at an edge of the grid."""
    edges = []
    for name, value, values in (
        ("rate", point.rate, sizes.rates),
        ("batch", point.batch, sizes.batches),
    ):
        if len(values) > 1 and value in {min(values), max(values)}:
            edges.append(name)
    said = f"; at an edge of the grid: {', '.join(edges)}" if edges else ""
    return f"{point.rate:g}, {point.batch:,} tokens a step{said}"


def prepared(base: Base, arm: str, *, is_trial: bool) -> dict[str, Any]:
    """Clean the text, learn the tokens and tokenise: the stages that the runs of an arm share."""
    point = Point(base.sizes.rates[0], base.sizes.batches[0])
    recipe = tuned_recipe(base, arm, point, 0, budget_of(base, arm, "bytes", 0), is_trial=is_trial)
    graph, store = build_graph(recipe), Store(base.store)
    runtime = Runtime(store=base.store, device="cpu")
    nodes = (graph.source, *graph.targets, graph.replay, graph.vocabulary)
    for node in (*nodes, *graph.packing.values()):
        if node is not None:
            build_node(node, recipe, runtime, store, discard_line)
    return {}


def budget_of(base: Base, arm: str, equal: str, tokens: int) -> str:
    """Return the budget of an arm: the bytes of all, or the FLOPs of the default's tokens."""
    if equal == "bytes":
        return f"{base.sizes.tuned_megabytes} MB"
    sizes = Shape.of(base.folder)
    tokens_of_base, added = open_tokenizer(base.folder).size, base.sizes.tuned_added
    of_default, of_arm = (
        flops_per_token(shape.multiplied, shape.multiplied)
        for shape in (
            sizes.resized(tokens_of_base, count) for count in (added, 0 if arm == ALONE else added)
        )
    )
    return f"{round(tokens * of_default / of_arm)} tokens"


def tokens_of_default(rows: Sequence[dict[str, Any]]) -> int:
    """Return the tokens that a run of the default trains on; 0 if none ended well."""
    found = [row["tokens"] for row in rows if row["arm"] == DEFAULT and "error" not in row]
    return max(found, default=0)


def best_point(rows: Sequence[dict[str, Any]], arm: str) -> Point | None:
    """Return the point of the grid with the lowest bits per byte in Hindi."""
    own = [row for row in rows if row["part"] == "tune" and row["arm"] == arm]
    good = [row for row in own if "error" not in row]
    if not good:
        return None
    best = min(good, key=lambda row: row["hi adapted"])
    return Point(best["rate"], best["batch"])


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say what Hindi gained and English lost; compare the arms with the default by seed."""
    good = [row for row in rows if row["part"] == "compare" and "error" not in row]
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {arm: {} for arm in COMPARED}
    for row in good:
        found[row["arm"], row["equal"]][row["seed"]] = row
    ours, lines = found[DEFAULT, "bytes"], []
    for (arm, equal), runs in found.items():
        if not runs:
            continue
        gained = [row["hi source"] - row["hi adapted"] for row in runs.values()]
        lost = [row["en adapted"] - row["en source"] for row in runs.values()]
        line = (
            f"- {arm}, equal {equal}: Hindi gains {interval(gained)} bits per byte, English loses "
            f"{interval(lost)}; seeds: {len(runs)}"
        )
        both = sorted(set(ours) & set(runs))
        if arm != DEFAULT and both:
            pairs = [runs[seed]["hi adapted"] - ours[seed]["hi adapted"] for seed in both]
            line += f"; after training {interval(pairs)} more than {DEFAULT}, paired by seed"
        lines.append(line)
    return lines
