"""Bases compared by one number that is known of each."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from lingraft.advice.advice_tables import predicted_lines
from lingraft.advice.choose import predict_ends
from lingraft.forecast.base_comparison import (
    FACTS,
    RIDGE,
    BaseComparison,
    BaseRun,
    error_of_equal,
    measured_runs,
    runs_as_json,
    validate,
)

TEXTS = "abcd"


def made(bases: int, noise: float, seed: int = 0) -> list[BaseRun]:
    """Return runs whose ends follow the size of the base and a constant of the text."""
    draw = random.Random(seed)
    runs = []
    for base in range(bases):
        parameters = 10 ** draw.uniform(5, 7)
        for place, text in enumerate(TEXTS):
            facts = {"parameters": parameters, "target_bits": draw.uniform(1, 4)}
            end = place - 0.1 * math.log(parameters) + draw.gauss(0, noise)
            runs.append(BaseRun(str(base), text, facts, math.exp(end)))
    return runs


def test_a_fact_that_decides_predicts_bases_left_out() -> None:
    """Its weight is found, the order and the ratios are right; other facts say nothing."""
    runs = made(8, noise=0.01)
    fitted = BaseComparison.fit(runs, "parameters")
    assert fitted.weight == pytest.approx(-0.1, rel=0.1)
    found, nothing = validate(runs, "parameters"), validate(runs, "target_bits")
    assert (found.bases, found.texts) == (8, 4)
    assert found.error < 0.03 < error_of_equal(runs)
    assert found.coverage > 0.9
    assert found.tau > 0.9 > nothing.tau
    assert found.regret < 0.01 < nothing.regret


def test_the_weight_is_that_of_a_ridge_regression() -> None:
    """The derivative of squared errors and penalty is 0, with facts and ends centred per text."""
    runs = made(6, noise=0.05)
    fitted = BaseComparison.fit(runs, "parameters")
    facts = np.array([math.log(run.facts["parameters"]) for run in runs])
    ends = np.array([math.log(run.end) for run in runs])
    for text in TEXTS:
        here = [number for number, run in enumerate(runs) if run.text == text]
        facts[here] -= facts[here].mean()
        ends[here] -= ends[here].mean()
    scaled = fitted.weight * facts.std()
    derivative = facts / facts.std() @ (facts / facts.std() * scaled - ends) + RIDGE * scaled
    assert derivative == pytest.approx(0, abs=1e-9)


def test_the_spread_is_the_error_on_bases_left_out() -> None:
    """The root of the mean square, with w fitted without the base each time."""
    runs = made(5, noise=0.05)
    errors = []
    for base in {run.base for run in runs}:
        weight = BaseComparison.fit([run for run in runs if run.base != base], "parameters").weight
        for run in runs:
            for other in runs:
                if run.base == base != other.base and run.text == other.text:
                    x = math.log(run.facts["parameters"] / other.facts["parameters"])
                    errors.append(weight * x - math.log(run.end / other.end))
    spread = BaseComparison.fit(runs, "parameters").spread
    assert spread == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))))


def test_ratios_are_consistent() -> None:
    """A base compared with itself is equal, and a comparison the other way round is its inverse."""
    fitted = BaseComparison.fit(made(6, noise=0.05), "parameters")
    assert fitted.ratio(2e6, 2e6)[0] == 1
    value, low, high = fitted.ratio(1e6, 3e6)
    assert fitted.ratio(3e6, 1e6) == pytest.approx((1 / value, 1 / high, 1 / low))
    assert low < value < high


def test_the_prediction_says_what_it_was_checked_on_and_what_is_outside() -> None:
    """Ends ascend from the lowest; a base that predicts better than all measured ones is named."""
    inside = measured_runs()[0].facts["target_bits"]
    predicted = predict_ends([("inside", inside), ("better", 0.2)])
    assert [end.name for end in predicted.ends] == ["better", "inside"]
    best = predicted.ends[0]
    assert best.low == best.ratio == best.high == 1 < predicted.ends[1].ratio
    assert [end.is_outside for end in predicted.ends] == [True, False]
    found = validate(measured_runs())
    lines = list(predicted_lines(predicted))
    assert lines[0].startswith("bits per byte after training, predicted from those now: better low")
    assert f"checked on {found.bases} bases of at most 8.62M parameters" in lines[1]
    assert f"Kendall's tau of the order {found.tau:.2f}" in lines[1]
    assert lines[2] == "outside the range of bits per byte of these bases: better"


def test_the_shipped_runs_have_every_known_fact_and_are_written_as_they_are_read() -> None:
    """The script that measures them writes what the package reads."""
    stored = (files("lingraft.forecast") / "base_runs.json").read_text(encoding="utf-8")
    about = {"study": "benchmarks/recipes/study-bases.yaml", "seeds": 1}
    assert runs_as_json(measured_runs(), about) == stored
    for run in measured_runs():
        unknown = ["tokens_per_parameter"] if run.base.startswith("stories") else []
        assert list(run.facts) == [fact for fact in FACTS if fact not in unknown]


def test_a_fact_that_is_equal_for_all_bases_orders_nothing_and_chooses_the_mean() -> None:
    """Kendall's tau is 0 then, and the choice loses what a base loses on average."""
    runs = [replace(run, facts={"premium": 2.0}) for run in made(5, noise=0.05)]
    found = validate(runs, "premium")
    lost = []
    for text in TEXTS:
        ends = [run.end for run in runs if run.text == text]
        lost.append(np.mean(ends) - min(ends))
    assert found.tau == 0
    assert found.regret == pytest.approx(np.mean(lost))
