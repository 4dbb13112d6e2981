"""A probe: a recipe is trained for a few steps with each of several inits and seeds.

Stages that trials share are built once. Scores stay in the store, models do not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.errors import RecipeError
from lingraft.evaluation import evaluate
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.runner import build_node, quiet_libraries
from lingraft.pipeline.stage_builders import heldout_of, target_roles
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.pipeline.stages import build_graph
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import current_assignments
from lingraft.recipe.schema import EmbeddingSettings, Evaluation
from lingraft.store import Manifest, Store
from lingraft.study.probe_outcome import SUBJECTS, ProbeOutcome, ProbeScore
from lingraft.training import Budget, Phase

INITS_BY_DEFAULT = "calibrated,mean,random"


@dataclass(frozen=True)
class Probe:
    """The inits to compare, each used for both matrices; training `steps` and number of seeds."""

    inits: tuple[EmbeddingInit, ...]
    steps: int = 50
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seeds < 1:
            msg = (
                f"--steps {self.steps} --seeds {self.seeds}: a probe needs at least one step and "
                "one seed"
            )
            raise RecipeError(msg)


@dataclass(frozen=True)
class Trial:
    """A short training with one init and one seed."""

    init: str
    seed: int
    recipe: Recipe


def inits_of(written: str) -> tuple[EmbeddingInit, ...]:
    """Parse the option --inits; raises `RecipeError` for an unknown init or fewer than two.

    >>> [label_of(init) for init in inits_of("mean, {mean: {weights: first}}")]
    ['mean', 'mean {"weights": "first"}']
    """
    try:
        values = yaml.safe_load(f"[{written}]")
        settings = [current_assignments({"embeddings": value}, "--inits") for value in values]
        inits = tuple(INITS.parse(setting["embeddings"]) for setting in settings)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"--inits {written!r}: {reason}; write mean,calibrated or {{focus: {{...}}}}"
        raise RecipeError(msg) from error
    labels = [label_of(init) for init in inits]
    if len(set(labels)) < max(2, len(labels)):
        known = ", ".join(INITS.names())
        msg = f"--inits {written!r}: a probe compares two or more different inits; known: {known}"
        raise RecipeError(msg)
    return inits


def label_of(init: EmbeddingInit) -> str:
    """Return the label of an init: its name, and its settings that are not at their defaults."""
    changed = init.model_dump(mode="json", exclude_defaults=True)
    return f"{init.name} {json.dumps(changed, ensure_ascii=False)}" if changed else init.name


def trials_of(recipe: Recipe, probe: Probe) -> list[Trial]:
    """Return every trial, seed by seed.

    Each trains the first phase of the recipe for the steps of the probe. Only held-out text is
    scored: generation and tasks would take longer than the training.
    """
    first = (*recipe.training.phases, Phase())[0]
    phase = first.model_copy(update={"budget": Budget(steps=probe.steps)})
    training = recipe.training.model_copy(
        update={"phases": (phase,), "merge_back": (), "heldout_points": 0}
    )
    settings = recipe.evaluation
    evaluation = Evaluation(
        heldout_bytes=settings.heldout_bytes,
        context=settings.context,
        stride=settings.stride,
        bootstrap=settings.bootstrap,
        generation=None,
    )
    shared = recipe.model_copy(update={"training": training, "evaluation": evaluation})
    trials = []
    for seed in seeds_of(recipe, probe):
        for init in probe.inits:
            embeddings = EmbeddingSettings(input=init, output=init)
            trial = shared.model_copy(update={"seed": seed, "embeddings": embeddings})
            trials.append(Trial(label_of(init), seed, trial))
    return trials


def seeds_of(recipe: Recipe, probe: Probe) -> Sequence[int]:
    """Return the seed of the recipe and those that follow it."""
    return range(recipe.seed, recipe.seed + probe.seeds)


def run_probe(
    recipe: Recipe, probe: Probe, runtime: Runtime, *, log: LogLine = discard_line
) -> ProbeOutcome:
    """Train a few steps with each init and seed; return the scores.

    Raises `LingraftError`. Scores that are in the store are not computed again, so that a stopped
    probe continues.
    """
    trials, store = trials_of(recipe, probe), Store(runtime.store)
    scored = []
    for number, trial in enumerate(trials, 1):
        log(f"[{number}/{len(trials)}] {trial.init}, seed {trial.seed}")
        scored.append(ProbeScore(trial.init, trial.seed, *_scores(trial, runtime, store, log)))
    languages = tuple(text.language for text in recipe.targets)
    replay = recipe.replay.language if recipe.replay else None
    return ProbeOutcome(probe.steps, languages, replay, tuple(scored))


def _scores(
    trial: Trial, runtime: Runtime, store: Store, log: LogLine
) -> tuple[tuple[Measurement, ...], int]:
    """Return the scores of a trial before and after training.

    The number counts the tokens that an init which trains has learned its rows from.
    """
    graph = build_graph(trial.recipe)
    scoring = scoring_node(graph, trial.recipe)
    if not scoring.is_cached(store):
        quiet_libraries()
        models = [node for node in (graph.embeddings, graph.training) if node is not None]
        unneeded = [node for node in models if not node.is_cached(store)]
        for node in (*graph.model_nodes, scoring):
            build_node(node, trial.recipe, runtime, store, _log_if_new(node, store, log))
        # A model for each init and seed would fill a disk.
        for node in unneeded:
            shutil.rmtree(store.folder(node.stage), ignore_errors=True)
    folder = store.folder(scoring.stage)
    measurements = read_measurements(folder / "measurements.parquet")
    rows = tuple(row for row in measurements if row.metric == "bits per byte")
    return rows, int(Manifest.read(folder).notes.get("tokens learned from", 0))


def scoring_node(graph: Graph, recipe: Recipe) -> StageNode:
    """Return the stage that scores a trial before and after training.

    The source is left out: it is the same in all trials.
    """
    return stage_node(
        "scoring",
        "probe",
        recipe.evaluation.model_dump(mode="json"),
        _score,
        spliced=graph.embeddings,
        adapted=graph.training,
        replay=graph.replay,
        **dict(zip(target_roles(recipe), graph.targets, strict=True)),
    )


def _score(context: StageContext) -> None:
    models = {subject: context.folders[subject] / "model" for subject in SUBJECTS}
    device = context.execution.device
    result = evaluate(models, heldout_of(context), context.recipe.evaluation, device=device)
    write_measurements(result.measurements, context.draft.path("measurements.parquet"))
    inits = Manifest.read(context.folders["spliced"]).notes["inits"]
    tokens = max(int(init.get("tokens", 0)) for init in inits.values())
    context.draft.notes["tokens learned from"] = tokens


def _log_if_new(node: StageNode, store: Store, log: LogLine) -> LogLine:
    """Return `log`, or `discard_line` for a cached stage: trials share most stages."""
    return discard_line if node.is_cached(store) else log
