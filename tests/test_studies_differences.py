"""Differences over seeds and what may be said of them."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lingraft.report.study_page import verdict
from lingraft.studies import better_value, differences, ranking
from lingraft.studies.config import ComparedSettings
from lingraft.studies.study_results import difference_rows
from lingraft.studies.text_needed import LEAST_SHARE, text_needed

BITS = ComparedSettings()


def row(
    labels: dict,
    seed: int,
    value: float,
    *,
    half: float | None = 0.1,
    metric: str = "bits per byte",
    language: str = "hi",
    split: str = "heldout",
    unit: str = "bits/byte",
) -> dict:
    return {
        "cell": "x",
        "seed": seed,
        **{f"axis.{axis}": label for axis, label in labels.items()},
        "role": "target",
        "metric": metric,
        "subject": "adapted",
        "value": value,
        "unit": unit,
        "language": language,
        "split": split,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
    }


def rows_of(values: dict[str, list[float]], **more) -> list[dict]:
    return [
        row({"init": name}, seed, value, **more)
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]


numbers = st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=2, max_size=6)


@given(numbers)
def test_the_interval_is_that_of_the_paired_t_test(pairs):
    """The interval over seeds excludes 0 exactly if scipy's paired test is significant at 5%."""
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    (found,) = differences(rows_of({"a": first, "b": second}), ["init"], BITS)
    each = [b - a for a, b in pairs]
    assert math.isclose(found.value, statistics.mean(each), abs_tol=1e-12)
    if statistics.stdev(each) > 1e-6:
        expected = stats.ttest_rel(second, first).confidence_interval(0.95)
        assert found.interval() == pytest.approx((expected.low, expected.high))
        assert (better_value(found) is not None) == (not expected.low <= 0 <= expected.high)


@given(numbers, st.floats(0.01, 1))
def test_equal_is_what_two_one_sided_tests_show(pairs, margin):
    """Two values are equal if scipy rejects, at 5%, both differences of the size of the margin."""
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    compared = ComparedSettings(margin=margin)
    (found,) = differences(rows_of({"a": first, "b": second}), ["init"], compared)
    each = [b - a for a, b in pairs]
    if statistics.stdev(each) > 1e-6:
        lower = stats.ttest_1samp(each, -margin, alternative="greater").pvalue
        upper = stats.ttest_1samp(each, margin, alternative="less").pvalue
        assert found.is_equal() == (max(lower, upper) < 0.05)
        (table,) = difference_rows([found], ["init"])
        assert table["equal"] == (margin if found.is_equal() else None)
    (ranked,) = ranking(rows_of({"a": first, "b": second}), ["init"], "init", compared)
    assert bool(ranked.equal) == found.is_equal()
    assert (f"equal within {margin:g}: " in ranked.sentence) == found.is_equal()


def test_text_needed_is_where_the_curve_reaches_the_end_of_the_other():
    """Runs of one language and seed are compared; one that never gets there is the slower one."""
    rows = []
    curves = {
        # The first value ends at 1.0 after 500 bytes, in both languages and with both seeds.
        ("mean", "hi"): [2.0, 1.5, 1.25, 1.125, 1.1, 1.0],
        ("mean", "tr"): [2.0, 1.5, 1.25, 1.125, 1.1, 1.0],
        ("align", "hi"): [1.5, 1.1, 0.9, 0.8, 0.7, 0.7],  # at 150 bytes
        ("align", "tr"): [1.5, 1.0, 0.9, 0.8, 0.75, 0.75],  # at 100 bytes
        ("random", "hi"): [3.0, 2.0, 1.5, 1.2, 1.2, 1.1],
        ("random", "tr"): [3.0, 2.0, 1.0, 0.9, 0.9, 0.9],
    }
    for (init, language), values in curves.items():
        for seed in (0, 1):
            for number, value in enumerate(values):
                labels = {"cell": "x", "seed": seed, "axis.init": init, "axis.language": language}
                point = {"bytes": 100 * number, "bits_per_byte": value + 0.01 * seed}
                rows.append({**labels, "role": "target", "language": language, **point})
                rows.append({**labels, "role": "replay", "language": "en", **point})
    align, random = text_needed(rows, ["init", "language"])
    assert (align.first, align.second, align.runs, align.seeds) == ("mean", "align", 4, 2)
    assert align.share == pytest.approx(math.sqrt(150 * 100) / 500)
    assert align.end == pytest.approx((-0.3 - 0.25) / 2)
    assert align.start == pytest.approx(-0.5)
    # Both seeds end in the same: nothing says how far another one would be.
    assert align.end_interval is None
    # In Hindi the curve of mean is at the end of random, 1.1, after 400 of 500 bytes.
    assert random.share == pytest.approx(math.sqrt(500 / 400 * 200 / 500))
    assert (random.reached, random.runs, random.languages) == (2, 4, 2)
    assert random.end == pytest.approx(0.0)
    # Without one of its runs, a seed is left out; of two points at the same text the last counts.
    part = [row for row in rows if (row["seed"], row["axis.language"]) != (1, "tr")]
    merged = {**align_end(part, "hi"), "bits_per_byte": 0.9}
    align, random = text_needed([*part, merged], ["init", "language"])
    assert (align.runs, align.seeds) == (2, 1)
    assert align.end == pytest.approx((-0.1 - 0.25) / 2)
    # Runs that read more text are no faster for it, and few points say nothing of speed.
    more = [
        {**row, "bytes": 2 * row["bytes"]} if row["axis.init"] == "align" else row for row in rows
    ]
    assert [found.second for found in text_needed(more, ["init", "language"])] == ["random"]
    assert text_needed([row for row in rows if row["bytes"] % 200 == 0], ["init", "language"]) == []


