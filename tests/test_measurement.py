"""Measurements read back as written, are grouped by metric, and a verdict needs evidence."""

from __future__ import annotations

import csv
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.cli.options import print_table
from lingraft.measurement import (
    CHANGE,
    HIGHER_IS_BETTER,
    Measurement,
    MetricChange,
    find_change,
    metric_changes,
    read_measurements,
    select,
    write_measurements,
)
from lingraft.measurement_table import MeasurementTable, comparison_table

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
NUMBERS = st.floats(allow_nan=False, width=64)
MAYBE = st.none() | NUMBERS
ROWS = st.builds(
    Measurement,
    metric=WORDS,
    subject=WORDS,
    value=NUMBERS,
    unit=WORDS,
    language=WORDS,
    split=WORDS,
    n=st.integers(0, 2**40),
    per=WORDS,
    low=MAYBE,
    high=MAYBE,
    confidence=MAYBE,
    version=st.integers(1, 9),
    note=WORDS,
)
relaxed = settings(max_examples=30, deadline=None)


@relaxed
@given(st.lists(ROWS, max_size=5))
def test_rows_are_read_back_as_they_were_written(tmp_path_factory, rows):
    """Every field survives the file: any script, missing intervals, the last bit of a number."""
    path = tmp_path_factory.mktemp("rows") / "measurements.parquet"
    write_measurements(rows, path)
    assert read_measurements(path) == rows


@relaxed
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_a_csv_holds_the_same_values_in_columns(tmp_path_factory, rows):
    """People and spreadsheets read the same rows; a missing number is an empty cell."""
    path = tmp_path_factory.mktemp("rows") / "measurements.csv"
    write_measurements(rows, path)
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    for row, cells in zip(rows, read, strict=True):
        assert (cells["metric"], cells["language"]) == (row.metric, row.language)
        assert float(cells["value"]) == row.value
        assert (cells["low"] == "") == (row.low is None)


@given(st.lists(ROWS, max_size=8), WORDS)
def test_a_selection_is_the_rows_that_match_all_names(rows, word):
    """Nothing is added and nothing that matches is left out."""
    rows = [*rows, Measurement(word, "source", 1.0, "u")]
    found = select(rows, metric=word, subject="source")
    assert found == [row for row in rows if row.metric == word and row.subject == "source"]
    assert select(rows) == rows


def row(
    value: float,
    subject: str = "source",
    *,
    metric: str = "bits per byte",
    half: float | None = None,
    **more: object,
) -> Measurement:
    """Return a row with an interval of so much on each side."""
    ends = {} if half is None else {"low": value - half, "high": value + half}
    return Measurement(metric, subject, value, "bits/byte", "hi", **{"n": 26, **ends, **more})


def change_of(*rows: Measurement) -> MetricChange:
    """Return the only change of these rows."""
    (change,) = metric_changes(rows)
    return change


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 5))
def test_intervals_that_meet_carry_no_verdict(before, after, half):
    """Without a paired difference, better and worse need intervals that are apart."""
    if before == after:
        return
    verdict = change_of(row(before, half=half), row(after, "adapted", half=half)).verdict
    apart = min(before, after) + half < max(before, after) - half
    assert verdict == (("better" if after < before else "worse") if apart else "unclear")


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-5, 5), st.floats(0, 5))
def test_a_paired_difference_decides(before, after, difference, half):
    """Where the difference was measured on the same documents, only its interval decides."""
    if before == after:
        return
    paired = row(difference, "adapted", metric="bits per byte" + CHANGE, half=half)
    change = change_of(row(before, half=9), row(after, "adapted", half=9), paired)
    assert change.difference is paired
    if paired.low <= 0 <= paired.high:
        assert change.verdict == "unclear"
    else:
        assert change.verdict == ("better" if after < before else "worse")


@pytest.mark.parametrize("metric", sorted(HIGHER_IS_BETTER))
def test_more_is_better_for_speeds_and_shares(metric):
    """The direction is that of the metric."""
    rows = [row(1.0, metric=metric, half=0.1), row(2.0, "adapted", metric=metric, half=0.1)]
    assert change_of(*rows).verdict == "better"
    assert (
        change_of(
            *(row(3 - one.value, one.subject, metric=metric, half=0.1) for one in rows)
        ).verdict
        == "worse"
    )


