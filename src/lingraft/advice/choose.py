"""Choose how many tokens to add, and which base to start from.

Size: the fertility curve of the diagnosis, interpolated. Serving a byte costs tokens per byte times
the FLOPs of a token, and each added row makes the head larger (Dagan et al. 2024, arXiv
2402.01035). Near the lowest cost the curve is flat: every size that costs less than `FLAT` more is
as good.

Base: bits per byte now are measured on the same documents for every base, so differences are
paired. A probe is the run itself with a small budget at a constant rate, through the pipeline and
its store; the end is predicted from it. Bases are ranked by the predicted end, or by bits per byte
now. One is called better only where the intervals show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from lingraft.advice.recommend import worthwhile_size
from lingraft.evaluation import BootstrapSettings, DocumentScores, bits_per_byte
from lingraft.evaluation.bootstrap import difference_interval, ratio_interval
from lingraft.forecast.loss_forecast import Forecast, predict_end
from lingraft.forecast.predict_fertility import FertilityCurve, tokens_per_byte
from lingraft.forecast.training_curve import read_log, train_points
from lingraft.pipeline import build_graph
from lingraft.pipeline.runner import build_node, quiet_libraries
from lingraft.progress import discard_line
from lingraft.recipe import Given, Runtime, assignment, chosen_recipe
from lingraft.recipe.old_names import current_log
from lingraft.store import Store
from lingraft.vocabulary import ServingCost

FLAT = 0.01
GRID = 400


@dataclass(frozen=True)
class SizeAdvice:
    """How many tokens to add.

    `size` has the lowest cost of serving a byte (`rule` "serving"). Without weights it is the
    largest size at which a thousand more tokens are worth their rows ("marginal"). From `least` to
    `most` the cost is under 1% higher, at either end of the interval. `saving` is the saved share
    of the cost of serving a byte, with its interval; `tax` is the cost of a token over that without
    added tokens.
    """

    size: int
    least: int
    most: int
    rule: str
    saving: tuple[float, float, float]
    tax: float
    tokens: tuple[float, float, float]


def advise_size(curve: FertilityCurve, now: float, serving: ServingCost | None) -> SizeAdvice:
    """Recommend a size; `now` are the tokens per byte without added tokens."""
    known = tokens_per_byte(now, curve)
    if serving is None:
        size = worthwhile_size(curve)
        tokens = known.at(size)
        saving = tuple(1 - one / now for one in tokens)
        return SizeAdvice(
            size, size, size, "marginal", (saving[0], saving[2], saving[1]), 1.0, tokens
        )
    sizes = np.unique(
        np.round(np.concatenate([[0], np.geomspace(50, known.sizes[-1], GRID)])).astype(int)
    )
    tokens_KS = np.array([known.at(size) for size in sizes]).T
    cost_KS = tokens_KS * np.array([serving.per_token(int(size)) for size in sizes])
    best_K = cost_KS.argmin(axis=1)
    good_KS = cost_KS <= cost_KS.min(axis=1, keepdims=True) * (1 + FLAT)
    good = np.flatnonzero(good_KS.any(axis=0))
    size, before = int(sizes[best_K[0]]), now * serving.per_token(0)
    value, low, high = (1 - float(cost_KS[k, best_K[0]]) / before for k in range(3))
    return SizeAdvice(
        size,
        int(sizes[good[0]]),
        int(sizes[good[-1]]),
        "serving",
        (value, high, low),
        serving.per_token(size) / serving.per_token(0),
        known.at(size),
    )


@dataclass(frozen=True)
class BaseScore:
    """A base to be ranked: its scores on the sample, and the predicted end where it was probed."""

    name: str
    now: DocumentScores | None
    end: Forecast | None


@dataclass(frozen=True)
class BaseRanking:
    """Names, best first, by `measure`; `carried`: pairs (better, worse) that the intervals show."""

    measure: str
    order: tuple[str, ...]
    carried: tuple[tuple[str, str], ...]


def score_base(folder: Path, documents: Sequence[str], device: str) -> DocumentScores:
    """Return the scores of documents with a base model."""
    from lingraft.checkpoint import load_model
    from lingraft.tokenizer import open_tokenizer

    return bits_per_byte(load_model(folder, device), open_tokenizer(folder), documents)


def interval_of(scores: DocumentScores) -> tuple[float, float, float]:
    """Return bits per byte with the 95% interval over documents."""
    value = scores.bits_per_byte
    low, high = ratio_interval(scores.bits, scores.bytes, BootstrapSettings()) or (value, value)
    return value, low, high


def probe(given: Given, size: int, probe_bytes: int, end_bytes: int, runtime: Runtime) -> Forecast:
    """Adapt a base on a little text and predict its bits per byte after `end_bytes`.

    All stages are kept in the store; those that do not depend on the budget are used by the real
    run.
    """
    settings = {
        "vocabulary.size": size,
        "training.budget": {"bytes": probe_bytes},
        "training.schedule": "constant",
        "training.heldout_points": 0,
    }
    recipe = chosen_recipe(
        None, given, [assignment(path, value) for path, value in settings.items()]
    )
    graph, store = build_graph(recipe), Store(runtime.store)
    quiet_libraries()
    for node in graph.model_nodes:
        build_node(node, recipe, runtime, store, discard_line)
    log = store.folder((graph.training or graph.final).stage) / "training.jsonl"
    return predict_end(train_points(current_log(read_log(log))), end_bytes)


def rank_bases(scored: Sequence[BaseScore]) -> BaseRanking:
    """Rank bases by the predicted end where all were probed, otherwise by bits per byte now."""
    if all(one.end for one in scored):
        return _by_end({one.name: one.end for one in scored if one.end})
    return _by_now({one.name: one.now for one in scored if one.now})


def _by_end(ends: dict[str, Forecast]) -> BaseRanking:
    order = sorted(ends, key=lambda name: ends[name].value)
    carried = tuple(
        (first, second)
        for first, second in combinations(order, 2)
        if ends[first].high < ends[second].low
    )
    return BaseRanking("bits per byte after training, predicted", tuple(order), carried)


def _by_now(scores: dict[str, DocumentScores]) -> BaseRanking:
    order = sorted(scores, key=lambda name: scores[name].bits_per_byte)
    carried = []
    for first, second in combinations(order, 2):
        one, other = scores[first], scores[second]
        interval = difference_interval(
            (one.bits, one.bytes), (other.bits, other.bytes), BootstrapSettings()
        )
        if interval and interval[1] < 0:
            carried.append((first, second))
    return BaseRanking("bits per byte of the base, now", tuple(order), tuple(carried))