def test_text_needed_has_one_observation_for_each_seed(curve_rows):
    """Languages are averaged within a seed; the interval is that of the logarithms over seeds."""
    steps = {("hi", 0): 4, ("hi", 1): 6, ("hi", 2): 5, ("tr", 0): 3, ("tr", 1): 2, ("tr", 2): 6}
    rows = []
    for (language, seed), reached in steps.items():
        # The first value ends at 1 after 8 points, the second is there after `reached`.
        rows += curve_rows("mean", language, seed, [9 - number for number in range(9)])
        fast = [3 if number < reached else 1 for number in range(9)]
        rows += curve_rows("fast", language, seed, fast)
    (found,) = text_needed(rows, ["init", "language"])
    logs = [
        statistics.mean(math.log(steps[language, seed] / 8) for language in ("hi", "tr"))
        for seed in range(3)
    ]
    expected = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert found.share == pytest.approx(math.exp(statistics.mean(logs)))
    assert found.share_interval == pytest.approx(tuple(map(math.exp, expected)))
    assert (found.languages, found.seeds, found.runs) == (2, 3, 6)


def test_a_value_that_starts_at_the_end_of_the_other_needs_the_least_share(curve_rows):
    """Such a run needs no text; it counts as 1%, because 0 has no logarithm."""
    rows = [
        *curve_rows("mean", "hi", 0, [3, 2, 1, 1, 1, 1]),
        *curve_rows("done", "hi", 0, [1, 1, 1, 1, 1, 1]),
    ]
    (found,) = text_needed(rows, ["init", "language"])
    assert found.share == pytest.approx(LEAST_SHARE)


@pytest.fixture
def curve_rows():
    """Return the rows of a held-out curve with a point after each 100 bytes."""

    def rows(init, language, seed, values):
        cell = {"cell": "x", "seed": seed, "axis.init": init, "axis.language": language}
        cell |= {"role": "target", "language": language}
        return [
            {**cell, "bytes": 100 * number, "bits_per_byte": value}
            for number, value in enumerate(values)
        ]

    return rows


def align_end(rows, language):
    """Return the last point of `align` with seed 0."""
    place = {"axis.init": "align", "axis.language": language, "seed": 0, "role": "target"}
    return [row for row in rows if place.items() <= row.items()][-1]


@given(numbers)
def test_a_difference_turns_with_its_order(pairs):
    """The difference b - a is that of a - b with its sign changed; the better value is the same."""
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    (forth,) = differences(rows_of({"a": first, "b": second}), ["init"], BITS)
    (back,) = differences(rows_of({"b": second, "a": first}), ["init"], BITS)
    assert math.isclose(forth.value, -back.value, abs_tol=1e-12)
    assert better_value(forth) == better_value(back)


def test_one_seed_carries_nothing():
    """However large a difference of single runs is, no interval and no claim comes of it."""
    rows = rows_of({"a": [1.0], "b": [9.0]})
    (found,) = differences(rows, ["init"], BITS)
    assert (found.interval(), better_value(found)) == (None, None)
    assert ranking(rows, ["init"], "init", BITS)[0].carried == ()