def test_scores_of_tasks_are_better_when_higher():
    """A row of the split of tasks is a score, whatever the task is called."""
    rows = [
        row(0.2, metric="xcopa", half=0.01, split="test"),
        row(0.6, "adapted", metric="xcopa", half=0.01, split="test"),
    ]
    rows = [dataclasses.replace(each, unit="share") for each in rows]
    assert change_of(*rows).verdict == "better"


def test_a_task_score_that_may_be_a_loss_has_no_verdict():
    """Perplexity is no share: whether higher is better is not known here."""
    rows = [
        dataclasses.replace(row(value, subject, metric="lambada", half=1, split="test"), unit="")
        for subject, value in (("source", 10.0), ("adapted", 25.0))
    ]
    assert change_of(*rows).verdict == ""


def test_values_without_intervals_have_no_verdict_and_equal_values_are_the_same():
    """No evidence is said as such; a number that did not move needs none."""
    assert change_of(row(1.0), row(0.5, "adapted")).verdict == "no interval"
    assert change_of(row(1.0), row(1.0, "adapted")).verdict == "same"
    assert change_of(row(1.0)).verdict == ""
    neutral = [
        row(1.0, metric="new tokens generated", half=0),
        row(9.0, "adapted", metric="new tokens generated", half=0),
    ]
    assert change_of(*neutral).verdict == ""


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_factor_is_after_over_before(before, after):
    """The adapted model comes before the spliced one; without a source there is no factor."""
    spliced, adapted = row(7.0, "spliced"), row(after, "adapted")
    assert change_of(row(before), spliced, adapted).factor == after / before
    assert change_of(row(before), spliced).last is spliced
    assert change_of(adapted).factor is None
    assert change_of(row(0.0), adapted).factor is None


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9),
    st.lists(st.sampled_from(["hi", "en"]), min_size=9, max_size=9),
)
def test_each_metric_in_each_language_is_one_entry(metrics, languages):
    """Entries stand in the order of the rows and hold the last row of each subject."""
    rows = [
        Measurement(metric, "source", float(i), "u", language)
        for i, (metric, language) in enumerate(zip(metrics, languages, strict=False))
    ]
    changes = metric_changes(rows)
    keys = [(one.metric, one.language) for one in rows]
    assert [(one.metric, one.language) for one in changes] == list(dict.fromkeys(keys))
    for one in changes:
        assert find_change(changes, one.metric, one.language) is one
        last = [row for row in rows if (row.metric, row.language) == (one.metric, one.language)][-1]
        assert one.before == last
    assert find_change(changes, "none", "hi") is None


@given(st.integers(1, 40), st.sampled_from(["document", "sample", "example"]))
def test_fewer_than_twenty_documents_carry_no_verdict(n, per):
    """Intervals that are apart claim an improvement from 20 documents on, whatever is counted."""
    change = change_of(
        row(2.0, half=0.1, n=n, per=per), row(1.0, "adapted", half=0.1, n=n, per=per)
    )
    assert change.verdict == ("better" if n >= 20 else "few")


def test_one_document_without_an_interval_is_too_few():
    """One document has no interval: it is too few, and not merely measured without one."""
    assert change_of(row(2.0, n=1), row(1.0, "adapted", n=1)).verdict == "few"
    speeds = [
        row(value, subject, metric="generation speed", n=2, per="prompt")
        for subject, value in (("source", 1.0), ("adapted", 2.0))
    ]
    assert change_of(*speeds).verdict == "no interval"


@pytest.mark.parametrize("name", ["[/INST]", "[b]old", ":cat: run"])
def test_a_name_is_shown_as_it_is(name, capsys):
    """No table reads markup or emoji in the name of a model, in Python, notebooks or terminals."""
    rows = tuple(Measurement("bits per byte", subject, 1.5, "") for subject in (name, "other"))
    table = MeasurementTable(rows)
    print_table(comparison_table(rows))
    for shown in (str(table), table._repr_html_(), capsys.readouterr().out):
        assert f"compared with {name}" in shown
        assert shown.count(name) == 2
