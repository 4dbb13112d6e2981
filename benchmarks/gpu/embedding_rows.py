"""Piece c: which initialization of the added rows is best after a short training, by a probe.

Everything but the rows is the default arm of piece b: the same tokens, the same tokenised text.
`align` and FOCUS read the text that the tokens were learned from; the vectors of FOCUS were trained
when the pack was made.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.compared_recipes import DEFAULT
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.recipes import Base, recipe_of
from benchmarks.gpu.results import Column, Results
from lingraft.embeddings import INITS
from lingraft.measurement import Measurement
from lingraft.pipeline.build_stage import build_node
from lingraft.pipeline.stages import build_graph
from lingraft.progress import discard_line
from lingraft.recipe import Runtime
from lingraft.store import Manifest, Store
from lingraft.studies import Probe, ProbeOutcome, run_probe
from lingraft.studies.probe_outcome import ProbeScore

TITLE = "Initializations of the added rows"
COLUMNS = (
    Column("rows", "init"),
    Column("seed", "seed"),
    Column("hi step 0", "hi spliced", ".4f"),
    Column("hi after", "hi adapted", ".4f"),
    Column("en step 0", "en spliced", ".4f"),
    Column("en after", "en adapted", ".4f"),
    Column("steps", "steps"),
    Column("job, s", "job seconds", ".0f"),
    Column("failed", "error"),
)
INITS_COMPARED = ("mean", "random", "calibrated", "focus", "align", "random_token")


def run(results: Results, base: Base, work: Path, device: str, *, at_once: int) -> None:
    """Score every init with every seed, a seed after another, and say what the intervals carry."""
    names = [name for name in INITS_COMPARED if name != "focus" or base.vectors]
    if len(names) < len(INITS_COMPARED):
        results.facts["left out"] = "focus: the pack has no vectors for this model"
    jobs = [
        Job(f"{name}-{seed}", partial(scored, base, name, seed, device))
        for seed in range(base.sizes.seeds)
        for name in names
    ]
    for done in run_jobs(jobs, work / "jobs", at_once=at_once, deadline=results.deadline):
        name, _, seed = done.name.rpartition("-")
        results.add({"init": name, "seed": int(seed), **done.result, "job seconds": done.seconds})
    ended = len(results.rows)
    results.end(
        "complete" if ended == len(jobs) else f"{ended} of {len(jobs)} runs: the time was over",
        sentences(results.rows),
    )


def scored(base: Base, name: str, seed: int, device: str) -> dict[str, Any]:
    """Return the bits per byte of both languages before and after a short training with an init."""
    recipe, runtime = recipe_of(base, DEFAULT, seed), Runtime(store=base.store, device=device)
    init = INITS.parse({"focus": {"vectors": str(base.vectors)}} if name == "focus" else name)
    steps = steps_of(base, runtime)
    found = run_probe(
        recipe, Probe((init,), steps, 1), runtime, log=lambda line: print(line, flush=True)
    )
    row: dict[str, Any] = {
        "steps": steps,
        "measured": [asdict(one) for one in found.scored[0].rows],
    }
    for one in found.scored[0].rows:
        row[f"{one.language} {one.subject}"] = one.value
    return row


def steps_of(base: Base, runtime: Runtime) -> int:
    """Return the steps that read `init_megabytes` of Hindi, the replayed English on top."""
    recipe, store = recipe_of(base, DEFAULT, 0), Store(base.store)
    graph, tokens = build_graph(recipe), 0.0
    for node in (
        graph.source,
        *graph.targets,
        graph.replay,
        graph.vocabulary,
        *graph.packing.values(),
    ):
        if node is not None:
            build_node(node, recipe, runtime, store, discard_line)
    share = recipe.replay.portion if recipe.replay else 0.0
    for role, part in (("target", 1.0), ("replay", share / (1 - share))):
        notes = Manifest.read(store.folder(graph.packing[role].stage)).notes
        tokens += base.sizes.init_megabytes * 1e6 * part / notes["bytes_per_token"]
    parameters = Manifest.read(store.folder(graph.source.stage)).notes["parameters"]
    block = base.sizes.block
    per_step = recipe.training.phases[0].sequences_per_step(block, parameters, tokens / block)
    return math.ceil(tokens / (per_step * block))


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Return what may be said of the inits: of the seeds that every init was run with."""
    good = [row for row in rows if "error" not in row]
    names = list(dict.fromkeys(row["init"] for row in good))
    seeds = [
        seed
        for seed in {row["seed"] for row in good}
        if {row["init"] for row in good if row["seed"] == seed} == set(names)
    ]
    kept = tuple(
        ProbeScore(row["init"], row["seed"], tuple(Measurement(**one) for one in row["measured"]))
        for row in good
        if row["seed"] in seeds
    )
    if len(names) < 2 or not kept:
        return ["- no seed was run with two inits: nothing is compared"]
    return [f"- {line}" for line in ProbeOutcome(good[0]["steps"], ("hi",), "en", kept).sentences()]
