"""From a recipe to trials: the same recipe with one init and one seed, trained for a few steps.

Carrying a probe out: what its trials share is made once, their scores stay in the store, their models do not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.errors import RecipeError
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.runner import build_node, quiet_libraries
from lingraft.pipeline.stage_builders import heldout_of
from lingraft.pipeline.stage_node import StageNode, stage_node
from lingraft.pipeline.stages import build_graph
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import current_assignments
from lingraft.recipe.schema import EmbeddingSettings, Evaluation
from lingraft.store import Manifest, Store
from lingraft.study.probe_outcome import ProbeOutcome, ProbeScore
from lingraft.training import Budget, Phase

INITS_BY_DEFAULT = "calibrated,mean,random"


@dataclass(frozen=True)
class Probe:
    """What is probed: inits, used for both matrices, `steps` of training with each, and how many seeds."""

    inits: tuple[EmbeddingInit, ...]
    steps: int = 50
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seeds < 1:
            msg = f"a probe takes at least one step and one seed, got --steps {self.steps} --seeds {self.seeds}"
            raise RecipeError(msg)


@dataclass(frozen=True)
class Trial:
    """One short training."""

    init: str
    seed: int
    recipe: Recipe


def inits_of(written: str) -> tuple[EmbeddingInit, ...]:
    """Read inits as a command line has them; raises `RecipeError` for an unknown one, or fewer than two.

    >>> [label_of(init) for init in inits_of("mean, {mean: {weights: first}}")]
    ['mean', 'mean {"weights": "first"}']
    """
    try:
        values = yaml.safe_load(f"[{written}]")
        settings = [current_assignments({"embeddings": value}, "--inits") for value in values]
        inits = tuple(INITS.parse(setting["embeddings"]) for setting in settings)
    except (yaml.YAMLError, ValueError) as error:
        msg = f"--inits {written!r}: {' '.join(str(error).split())[:200]}; write mean,calibrated or {{focus: {{...}}}}"
        raise RecipeError(msg) from error
    labels = [label_of(init) for init in inits]
    if len(set(labels)) < max(2, len(labels)):
        msg = f"--inits {written!r}: a probe compares two or more different inits; known: {', '.join(INITS.names())}"
        raise RecipeError(msg)
    return inits


def label_of(init: EmbeddingInit) -> str:
    """Return what tables call an init: its name, and the settings that are not at their defaults."""
    changed = init.model_dump(mode="json", exclude_defaults=True)
    return f"{init.name} {json.dumps(changed, ensure_ascii=False)}" if changed else init.name


def trials_of(recipe: Recipe, probe: Probe) -> list[Trial]:
    """Return every trial, a seed after another.

    Each trains by the first phase of the recipe, for so many steps; only held-out text is scored.
    """
    first = (*recipe.training.phases, Phase())[0]
    phase = first.model_copy(update={"budget": Budget(steps=probe.steps)})
    training = recipe.training.model_copy(
        update={"phases": (phase,), "merge_back": (), "heldout_points": 0}
    )
    asked = recipe.evaluation
    evaluation = Evaluation(
        heldout_bytes=asked.heldout_bytes,
        context=asked.context,
        stride=asked.stride,
        bootstrap=asked.bootstrap,
        generation=None,
    )
    shared = recipe.model_copy(update={"training": training, "evaluation": evaluation})
    return [
        Trial(
            label_of(init),
            seed,
            shared.model_copy(
                update={"seed": seed, "embeddings": EmbeddingSettings(input=init, output=init)}
            ),
        )
        for seed in seeds_of(recipe, probe)
        for init in probe.inits
    ]


def seeds_of(recipe: Recipe, probe: Probe) -> Sequence[int]:
    """Return the recipe's own seed and those after it."""
    return range(recipe.seed, recipe.seed + probe.seeds)


def run_probe(
    recipe: Recipe, chosen: Probe, runtime: Runtime, *, log: LogLine = discard_line
) -> ProbeOutcome:
    """Train a few steps with each init and seed; return what each gives, and what of it the intervals carry.

    Raises `LingraftError`. Scores that are in the store are not made again; a probe that was stopped goes on.
    """
    trials, store = trials_of(recipe, chosen), Store(runtime.store)
    scored = []
    for number, trial in enumerate(trials, 1):
        log(f"[{number}/{len(trials)}] {trial.init}, seed {trial.seed}")
        scored.append(ProbeScore(trial.init, trial.seed, *_scores(trial, runtime, store, log)))
    languages = tuple(text.language for text in recipe.targets)
    return ProbeOutcome(
        chosen.steps, languages, recipe.replay.language if recipe.replay else None, tuple(scored)
    )


def _scores(
    trial: Trial, runtime: Runtime, store: Store, log: LogLine
) -> tuple[tuple[Measurement, ...], int]:
    """Return the scores of a trial before and after its training, and how many tokens its rows were learned from."""
    graph = build_graph(trial.recipe)
    scoring = scoring_node(graph, trial.recipe)
    if not scoring.is_cached(store):
        quiet_libraries()
        steps = graph.model_nodes
        passing = [
            one
            for one in (graph.embeddings, graph.training)
            if one is not None and not one.is_cached(store)
        ]
        for one in (*steps, scoring):
            build_node(one, trial.recipe, runtime, store, _only_new(one, store, log))
        for one in passing:  # a model for every init and seed would fill a disk
            shutil.rmtree(store.folder(one.stage), ignore_errors=True)
    folder = store.folder(scoring.stage)
    rows = [
        row
        for row in read_measurements(folder / "measurements.parquet")
        if row.metric == "bits per byte"
    ]
    return tuple(rows), int(Manifest.read(folder).notes.get("tokens learned from", 0))


def scoring_node(graph: Graph, recipe: Recipe) -> StageNode:
    """Return the step that scores the spliced and the trained model; the source is the same for all and left out."""
    each = {f"target{i}" if i else "target": one for i, one in enumerate(graph.targets)}
    return stage_node(
        "scoring",
        "probe",
        recipe.evaluation.model_dump(mode="json"),
        _score,
        spliced=graph.embeddings,
        adapted=graph.training,
        replay=graph.replay,
        **each,
    )


def _score(work: Any) -> None:
    from lingraft.evaluation import evaluate

    models = {subject: work.folders[subject] / "model" for subject in ("spliced", "adapted")}
    result = evaluate(
        models, heldout_of(work), work.recipe.evaluation, device=work.execution.device
    )
    write_measurements(result.measurements, work.draft.path("measurements.parquet"))
    inits = Manifest.read(work.folders["spliced"]).notes["inits"]
    work.draft.notes["tokens learned from"] = max(
        int(init.get("tokens", 0)) for init in inits.values()
    )


def _only_new(one: StageNode, store: Store, log: LogLine) -> LogLine:
    """Leave out lines about what is there already: trials share most stages."""
    return discard_line if one.is_cached(store) else log
