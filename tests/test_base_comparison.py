"""Bases compared by one number that is known of each."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import yaml

from lingraft.advice.advice_tables import predicted_lines
from lingraft.advice.choose import predict_ends
from lingraft.forecast.base_comparison import (
    ADDED_TOKENS,
    FACTS,
    RIDGE,
    TEXT_BYTES,
    BaseComparison,
    BaseRun,
    error_of_equal,
    is_outside,
    measured_runs,
    runs_as_json,
    validate,
)
from lingraft.formatting import percent
from lingraft.training import Budget
from tests.conftest import ROOT

TEXTS = "abcd"
UNKNOWN = {"stories-0.26M": ["tokens_per_parameter"], "SmolLM2-135M": ["probe_fall"]}
"""Facts that are not published, or that a curve of few points does not have."""


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


def test_the_prediction_says_how_it_was_checked_and_what_is_outside() -> None:
    """Ends ascend from the lowest; errors, coverage and regret are shown; who is outside is too."""
    inside = np.median([run.facts["target_bits"] for run in measured_runs()])
    predicted = predict_ends([("inside", inside), ("better", 0.2)])
    assert [end.name for end in predicted.ends] == ["better", "inside"]
    best = predicted.ends[0]
    assert best.low == best.ratio == best.high == 1 < predicted.ends[1].ratio
    assert [end.is_outside for end in predicted.ends] == [True, False]
    found = validate(measured_runs())
    lines = list(predicted_lines(predicted))
    start = (
        "bits per byte after training on 100 kB of text, predicted from those now: better lowest"
    )
    assert lines[0].startswith(start)
    assert f"checked on {found.bases} bases of at most 135M parameters" in lines[1]
    assert "100 kB of text, 1,000 added tokens" in lines[1]
    assert f"Kendall's tau of the order {found.tau:.2f}" in lines[1]
    equal = percent(error_of_equal(measured_runs()))
    assert f"{percent(found.error)}, or {equal} if all are predicted to end equal" in lines[1]
    assert f"{found.coverage:.0%} within their 95% interval" in lines[1]
    assert lines[1].endswith(f"ends {found.regret:.3f} bits per byte above the lowest")
    assert lines[2].startswith("not checked: ")
    assert lines[3].startswith("weakly supported: better (fewer than 3 of the measured bases")


def test_the_text_and_tokens_that_are_named_are_those_of_the_study() -> None:
    """The scale that was measured does not change them."""
    recipe = ROOT / "benchmarks" / "recipes" / "study-bases.yaml"
    study = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    settings = study["settings"] | study["scales"]["cpu"]["settings"]
    assert Budget.model_validate(settings["training.budget"]).bytes == TEXT_BYTES
    assert settings["vocabulary.size"] == ADDED_TOKENS


def test_a_value_is_outside_unless_three_bases_were_measured_near_it() -> None:
    """One base does not count more often because it was measured on several texts."""
    measured = {"a": (1.3, 1.6, 2.0), "b": (7.0, 12.0), "c": (8.0, 9.0), "d": (9.0, 15.0)}
    runs = []
    for base, values in measured.items():
        for text, bits in enumerate(values):
            runs.append(BaseRun(base, str(text), {"target_bits": bits}, 1.0))
    outside = {bits: is_outside(runs, bits) for bits in (0.5, 1.3, 2.0, 4.0, 7.0, 8.0, 12.0, 40.0)}
    assert [bits for bits, value in outside.items() if not value] == [7.0, 8.0, 12.0]


def test_bits_per_byte_of_which_two_bases_were_measured_are_outside() -> None:
    """Of the shipped runs, only those of two bases are near 3 bits per byte and below."""
    runs = measured_runs()
    assert [is_outside(runs, bits) for bits in (0.5, 1.4, 2.0, 3.0, 8.0)] == [True] * 4 + [False]


def test_the_shipped_runs_have_every_known_fact_and_are_written_as_they_are_read() -> None:
    """The script that measures them writes what the package reads."""
    stored = (files("lingraft.forecast") / "base_runs.json").read_text(encoding="utf-8")
    about = {"study": "benchmarks/recipes/study-bases.yaml", "seeds": 1}
    assert runs_as_json(measured_runs(), about) == stored
    for run in measured_runs():
        unknown = UNKNOWN.get(run.base, [])
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