def test_no_value_of_a_metric_without_a_direction_is_better():
    """Its means are in the tables, the lowest first, and the sentence claims nothing."""
    metric = "bits per byte of generated text"
    rows = rows_of({"a": [2.0, 2.1], "b": [1.0, 1.1]}, metric=metric)
    (ranked,) = ranking(rows, ["init"], "init", ComparedSettings(metric=metric))
    assert (ranked.order, ranked.carried, ranked.best) == (("b", "a"), (), None)
    assert ranked.sentence.endswith("neither a lower nor a higher value is called better")


def test_intervals_of_another_level_are_brought_to_95_percent():
    """The interval of a study does not depend on the level that the recipe asks for."""
    z = {level: stats.norm.ppf(0.5 + level / 2) for level in (0.8, 0.95)}
    found = []
    for level, quantile in z.items():
        rows = rows_of({"a": [2.0, 2.0], "b": [3.0, 3.0]}, half=0.1 * quantile)
        (difference,) = differences(
            [{**each, "confidence": level} for each in rows], ["init"], BITS
        )
        found.append(difference.interval())
    assert found[0] == pytest.approx(found[1])


def test_numbers_that_no_seed_moves_are_held_to_the_documents():
    """Equal for all seeds is no proof: the intervals over documents decide."""
    near, far = (
        rows_of({"a": [2.0, 2.0], "b": [value, value]}, metric="tokens per word")
        for value in (2.05, 3.0)
    )
    tokens = ComparedSettings(metric="tokens per word")
    (close,), (apart,) = differences(near, ["init"], tokens), differences(far, ["init"], tokens)
    assert (close.over, better_value(close), better_value(apart)) == ("documents", None, "a")
    assert apart.interval() == pytest.approx((1 - math.hypot(0.1, 0.1), 1 + math.hypot(0.1, 0.1)))


@pytest.mark.parametrize("contexts", [1, 2, 8])
def test_more_contexts_on_the_same_documents_decide_nothing(contexts):
    """Learning rates do not change tokens per word: their number does not make it more certain."""
    rows = [
        row({"init": name, "rate": rate}, seed, value, metric="tokens per word")
        for rate in range(contexts)
        for name, value in (("a", 2.0), ("b", 2.1))
        for seed in (0, 1)
    ]
    tokens = ComparedSettings(metric="tokens per word", margin=0.2)
    found = [one for one in differences(rows, ["init", "rate"], tokens) if one.axis == "init"]
    assert len(found) == (1 if contexts == 1 else contexts + 1)
    for one in found:
        assert one.interval() == pytest.approx(
            (0.1 - math.hypot(0.1, 0.1), 0.1 + math.hypot(0.1, 0.1))
        )
        assert (better_value(one), one.is_equal()) == (None, False)


def test_fertility_is_compared_in_the_unit_of_each_language():
    """A study that compares tokens per word compares tokens per character of Thai."""
    values = {"a": [2.0, 2.1], "b": [3.0, 3.2]}
    rows = [
        *rows_of(values, metric="tokens per word", language="hi"),
        *rows_of(values, metric="tokens per character", language="th"),
    ]
    found = differences(rows, ["init"], ComparedSettings(metric="tokens per word"))
    assert [(one.metric, one.language, better_value(one)) for one in found] == [
        ("tokens per word", "hi", "a"),
        ("tokens per character", "th", "a"),
    ]


def test_a_ranking_claims_no_more_than_its_intervals():
    """Of three values two are alike: the third is worse than both, and no best one is named."""
    rows = rows_of(
        {
            "mean": [1.00, 1.01, 1.02, 1.00],
            "focus": [1.01, 1.00, 1.02, 1.01],
            "random": [1.5, 1.51, 1.52, 1.5],
        }
    )
    (ranked,) = ranking(rows, ["init"], "init", BITS)
    assert ranked.order[-1] == "random"
    assert set(ranked.carried) == {("mean", "random"), ("focus", "random")}
    assert ranked.best is None
    assert "separate no others" in ranked.sentence


def test_a_ranking_on_few_documents_claims_nothing():
    """Three seeds on 3 documents order nothing: the sentence says how many there are."""
    rows = rows_of({"mean": [1.00, 1.01, 1.02], "random": [1.5, 1.51, 1.52]})
    few = [{**row, "n": 3, "per": "document"} for row in rows]
    (ranked,) = ranking(few, ["init"], "init", BITS)
    assert (ranked.carried, ranked.best) == ((), None)
    assert ranked.sentence == (
        "bits per byte (adapted, hi): measured on 3 held-out documents, too few to order the "
        "values of init"
    )
    (enough,) = ranking([{**row, "n": 20} for row in few], ["init"], "init", BITS)
    assert enough.best == "mean"


