"""Which base: what each predicts of the language now, and what a short probe says of the end.

Bits per byte now are measured on the same documents for every base, so differences are paired. A probe is the run
itself with a small budget at a constant rate, through the pipeline and its store: tokens, rows and a little training,
from which the end is foretold. Bases are ranked by what is foretold, or else by what they predict now; one is called
better only where the intervals say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from lingraft.forecast.loss_forecast import Forecast, points_of, predict_end, read_log
from lingraft.intrinsic import BootstrapSettings, DocumentScores, bits_per_byte
from lingraft.intrinsic.intervals import difference_interval, ratio_interval
from lingraft.pipeline import graph_of
from lingraft.pipeline.running import build_step, quiet_libraries
from lingraft.recipe import Given, Runtime, assignment, chosen_recipe
from lingraft.store import Store


@dataclass(frozen=True)
class Standing:
    """A base in the ranking: `end` where it was probed, `now` its scores on the sample."""

    name: str
    now: DocumentScores | None
    end: Forecast | None


@dataclass(frozen=True)
class BaseRanking:
    """Names, best first, by `measure`; `carried` are the pairs (better, worse) that the intervals carry."""

    measure: str
    order: tuple[str, ...]
    carried: tuple[tuple[str, str], ...]


def score_base(folder: Path, documents: Sequence[str], device: str) -> DocumentScores:
    """Return what a base model predicts of documents."""
    from lingraft.checkpoint import load_model
    from lingraft.families import open_tokenizer

    return bits_per_byte(load_model(folder, device), open_tokenizer(folder), documents)


def interval_of(scores: DocumentScores) -> tuple[float, float, float]:
    """Return bits per byte with the 95% interval over documents."""
    value = scores.bits_per_byte
    low, high = ratio_interval(scores.bits, scores.bytes, BootstrapSettings()) or (value, value)
    return value, low, high


def probe(given: Given, size: int, probe_bytes: int, end_bytes: int, runtime: Runtime) -> Forecast:
    """Adapt a base on a little text and foretell its bits per byte on the language after `end_bytes`.

    Everything is kept in the store, and what does not depend on the budget serves the real run.
    """
    settings = {"vocabulary.size": size, "training.budget": {"bytes": probe_bytes}, "training.schedule": "constant",
                "training.heldout_points": 0}
    recipe = chosen_recipe(None, given, [assignment(path, value) for path, value in settings.items()])
    graph, store = graph_of(recipe), Store(runtime.store)
    quiet_libraries()
    for step in graph.making:
        build_step(step, recipe, runtime, store, lambda _line: None)
    log = store.folder((graph.training or graph.final).stage) / "training.jsonl"
    return predict_end(points_of(read_log(log)), end_bytes)


def rank(standings: Sequence[Standing]) -> BaseRanking:
    """Rank bases: by the foretold end where all were probed, else by what they predict now, where that is known."""
    if all(one.end for one in standings):
        return _by_end({one.name: one.end for one in standings if one.end})
    return _by_now({one.name: one.now for one in standings if one.now})


def _by_end(ends: dict[str, Forecast]) -> BaseRanking:
    order = sorted(ends, key=lambda name: ends[name].value)
    carried = tuple((first, second) for first, second in combinations(order, 2)
                    if ends[first].high < ends[second].low)
    return BaseRanking("bits per byte after training, foretold", tuple(order), carried)


def _by_now(scores: dict[str, DocumentScores]) -> BaseRanking:
    order = sorted(scores, key=lambda name: scores[name].bits_per_byte)
    carried = []
    for first, second in combinations(order, 2):
        one, other = scores[first], scores[second]
        interval = difference_interval((one.bits, one.bytes), (other.bits, other.bytes), BootstrapSettings())
        if interval and interval[1] < 0:
            carried.append((first, second))
    return BaseRanking("bits per byte of the base, now", tuple(order), tuple(carried))
