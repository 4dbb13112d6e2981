"""Bootstrap intervals over documents: equal to a plain loop, and properties of every interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.evaluation import bootstrap
from lingraft.evaluation.bootstrap import (
    difference_interval,
    measure_difference,
    measure_ratio,
    ratio_interval,
    resampled_ratios,
)
from lingraft.evaluation.config import BootstrapSettings

NUMBERS = st.floats(0, 1000)
SIZES = st.floats(0.5, 1000)
FEW = BootstrapSettings(resamples=50)
DOCUMENTS = st.lists(st.tuples(NUMBERS, SIZES), min_size=2, max_size=12)
relaxed = settings(max_examples=50, deadline=None)


def in_a_loop(tops, bottoms, chosen: BootstrapSettings) -> list[float]:
    """Resample one document after the other, with the same random numbers."""
    random = np.random.default_rng(chosen.seed)
    drawn = random.integers(len(tops), size=(chosen.resamples, len(tops)))
    sums = [[sum(side[i] for i in documents) for side in (tops, bottoms)] for documents in drawn]
    return [top / bottom for top, bottom in sums]


@relaxed
@given(DOCUMENTS, st.integers(0, 5))
def test_resampled_ratios_are_those_of_a_plain_loop(documents, seed):
    """Counts of drawn documents give the ratio of sums over the drawn documents."""
    tops, bottoms = zip(*documents, strict=True)
    chosen = BootstrapSettings(resamples=30, seed=seed)
    assert resampled_ratios(tops, bottoms, chosen) == pytest.approx(
        in_a_loop(tops, bottoms, chosen)
    )


@relaxed
@given(DOCUMENTS, st.floats(0.05, 0.99))
def test_an_interval_leaves_out_the_same_share_at_both_ends(documents, confidence):
    """Its ends are percentiles of the resampled ratios: at 0.9, the 5th and the 95th."""
    tops, bottoms = zip(*documents, strict=True)
    chosen = BootstrapSettings(resamples=30, confidence=confidence)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    expected = np.quantile(in_a_loop(tops, bottoms, chosen), ends)
    assert ratio_interval(tops, bottoms, chosen) == pytest.approx(tuple(expected))


@relaxed
@given(DOCUMENTS, st.integers(1, 7))
def test_blocks_of_resamples_change_nothing(documents, rows):
    """The size of the blocks that bound memory does not change the result."""
    tops, bottoms = zip(*documents, strict=True)
    whole = resampled_ratios(tops, bottoms, FEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "BLOCK_CELLS", rows * len(tops))
        assert resampled_ratios(tops, bottoms, FEW) == pytest.approx(whole, rel=1e-12)


@relaxed
@given(DOCUMENTS, st.floats(0.1, 10))
def test_an_interval_moves_with_the_unit(documents, times):
    """Twice the numerators, or half the denominators, are twice both ends of the interval."""
    tops, bottoms = (np.array(side) for side in zip(*documents, strict=True))
    expected = [end * times for end in ratio_interval(tops, bottoms, FEW)]
    assert ratio_interval(tops * times, bottoms, FEW) == pytest.approx(expected)
    assert ratio_interval(tops, bottoms / times, FEW) == pytest.approx(expected)


@relaxed
@given(DOCUMENTS)
def test_an_interval_lies_between_the_smallest_and_the_largest_ratio(documents):
    """No resample has a ratio that is outside of those of its documents."""
    tops, bottoms = zip(*documents, strict=True)
    low, high = ratio_interval(tops, bottoms, FEW)
    ratios = [top / bottom for top, bottom in documents]
    assert min(ratios) - 1e-9 <= low <= high <= max(ratios) + 1e-9


@relaxed
@given(DOCUMENTS)
def test_more_confidence_is_a_wider_interval(documents):
    """The interval of 50% is within that of 95%."""
    tops, bottoms = zip(*documents, strict=True)
    half = ratio_interval(tops, bottoms, BootstrapSettings(resamples=50, confidence=0.5))
    low, high = ratio_interval(tops, bottoms, BootstrapSettings(resamples=50, confidence=0.95))
    assert low <= half[0] <= half[1] <= high


@relaxed
@given(st.lists(st.tuples(NUMBERS, NUMBERS, SIZES), min_size=2, max_size=12))
def test_a_difference_is_paired_and_turns_with_its_order(documents):
    """Both ratios use the same draws: a model minus itself is 0, and a - b is -(b - a)."""
    one, other, sizes = zip(*documents, strict=True)
    assert difference_interval((one, sizes), (one, sizes), FEW) == (0, 0)
    low, high = difference_interval((one, sizes), (other, sizes), FEW)
    back = difference_interval((other, sizes), (one, sizes), FEW)
    assert back == pytest.approx((-high, -low))


@given(st.floats(0, 100), st.integers(2, 20))
def test_a_constant_shift_of_every_document_has_no_spread(shift, documents):
    """A difference that is the same on every document has an interval of one point."""
    base, sizes = np.arange(documents, dtype=float), np.ones(documents)
    low, high = difference_interval((base + shift, sizes), (base, sizes), FEW)
    assert (low, high) == pytest.approx((shift, shift), abs=1e-9)


@pytest.mark.parametrize("documents", [0, 1])
def test_fewer_than_two_documents_have_no_interval(documents):
    """One document cannot vary: there is a value, and no interval around it."""
    values = [2.0] * documents
    assert ratio_interval(values, values, FEW) is None
    assert len(resampled_ratios(values, values, FEW)) == 0


def test_draws_without_any_unit_are_left_out():
    """A resample whose denominators are all 0 has no ratio and takes no part in the percentiles."""
    assert ratio_interval([0, 4], [0, 2], FEW) == (2, 2)
    assert ratio_interval([0, 0], [0, 0], FEW) is None


@relaxed
@given(DOCUMENTS)
def test_a_row_holds_the_ratio_of_sums_and_not_the_mean_of_ratios(documents):
    """A long document counts by its length; n is the number of documents."""
    tops, bottoms = zip(*documents, strict=True)
    [row] = measure_ratio("m", "u", tops, bottoms, subject="s", language="hi", bootstrap=FEW)
    assert row.value == pytest.approx(sum(tops) / sum(bottoms))
    assert (row.n, row.per, row.confidence) == (len(documents), "document", FEW.confidence)
    assert (row.low, row.high) == ratio_interval(tops, bottoms, FEW)


def test_a_row_of_nothing_is_no_row():
    """A text without any unit gives no measurement, and neither does a difference with one."""
    given_names = {"subject": "s", "language": "hi", "bootstrap": FEW}
    assert measure_ratio("m", "u", [1, 2], [0, 0], **given_names) == []
    sides = ([1, 2], [0, 0]), ([1, 2], [1, 1])
    assert measure_difference("m", "u", *sides, first="source", **given_names) == []
    assert measure_difference("m", "u", *reversed(sides), first="source", **given_names) == []


def test_a_row_of_one_document_has_a_value_without_an_interval():
    """Its confidence is empty as well, so that no table shows an interval of nothing."""
    [row] = measure_ratio("m", "u", [3], [2], subject="s", language="hi", bootstrap=FEW)
    assert (row.value, row.low, row.high, row.confidence, row.n) == (1.5, None, None, None, 1)


@relaxed
@given(st.lists(st.tuples(NUMBERS, NUMBERS, SIZES), min_size=2, max_size=12))
def test_a_difference_row_is_the_difference_of_the_two_rows(documents):
    """Its value is one ratio minus the other, and it names the model that was subtracted."""
    one, other, sizes = zip(*documents, strict=True)
    [row] = measure_difference(
        "bits",
        "u",
        (one, sizes),
        (other, sizes),
        subject="adapted",
        first="source",
        language="hi",
        bootstrap=FEW,
    )
    assert row.value == pytest.approx((sum(one) - sum(other)) / sum(sizes))
    assert row.metric.startswith("bits ")
    assert "minus source" in row.note