@pytest.mark.parametrize(
    ("unit", "best"), [("share", "random"), ("points", "random"), ("", None), ("documents", None)]
)
def test_scores_of_tasks_are_ranked_by_their_unit(unit, best):
    """Higher is better for a share and for points; another number of a task may be a loss."""
    score = ComparedSettings(metric="belebele accuracy")
    values = {"mean": [0.30, 0.301, 0.302], "random": [0.60, 0.601, 0.604]}
    rows = rows_of(values, metric=score.metric, split="test", unit=unit)
    assert [ranked.best for ranked in ranking(rows, ["init"], "init", score)] == [best][
        : bool(best)
    ]
    (difference,) = differences(rows, ["init"], score)
    assert better_value(difference) == best
    (written,) = difference_rows([difference], ["init"])
    said = verdict({**written, "withheld": ""})
    assert said == (best or "neither direction is better")


def test_a_change_is_better_where_its_metric_is():
    """More words kept whole than before is better, as more words kept whole are."""
    change = ComparedSettings(metric="words kept whole change")
    rows = rows_of({"a": [0.1, 0.11, 0.12], "b": [0.3, 0.31, 0.33]}, metric=change.metric)
    (ranked,) = ranking(rows, ["init"], "init", change)
    assert ranked.best == "b"


@pytest.mark.parametrize(
    ("per", "said"),
    [("sample", "8 samples"), ("text", "8 texts"), ("added token", ""), ("run", "")],
)
def test_few_samples_order_nothing_either(per, said):
    """Eight texts that a model wrote say as little as eight documents; eight tokens are all."""
    rows = rows_of({"mean": [1.00, 1.01, 1.02], "random": [1.5, 1.51, 1.52]})
    (ranked,) = ranking([{**row, "n": 8, "per": per} for row in rows], ["init"], "init", BITS)
    assert ranked.few == said
    assert ranked.best == (None if said else "mean")


def test_a_ranking_over_contexts_needs_seeds_in_each_of_them():
    """Where no seed has both values in every context, no difference over all of them is claimed."""
    rows = []
    for init, size, seeds in (("a", 1, "01"), ("a", 2, "23"), ("b", 1, "01"), ("b", 2, "23")):
        for seed in map(int, seeds):
            value = 1.0 + 0.01 * seed + (1.0 if init == "b" else 0.0)
            rows.append(row({"init": init, "size": size}, seed, value))
    (ranked,) = ranking(rows, ["init", "size"], "init", BITS)
    assert (ranked.order, ranked.carried, ranked.best) == (("a", "b"), (), None)


def test_a_pair_is_stated_as_its_interval_says():
    """A seed that one value alone has changes neither the order nor what is better."""
    values = {"a": [1.00, 1.01, 1.02, 9.0], "b": [1.20, 1.21, 1.225]}
    (ranked,) = ranking(rows_of(values), ["init"], "init", BITS)
    assert (ranked.order, ranked.carried) == (("a", "b"), (("a", "b"),))


def test_a_failed_cell_changes_no_order():
    """A mean is over the seeds that all values have: one that is always lower is the first.

    Two runs of `a` on the harder text failed, so its mean of all runs would be above that of `b`.
    """
    harder = {"base": "hard"}
    rows = [row({"init": "a", "base": "easy"}, seed, 1.0) for seed in (0,)]
    rows += [row({"init": "b", "base": "easy"}, seed, 1.05) for seed in (0, 1, 2)]
    for seed in (0, 1, 2):
        rows.append(row({"init": "a", **harder}, seed, 2.0))
        rows.append(row({"init": "b", **harder}, seed, 2.05))
    (ranked,) = ranking(rows, ["init", "base"], "init", BITS)
    assert ranked.order == ("a", "b")
    assert ranked.means == pytest.approx((1.5, 1.55))


def test_a_number_that_is_not_finite_is_never_better():
    """A training that diverged orders nothing, and its value is the last."""
    values = {"a": [1.0, 1.01, 1.02], "b": [0.5, math.nan, 0.52], "c": [1.2, 1.21, 1.22]}
    rows = rows_of(values)
    (ranked,) = ranking(rows, ["init"], "init", BITS)
    assert ranked.order == ("a", "c", "b")
    assert not any("b" in pair for pair in ranked.carried)
    found = {(one.first, one.second): one for one in differences(rows, ["init"], BITS)}
    assert {pair: better_value(one) for pair, one in found.items()} == {
        ("a", "b"): None,
        ("a", "c"): "a",
        ("b", "c"): None,
    }


