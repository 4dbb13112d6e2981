"""Bases ranked by their scores or by predicted ends, and which of them are called better."""

from __future__ import annotations

import json
import math
import shutil
from itertools import combinations

import numpy as np
import pytest

from lingraft.advice import AdviceRequest, advice_json, advice_tables, advise
from lingraft.advice.base_ranking import BaseScore, rank_bases
from lingraft.advice.choose import ProbedEnd
from lingraft.evaluation import DocumentScores
from lingraft.forecast.loss_forecast import Forecast
from lingraft.recipe import Runtime
from tests.small_bases import sentencepiece

DRAWS = 100


def scores(bits, sizes) -> DocumentScores:
    """Return the scores of documents with so many bits and bytes."""
    return DocumentScores(bits * math.log(2), sizes, sizes, 64, 32, sizes, sizes)


def drawn_now(random, bases: int, documents: int) -> list[BaseScore]:
    """Return equal bases: a document is hard for all of them, and what differs is chance."""
    sizes = random.lognormal(6, 0.5, documents)
    rates = 1 + 0.3 * random.standard_normal(documents)
    drawn = []
    for base in range(bases):
        chance = 0.1 * random.standard_normal(documents)
        drawn.append(BaseScore(str(base), scores(sizes * (rates + chance), sizes), None))
    return drawn


def drawn_ends(random, bases: int) -> list[BaseScore]:
    """Return equal bases whose predicted ends have an error as large as their intervals say."""
    drawn = []
    for base in range(bases):
        value = math.exp(0.05 * random.standard_normal())
        width = math.exp(1.96 * 0.05)
        end = ProbedEnd(Forecast(value, value / width, value * width), documents=100)
        drawn.append(BaseScore(str(base), None, end))
    return drawn


@pytest.mark.parametrize("documents", [20, 60])
def test_six_equal_bases_are_rarely_separated_by_their_scores(documents) -> None:
    """In at most a tenth of the draws any of the 15 pairs is called better, not in half of them."""
    random = np.random.default_rng(documents)
    found = sum(bool(rank_bases(drawn_now(random, 6, documents)).carried) for _ in range(DRAWS))
    assert found <= DRAWS / 10


def test_equal_bases_are_rarely_separated_by_their_predicted_ends() -> None:
    """The level is that of all pairs, however many there are."""
    random = np.random.default_rng(0)
    found = sum(bool(rank_bases(drawn_ends(random, 20)).carried) for _ in range(DRAWS))
    assert found <= DRAWS / 20


def test_different_bases_are_separated_by_both_measures() -> None:
    """Differences far beyond chance are shown for each pair, the lower one first."""
    random = np.random.default_rng(0)
    levels = {"a": 1.0, "b": 1.5, "c": 2.5}
    sizes = np.full(40, 1000.0)
    now, ends = [], []
    for name, level in levels.items():
        bits = sizes * level * (1 + 0.05 * random.standard_normal(40))
        now.append(BaseScore(name, scores(bits, sizes), None))
        end = ProbedEnd(Forecast(level, level * 0.95, level * 1.05), documents=40)
        ends.append(BaseScore(name, None, end))
    for scored in (now, ends):
        ranked = rank_bases(scored)
        assert ranked.order == ("a", "b", "c")
        assert ranked.carried == tuple(combinations("abc", 2))


def test_more_bases_need_a_larger_gap_between_predicted_ends() -> None:
    """Two intervals that are just apart separate two bases, and no two of six."""
    ends = {"a": Forecast(1.0, 0.9, 1.1), "b": Forecast(1.23, 1.11, 1.35)}
    pair = [BaseScore(name, None, ProbedEnd(end, 100)) for name, end in ends.items()]
    others = [BaseScore(str(number), None, ProbedEnd(ends["b"], 100)) for number in range(4)]
    assert rank_bases(pair).carried == (("a", "b"),)
    assert rank_bases([*pair, *others]).carried == ()


@pytest.mark.parametrize(("now", "pairs"), [(7.9, (("a", "b"),)), (8.1, ())])
def test_the_end_of_a_base_that_is_worse_than_random_bytes_is_in_no_pair(now, pairs) -> None:
    """Its predicted end often misses, however far it is from that of another base."""
    sizes = np.full(40, 1000.0)
    ends = {"a": Forecast(1.0, 0.99, 1.01), "b": Forecast(2.0, 1.99, 2.01)}
    scored = [
        BaseScore("a", scores(sizes * 1.5, sizes), ProbedEnd(ends["a"], 40)),
        BaseScore("b", scores(sizes * now, sizes), ProbedEnd(ends["b"], 40)),
    ]
    ranked = rank_bases(scored)
    assert ranked.order == ("a", "b")
    assert ranked.carried == pairs


@pytest.mark.parametrize("lossy", [0.5, 5.0])
@pytest.mark.parametrize("is_probed", [False, True])
def test_a_base_that_loses_text_is_last_and_in_no_pair(is_probed, lossy) -> None:
    """Its bits per byte are of another text, so a lower or a higher value says nothing."""
    sizes = np.full(40, 1000.0)
    scored = []
    for name, level, unknown in (("lossy", lossy, 0.2), ("worse", 2.0, 0), ("better", 1.0, 0.005)):
        end = ProbedEnd(Forecast(level, level * 0.99, level * 1.01), 40) if is_probed else None
        scored.append(BaseScore(name, scores(sizes * level, sizes), end, unknown))
    ranked = rank_bases(scored)
    assert ranked.order == ("better", "worse", "lossy")
    assert ranked.carried == (("better", "worse"),)
    assert ranked.losing_text == {"lossy": 0.2}


def test_advise_does_not_compare_a_tokenizer_that_loses_text(
    tiny_model, tmp_path, hindi_file
) -> None:
    """It is in no prediction, and a line says why; the bases that read the text are compared."""
    folders = [tmp_path / name for name in ("lossy", "one", "two")]
    for folder in folders:
        shutil.copytree(tiny_model, folder)
    tokenizer = sentencepiece(size=300)
    tokenizer["model"]["byte_fallback"] = False
    (folders[0] / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    request = AdviceRequest("hi", (str(hindi_file),))
    found = advise(list(map(str, folders)), request, Runtime(tmp_path / "runs", device="cpu"))
    assert found.bases[0].target_bits < found.bases[1].target_bits
    assert found.ranking.order == ("one", "two", "lossy")
    assert [end.name for end in found.predicted.ends] == ["one", "two"]
    assert list(advice_json(found)["ranking"]["losing_text"]) == ["lossy"]
    _, ranking = advice_tables(found)
    (line,) = [cell for cell in ranking.columns[0].cells if "loses text" in cell]
    assert line.startswith("not compared, because the tokenizer loses text: lossy (")
    alone = advise(list(map(str, folders[:2])), request, Runtime(tmp_path / "runs", device="cpu"))
    assert alone.predicted is None
