"""A probe: a recipe is trained for a few steps with each of several inits and seeds.

An init is an initialisation of the rows of added tokens. Stages that trials share are built once.
Scores are kept in the store; the models of the trials are removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.errors import RecipeError, one_line
from lingraft.evaluation import evaluate
from lingraft.measurement import Measurement, read_measurements, select, write_measurements
from lingraft.pipeline.build_stage import build_node, quiet_libraries
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.stage_builders import heldout_of, target_roles
from lingraft.pipeline.stage_node import StageContext, StageNode, must_build, stage_node
from lingraft.pipeline.stages import build_graph
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Recipe, Runtime
from lingraft.recipe.old_names import current_assignments
from lingraft.recipe.problems import check_value
from lingraft.recipe.schema import EmbeddingSettings, Evaluation
from lingraft.store import Manifest, Store
from lingraft.studies.probe_outcome import SUBJECTS, ProbeOutcome, ProbeScore
from lingraft.training import Budget, Phase

ONE_INIT = EmbeddingSettings.model_fields["input"].rebuild_annotation()


@dataclass(frozen=True)
class Probe:
    """The inits to compare, the number of training steps, and the number of seeds.

    Each init is used for both the input embedding and the output head.
    """

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
        inits = []
        for value in values:
            settings = current_assignments({"embeddings": value}, "--inits")
            where = f"--inits {written!r}"
            inits.append(check_value(settings["embeddings"], ONE_INIT, [], where))
    except yaml.YAMLError as error:
        msg = f"--inits {written!r}: {one_line(error)}; write mean,calibrated or {{focus: {{...}}}}"
        raise RecipeError(msg) from error
    labels = [label_of(init) for init in inits]
    if len(set(labels)) < max(2, len(labels)):
        known = ", ".join(INITS.names())
        msg = f"--inits {written!r}: a probe compares two or more different inits; known: {known}"
        raise RecipeError(msg)
    return tuple(inits)


def label_of(init: EmbeddingInit) -> str:
    """Return the label of an init: its name, and its settings that are not at their defaults."""
    changed = init.model_dump(mode="json", exclude_defaults=True)
    return f"{init.name} {json.dumps(changed, ensure_ascii=False)}" if changed else init.name


def trials_of(recipe: Recipe, probe: Probe) -> list[Trial]:
    """Return every trial, seed by seed.

    A trial trains the first phase of the recipe (the default phase if it has none) for the steps
    of the probe. Only held-out text is scored: generation and tasks would take longer than that.
    """
    first = (*recipe.training.phases, Phase())[0]
    # A probe is a part of a branch.
    update = {"budget": Budget(steps=probe.steps), "branch_and_merge": None}
    phase = first.model_copy(update=update)
    # Without held-out points, training spends no time on a curve that nobody reads.
    training = recipe.training.model_copy(
        update={"phases": (phase,), "merge_back": (), "heldout_points": 0}
    )
    settings = recipe.evaluation
    evaluation = Evaluation(
        heldout_bytes=settings.heldout_bytes,
        # The documents that the run reports choose nothing.
        heldout_part="chosen on" if recipe.training.chooses else settings.heldout_part,
        context=settings.context,
        stride=settings.stride,
        bootstrap=settings.bootstrap,
        generation=None,
        in_context=None,
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
    """Return the seeds of a probe: the seed of the recipe and the numbers after it."""
    return range(recipe.seed, recipe.seed + probe.seeds)


def run_probe(
    recipe: Recipe, probe: Probe, runtime: Runtime, *, log: LogLine = discard_line
) -> ProbeOutcome:
    """Train a few steps with each init and seed, and return the scores.

    Scores that are in the store are not computed again: a probe that was stopped continues. Raises
    `LingraftError`.
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
    """Return the scores of a trial before and after training, and a number of tokens.

    That number is how many tokens of text the init trained its rows on; 0 for most inits.
    """
    graph = build_graph(trial.recipe)
    scoring = scoring_node(graph, trial.recipe)
    if must_build((scoring,), runtime, store):
        quiet_libraries()
        models = [node for node in (graph.embeddings, graph.training) if node is not None]
        unneeded = [node for node in models if not node.is_cached(store)]
        for node in (*graph.model_nodes, scoring):
            build_node(node, trial.recipe, runtime, store, _log_if_new(node, store, log))
        # A model for each init and seed would fill a disk. Models that were stored before the
        # probe are kept.
        for node in unneeded:
            shutil.rmtree(store.folder(node.stage), ignore_errors=True)
    folder = store.folder(scoring.stage)
    measurements = read_measurements(folder / "measurements.parquet")
    bits_per_byte = tuple(select(measurements, metric="bits per byte"))
    return bits_per_byte, int(Manifest.read(folder).notes.get("tokens learned from", 0))


def scoring_node(graph: Graph, recipe: Recipe) -> StageNode:
    """Return the stage that scores the models of a trial: before and after training.

    The source model is not scored, because it is the same in all trials.
    """
    return stage_node(
        "scoring",
        "probe",
        {
            **recipe.evaluation.model_dump(mode="json"),
            "separator": recipe.training.packing.separator,
        },
        _score,
        spliced=graph.embeddings,
        adapted=graph.training,
        replay=graph.replay,
        **dict(zip(target_roles(recipe), graph.targets, strict=True)),
    )


def _score(context: StageContext) -> None:
    models = {subject: context.folders[subject] / "model" for subject in SUBJECTS}
    result = evaluate(
        models,
        heldout_of(context),
        context.recipe.evaluation,
        device=context.execution.device,
        separator=context.recipe.training.packing.separator,
    )
    write_measurements(result.measurements, context.draft.path("measurements.parquet"))
    # Kept here because the embeddings output, which has this note, is removed after the trial.
    inits = Manifest.read(context.folders["spliced"]).notes["inits"]
    tokens = max(int(init.get("tokens", 0)) for init in inits.values())
    context.draft.notes["tokens learned from"] = tokens


def _log_if_new(node: StageNode, store: Store, log: LogLine) -> LogLine:
    """Return `log` for a stage to build, and a function that logs nothing for a cached one."""
    return discard_line if node.is_cached(store) else log
