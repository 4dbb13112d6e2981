"""Piece b: a model adapted to Hindi by the defaults, by the paper's recipe, without added tokens.

All arms are trained on the same bytes of Hindi, with the same seeds. Runs go through the same
pipeline as `lingraft adapt`; text that the pack has tokenised is taken from the store. Each run
folder, without its model, is kept in `reports.tar.gz`: its page gets its charts where altair is
(`lingraft report`).
"""

from __future__ import annotations

import json
import shutil
import tarfile
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.compared_recipes import DEFAULT, RECIPES
from benchmarks.gpu.intervals import interval
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.recipes import Base, recipe_of
from benchmarks.gpu.results import Column, Results
from lingraft import pipeline
from lingraft.measurement import select
from lingraft.pipeline.build_stage import build_node
from lingraft.pipeline.stages import build_graph
from lingraft.recipe import Runtime
from lingraft.report import write_report
from lingraft.store import Manifest, Store

TITLE = "Adaptation to Hindi at equal bytes"
COLUMNS = (
    Column("arm", "arm"),
    Column("seed", "seed"),
    Column("hi before", "hi source", ".3f"),
    Column("hi spliced", "hi spliced", ".3f"),
    Column("hi adapted", "hi adapted", ".3f"),
    Column("en before", "en source", ".3f"),
    Column("en adapted", "en adapted", ".3f"),
    Column("hi tokens a word, before", "words source", ".2f"),
    Column("after", "words adapted", ".2f"),
    Column("tokens", "tokens", ",d"),
    Column("hi bytes", "target_bytes", ",d"),
    Column("training, s", "seconds", ".0f"),
    Column("planned, s", "planned seconds", ".0f"),
    Column("whole job, s", "job seconds", ".0f"),
    Column("failed", "error"),
)
REPORTS = "reports.tar.gz"


def run(results: Results, base: Base, work: Path, device: str, *, at_once: int) -> None:
    """Carry out every arm with every seed, a seed after another, and say what the arms gain."""
    prepare = [
        Job(f"prepare-{arm.replace(' ', '-')}", partial(prepared, base, arm, device))
        for arm in RECIPES
    ]
    for done in run_jobs(prepare, work / "jobs", at_once=len(RECIPES), deadline=results.deadline):
        said = done.result.get("error") or done.result["made here"] or "nothing"
        results.facts[f"made here, {done.name}"] = said
        print(f"b | {done.name}: {done.seconds} s; made here: {said}", flush=True)
    jobs = [
        Job(f"{arm.replace(' ', '-')}-{seed}", partial(adapted, base, arm, seed, work, device))
        for seed in range(base.sizes.seeds)
        for arm in RECIPES
    ]
    for done in run_jobs(jobs, work / "jobs", at_once=at_once, deadline=results.deadline):
        name, _, seed = done.name.rpartition("-")
        results.add(
            {
                "arm": name.replace("-", " "),
                "seed": int(seed),
                **done.result,
                "job seconds": done.seconds,
            }
        )
        keep_reports(work / "runs", results.folder / REPORTS)
    ended = len(results.rows)
    results.end(
        "complete" if ended == len(jobs) else f"{ended} of {len(jobs)} runs: the time was over",
        summary(results.rows),
    )


def prepared(base: Base, arm: str, device: str) -> dict[str, Any]:
    """Carry out the stages before the rows; return which of them the pack had not prepared.

    That costs a minute and no more: stages change their address with the code that makes them.
    """
    recipe, runtime = recipe_of(base, arm, 0), Runtime(store=base.store, device=device)
    graph, store = build_graph(recipe), Store(base.store)
    nodes = (*graph.targets, graph.replay, graph.vocabulary, *graph.packing.values())
    made = [node.title for node in nodes if node is not None and not node.is_cached(store)]
    for node in (graph.source, *nodes):
        if node is not None:
            build_node(node, recipe, runtime, store, lambda line: print(line, flush=True))
    return {"made here": ", ".join(made)}


def adapted(base: Base, arm: str, seed: int, work: Path, device: str) -> dict[str, Any]:
    """Carry out one run.

    Return what was measured, and what `lingraft plan` said of its training before.
    """
    recipe = recipe_of(base, arm, seed)
    runtime = Runtime(work / "runs", base.store, device)
    planned = {row.title: row for row in pipeline.plan(recipe, runtime)}["training"]
    done = pipeline.run(
        recipe, runtime, write_report=write_report, log=lambda line: print(line, flush=True)
    )
    measured = done.measurements
    row: dict[str, Any] = {
        "planned seconds": planned.seconds,
        "planned tokens": planned.amounts.get("tokens"),
    }
    for language in ("hi", "en"):
        for subject in ("source", "spliced", "adapted"):
            (found,) = select(measured, metric="bits per byte", language=language, subject=subject)
            row[f"{language} {subject}"] = found.value
    for subject in ("source", "adapted"):
        (found,) = select(measured, metric="tokens per word", language="hi", subject=subject)
        row[f"words {subject}"] = found.value
    store, graph = Store(base.store), build_graph(recipe)
    if graph.training is None:
        return row
    notes = Manifest.read(store.folder(graph.training.stage)).notes
    row |= {
        key: notes[key]
        for key in ("tokens", "target_bytes", "replayed_bytes", "seconds", "parameters")
    }
    row["learning_rates"] = [phase["learning_rates"] for phase in notes["phases"]]
    row["curve"] = curve(done.folder)
    for node in (
        graph.embeddings,
        graph.training,
    ):  # two models for each run would fill a small disk
        shutil.rmtree(store.folder(node.stage), ignore_errors=True)
    return row


def curve(run_folder: Path) -> list[dict[str, Any]]:
    """Return the points of the held-out curve: bytes seen, and bits per byte by language."""
    lines = (run_folder / "training.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{"bytes": row["bytes"], **row["heldout"]} for row in rows if "heldout" in row]


def keep_reports(runs: Path, archive: Path) -> None:
    """Put the finished run folders into an archive, without the models.

    Another run may be about to get its name: its draft has a run.json too, and then is gone.
    """
    draft = archive.with_name(f".{archive.name}")
    with tarfile.open(draft, "w:gz") as tar:
        for folder in sorted(path.parent for path in runs.glob("[!.]*/run.json")):
            tar.add(folder, folder.name, filter=lambda one: None if "/model" in one.name else one)
    draft.replace(archive)


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Say what Hindi gained and English lost in each arm; compare the arms, paired by seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in RECIPES}
    for row in rows:
        if "error" not in row:
            found[row["arm"]][row["seed"]] = row
    lines = []
    for arm, runs in found.items():
        if runs:
            gained = [row["hi source"] - row["hi adapted"] for row in runs.values()]
            lost = [row["en adapted"] - row["en source"] for row in runs.values()]
            lines.append(
                f"- {arm}: Hindi gains {interval(gained)} bits per byte, "
                f"English loses {interval(lost)}; "
                f"seeds: {len(runs)}"
            )
    for arm in RECIPES[1:]:
        both = sorted(set(found[DEFAULT]) & set(found[arm]))
        if both:
            pairs = [
                found[arm][seed]["hi adapted"] - found[DEFAULT][seed]["hi adapted"] for seed in both
            ]
            english = fmean(
                found[arm][seed]["en adapted"] - found[DEFAULT][seed]["en adapted"] for seed in both
            )
            lines.append(
                f"- {arm} minus {DEFAULT}, after training: Hindi {interval(pairs)}, "
                f"English {english:+.3f} "
                f"bits per byte, paired by seed"
            )
    return lines
