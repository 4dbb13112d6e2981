"""Carrying a probe out: what its trials share is made once, their scores stay in the store, their models do not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pipeline.graph import VERSIONS, Graph, graph_of
from lingraft.pipeline.making import heldout_of
from lingraft.pipeline.running import build_step, quiet_libraries
from lingraft.pipeline.steps import Step, step
from lingraft.probing.outcome import ProbeOutcome, Scored
from lingraft.probing.trials import Probe, Trial, trials_of
from lingraft.recipe import Recipe, Runtime
from lingraft.store import Manifest, Store

Tell = Callable[[str], None]


def probe(recipe: Recipe, chosen: Probe, runtime: Runtime, *, tell: Tell = lambda _line: None) -> ProbeOutcome:
    """Train a few steps with each init and seed; return what each gives, and what of it the intervals carry.

    Raises `LingraftError`. Scores that are in the store are not made again; a probe that was stopped goes on.
    """
    trials, store = trials_of(recipe, chosen), Store(runtime.store)
    scored = []
    for number, trial in enumerate(trials, 1):
        tell(f"[{number}/{len(trials)}] {trial.init}, seed {trial.seed}")
        scored.append(Scored(trial.init, trial.seed, *_scores(trial, runtime, store, tell)))
    languages = tuple(text.language for text in recipe.targets)
    return ProbeOutcome(chosen.steps, languages, recipe.replay.language if recipe.replay else None, tuple(scored))


def _scores(trial: Trial, runtime: Runtime, store: Store, tell: Tell) -> tuple[tuple[Measurement, ...], int]:
    """Return the scores of a trial before and after its training, and how many tokens its rows were learned from."""
    graph = graph_of(trial.recipe)
    scoring = scoring_step(graph, trial.recipe)
    if not scoring.done(store):
        quiet_libraries()
        steps = graph.making
        passing = [one for one in (graph.embeddings, graph.training) if one is not None and not one.done(store)]
        for one in (*steps, scoring):
            build_step(one, trial.recipe, runtime, store, _only_new(one, store, tell))
        for one in passing:  # a model for every init and seed would fill a disk
            shutil.rmtree(store.folder(one.stage), ignore_errors=True)
    folder = store.folder(scoring.stage)
    rows = [row for row in read_measurements(folder / "measurements.parquet") if row.metric == "bits per byte"]
    return tuple(rows), int(Manifest.read(folder).notes.get("tokens learned from", 0))


def scoring_step(graph: Graph, recipe: Recipe) -> Step:
    """Return the step that scores the spliced and the trained model; the source is the same for all and left out."""
    each = {f"target{i}" if i else "target": one for i, one in enumerate(graph.targets)}
    return step("scoring", "probe", VERSIONS["evaluation"], recipe.evaluation.model_dump(mode="json"), _score,
                spliced=graph.embeddings, adapted=graph.training, replay=graph.replay, **each)


def _score(work: Any) -> None:
    from lingraft.intrinsic import evaluate

    models = {subject: work.folders[subject] / "model" for subject in ("spliced", "adapted")}
    result = evaluate(models, heldout_of(work), work.recipe.evaluation, device=work.execution.device)
    write_measurements(result.measurements, work.draft.path("measurements.parquet"))
    inits = Manifest.read(work.folders["spliced"]).notes["inits"]
    work.draft.notes["tokens learned from"] = max(int(init.get("tokens", 0)) for init in inits.values())


def _only_new(one: Step, store: Store, tell: Tell) -> Tell:
    """Leave out lines about what is there already: trials share most stages."""
    return (lambda _line: None) if one.done(store) else tell


