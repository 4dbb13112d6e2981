"""Choose how many tokens to add, and which base to start from.

Size: that of the diagnosis (`recommend`), with what it saves by the fertility curve. For
comparison, the size with the lowest cost of serving a byte is found: tokens per byte times the
FLOPs of a token. Each added row makes the head, and so each token, more expensive (Dagan et al.
2024, arXiv 2402.01035).

Base: all bases are scored on the same documents, so their differences are paired. A probe is the
real run with a small budget and a constant learning rate, through the pipeline and its store. The
end of the real run is predicted from its log, for the held-out text that the real run scores. How
far apart bases end is predicted from their bits per byte now (`forecast.base_comparison`).
`base_ranking` ranks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lingraft.corpus import Corpus
from lingraft.errors import RecipeError
from lingraft.evaluation import BootstrapSettings, DocumentScores, bits_per_byte
from lingraft.evaluation.bootstrap import ratio_interval
from lingraft.evaluation.score_model import heldout_documents
from lingraft.forecast.base_comparison import (
    ADDED_TOKENS,
    TEXT_BYTES,
    BaseComparison,
    Validation,
    error_of_equal,
    is_outside,
    measured_runs,
    measured_seeds,
    validate,
)
from lingraft.forecast.loss_forecast import MIN_POINTS, Forecast, predict_end
from lingraft.forecast.predict_fertility import FertilityCurve, tokens_per_byte
from lingraft.forecast.training_curve import heldout_points, read_log, train_points
from lingraft.formatting import counted
from lingraft.formatting import size as byte_size
from lingraft.pipeline import build_graph
from lingraft.pipeline.build_stage import build_node, quiet_libraries
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.planned_training import count_steps
from lingraft.pipeline.stage_builders import reported_part
from lingraft.pipeline.stage_node import must_build
from lingraft.progress import discard_line
from lingraft.recipe import Given, Recipe, Runtime, assignment, chosen_recipe
from lingraft.recipe.old_names import current_log
from lingraft.store import Manifest, Store
from lingraft.vocabulary import AutoSize, ServingCost

# Near the lowest cost the curve is flat: sizes that cost at most this share more are equally good.
FLAT = 0.01
# Sizes at which the cost of serving is computed: 0, and a geometric grid up to the largest size.
GRID = 400


@dataclass(frozen=True)
class SizeAdvice:
    """How many tokens to add.

    Attributes:
        size: the recommended number of tokens, as `lingraft diagnose` gives it.
        rule: the rule of a size above 0, as `vocabulary.size: auto` follows it.
        cheapest: the number of tokens with the lowest cost of serving a byte; `None` without
            weights.
        least, most: the smallest and the largest size that cost at most 1% more than the cheapest
            one, by the predicted tokens per byte or by a bound of their interval.
        saving: the share of the cost of serving a byte that `size` saves, with its interval;
            without weights, the share of the tokens.
        tax: the cost of a token divided by that without added tokens.
        tokens: tokens per byte with `size` tokens added, with their interval.
    """

    size: int
    rule: str
    cheapest: int | None
    least: int | None
    most: int | None
    saving: tuple[float, float, float]
    tax: float
    tokens: tuple[float, float, float]


def advise_size(
    size: int, curve: FertilityCurve, now: float, serving: ServingCost | None
) -> SizeAdvice:
    """Return what the size of a `Recommendation` saves, and which size would be the cheapest.

    `now` is tokens per byte without added tokens. Suffixes: K value, low and high bound of the
    interval; S sizes.
    """
    known = tokens_per_byte(now, curve)
    tokens = known.at(size)
    tax = serving.per_token(size) / serving.per_token(0) if serving else 1.0
    # More tokens save less, so the bounds change places.
    value, high, low = (1 - share * tax / now for share in tokens)
    saving = (value, low, high)
    if serving is None:
        return SizeAdvice(size, AutoSize().rule, None, None, None, saving, tax, tokens)
    sizes = np.unique(
        np.round(np.concatenate([[0], np.geomspace(50, known.sizes[-1], GRID)])).astype(int)
    )
    tokens_KS = np.array([known.at(size) for size in sizes]).T
    cost_KS = tokens_KS * np.array([serving.per_token(int(size)) for size in sizes])
    good_KS = cost_KS <= cost_KS.min(axis=1, keepdims=True) * (1 + FLAT)
    good = sizes[np.flatnonzero(good_KS.any(axis=0))]
    cheapest = int(sizes[cost_KS[0].argmin()])
    least, most = int(good[0]), int(good[-1])
    return SizeAdvice(size, AutoSize().rule, cheapest, least, most, saving, tax, tokens)


@dataclass(frozen=True)
class ProbedEnd:
    """The predicted end of a probed base, and the number of held-out documents it is for."""

    forecast: Forecast
    documents: int


@dataclass(frozen=True)
class PredictedEnd:
    """The bits per byte of a base after training, divided by those of the base that ends lowest.

    `low` and `high` are the 95% interval of `ratio`. `is_outside` says whether fewer than three of
    the measured bases have bits per byte near those of the base, in any language.
    """

    name: str
    ratio: float
    low: float
    high: float
    is_outside: bool


@dataclass(frozen=True)
class PredictedEnds:
    """Bases in the predicted order of their ends, lowest first, and how well this was checked.

    Attributes:
        ends: the bases.
        validation: how well the measured bases are predicted from each other.
        error_of_equal: the mean error there if all bases are predicted to end equal.
        largest: the number of parameters of the largest measured base.
        text_bytes, added_tokens, seeds: the text that each of them learned, the tokens that were
            added, and how often.
    """

    ends: tuple[PredictedEnd, ...]
    validation: Validation
    error_of_equal: float
    largest: float
    text_bytes: int
    added_tokens: int
    seeds: int


def predict_ends(bases: Sequence[tuple[str, float]]) -> PredictedEnds:
    """Predict how far apart bases end from their names and bits per byte now."""
    runs = measured_runs()
    fitted = BaseComparison.fit(runs)
    ordered = sorted(bases, key=lambda base: fitted.ratio(1.0, base[1]))
    _, lowest = ordered[0]
    ends = []
    for name, bits in ordered:
        ratio, low, high = fitted.ratio(lowest, bits)
        if (name, bits) == ordered[0]:
            low = high = ratio
        ends.append(PredictedEnd(name, ratio, low, high, is_outside(runs, bits)))
    largest = max(run.facts["parameters"] for run in runs)
    return PredictedEnds(
        tuple(ends),
        validate(runs),
        error_of_equal(runs),
        largest,
        TEXT_BYTES,
        ADDED_TOKENS,
        measured_seeds(),
    )


def score_base(
    folder: Path, texts: Sequence[Sequence[str]], device: str
) -> tuple[DocumentScores, ...]:
    """Return the scores of the documents of each text with the model in `folder`."""
    from lingraft.checkpoint import load_model
    from lingraft.tokenizer import open_tokenizer

    model, tokenizer = load_model(folder, device), open_tokenizer(folder)
    return tuple(bits_per_byte(model, tokenizer, documents) for documents in texts)


def interval_of(scores: DocumentScores) -> tuple[float, float, float]:
    """Return bits per byte with the 95% interval over documents, or the value three times.

    There is no interval if there are too few documents to resample.
    """
    value = scores.bits_per_byte
    low, high = ratio_interval(scores.bits, scores.bytes, BootstrapSettings()) or (value, value)
    return value, low, high


def _probe_steps(graph: Graph, recipe: Recipe, store: Store) -> int:
    """Return the steps of the training that packed text allows."""
    notes = Manifest.read(store.folder(graph.embeddings.stage)).notes
    planned = count_steps(graph, recipe, store, notes["parameters"])
    return sum(phase.steps for phase in planned.phases) if planned else 0


def _too_little(graph: Graph, recipe: Recipe, store: Store, probe_bytes: int) -> str:
    """Return the message about a training that is too short to predict from."""
    steps = _probe_steps(graph, recipe, store)
    # Up to half of the steps are the warm-up; as many again, so that the advice is enough.
    enough = byte_size(math.ceil(probe_bytes * 4 * MIN_POINTS / max(steps, 1)))
    return (
        f"--probe {byte_size(probe_bytes)}: {counted(steps, 'step')} of training, too few to "
        f"predict from; give more text, such as --probe '{enough}'"
    )


def probe(given: Given, size: int, probe_bytes: int, end_bytes: int, runtime: Runtime) -> ProbedEnd:
    """Adapt a base on `probe_bytes` of text and predict its bits per byte after `end_bytes`.

    The prediction is for the held-out documents of the real run's final table. The stages stay in
    the store, and the real run uses those that do not depend on the budget.
    """
    assignments = [
        assignment("vocabulary.size", size),
        assignment("training.budget", {"bytes": probe_bytes}),
        assignment("training.schedule", "constant"),
    ]
    recipe = chosen_recipe(None, given, assignments)
    graph, store = build_graph(recipe), Store(runtime.store)
    if must_build(graph.model_nodes, runtime, store):
        quiet_libraries()
    for node in graph.model_nodes:
        if node is graph.training and _probe_steps(graph, recipe, store) < MIN_POINTS // 2:
            raise RecipeError(_too_little(graph, recipe, store, probe_bytes))
        build_node(node, recipe, runtime, store, discard_line)
    path = store.folder((graph.training or graph.final).stage) / "training.jsonl"
    log = current_log(read_log(path))
    heldout = heldout_points(log, recipe.target.language)
    corpus = Corpus.open(store.folder(graph.targets[0].stage))
    # The documents that the held-out curve is measured on.
    limit, part = int(recipe.evaluation.heldout_bytes), reported_part(recipe)
    documents = heldout_documents(corpus, limit, part)
    try:
        forecast = predict_end(train_points(log), end_bytes, heldout=heldout)
    except RecipeError as error:
        raise RecipeError(_too_little(graph, recipe, store, probe_bytes)) from error
    return ProbedEnd(forecast, len(documents))