def test_a_ranking_says_where_it_holds():
    """Values that are compared in some contexts only are ranked there, and the sentence says so."""
    rows = []
    for seed in (0, 1, 2):
        shift = 0.01 * seed
        rows += [row({"size": 0, "form": "keep"}, seed, 1.2 + shift)]
        rows += [row({"size": 10, "form": "keep"}, seed, 1.3 + shift * 1.1)]
        rows += [row({"size": 10, "form": "auto"}, seed, 1.0 + shift)]
    by_axis = {
        axis: one.sentence
        for axis in ("size", "form")
        for one in ranking(rows, ["size", "form"], axis, BITS)
    }
    metric = "bits per byte (adapted, hi)"
    assert by_axis["size"].startswith(f"{metric}, only with form keep: 0 is better")
    assert by_axis["form"].startswith(f"{metric}, only with size 10: auto is better")
    every = [
        row({"size": size, "form": form}, seed, size + seed / 9)
        for size in (1, 2)
        for form in "xy"
        for seed in (0, 1)
    ]
    (whole,) = ranking(every, ["size", "form"], "size", BITS)
    assert whole.where == ""
    diagonal = [one for one in every if (one["axis.size"], one["axis.form"]) != (1, "y")]
    diagonal += [row({"size": size, "form": "z"}, 0, 3.0 + size) for size in (1, 2)]
    (part,) = ranking(diagonal, ["size", "form"], "size", BITS)
    assert part.where == ", only with form x or z"


def test_more_is_better_where_it_is():
    """Higher speed is better; for a metric of unknown direction, nothing is called better."""
    values = {"a": [10.0, 11.0, 10.5], "b": [20.0, 21.0, 20.6]}
    for metric, winner in (
        ("generation speed", "b"),
        ("bits per byte", "a"),
        ("strangeness", None),
    ):
        (found,) = differences(
            rows_of(values, metric=metric), ["init"], ComparedSettings(metric=metric)
        )
        assert better_value(found) == winner
    assert (
        ranking(
            rows_of(values, metric="strangeness"),
            ["init"],
            "init",
            ComparedSettings(metric="strangeness"),
        )
        == []
    )


def test_averages_are_over_what_both_values_have():
    """Averaged over the other axis, the seed stays the unit.

    A context that one value lacks is left out.
    """
    rows = [
        row(
            {"init": init, "size": size},
            seed,
            base + 0.3 * (init == "b") + 0.01 * seed * (init == "b"),
        )
        for init in "ab"
        for size, base in ((1, 1.0), (2, 2.0))
        for seed in (0, 1, 2)
    ]
    rows += [row({"init": "b", "size": 3}, seed, 50.0) for seed in (0, 1, 2)]
    found = [one for one in differences(rows, ["init", "size"], BITS) if one.axis == "init"]
    assert [dict(one.context) for one in found] == [{"size": 1}, {"size": 2}, {}]
    assert (found[-1].value, found[-1].n) == (pytest.approx(0.31), 3)
    (ranked,) = ranking(rows, ["init", "size"], "init", BITS)
    assert (ranked.order, ranked.best) == (("a", "b"), "a")
    table = difference_rows(found, ["init", "size"])
    assert [(line["axis.size"], line["better"]) for line in table] == [
        ("1", "a"),
        ("2", "a"),
        ("", "a"),
    ]


def test_languages_are_not_compared_with_each_other():
    """Bits per byte of Hindi and of Turkish are two rankings, not one."""
    rows = rows_of({"a": [1.0, 1.1], "b": [2.0, 2.1]}) + rows_of(
        {"a": [3.0, 3.1], "b": [4.0, 4.2]}, language="tr"
    )
    assert {one.language for one in differences(rows, ["init"], BITS)} == {"hi", "tr"}
    assert {one.language for one in ranking(rows, ["init"], "init", BITS)} == {"hi", "tr"}


def test_several_comparisons_at_once_are_held_to_less():
    """Three values make three pairs, each tested at a third of 5%.

    A pair that is significant alone may not be among them.
    """
    first, second = [1.00, 1.10, 0.95, 1.05, 1.02], [1.06, 1.28, 1.02, 1.08, 1.18]
    third = [1.40, 1.02, 1.23, 0.90, 1.11]
    p_value = stats.ttest_rel(first, second).pvalue
    assert 0.05 / 3 < p_value < 0.05
    (alone,) = ranking(rows_of({"a": first, "b": second}), ["init"], "init", BITS)
    (among,) = ranking(rows_of({"a": first, "b": second, "c": third}), ["init"], "init", BITS)
    assert alone.carried == (("a", "b"),)
    assert ("a", "b") not in among.carried
