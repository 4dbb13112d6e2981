"""Numbers as text: what every output of a measurement has in common."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lingraft.display_text import BIDI_OVERRIDES, direction, language_name, language_tag, plain
from lingraft.formatting import (
    duration,
    factor,
    flatten,
    join_words,
    model_size,
    number,
    percent,
    signed,
    signed_fixed,
    signed_interval,
    signed_percent,
    size,
    with_interval,
)

FINITE = st.floats(-1e12, 1e12)
POSITIVE = st.floats(1e-9, 1e12)
MAGNITUDES = [10.0**exponent for exponent in range(-9, 13)]
BELOW_A_MAGNITUDE = st.builds(
    lambda magnitude, part: magnitude * (1 - part),
    st.sampled_from(MAGNITUDES),
    st.sampled_from([1e-6, 3e-4, 7e-4]),
)
"""Values that rounding brings to a power of ten, and some that it leaves below."""


def read(text: str) -> float:
    """Return the number that a text shows."""
    return float(text.replace(",", ""))


@given(FINITE)
def test_a_number_is_right_to_three_digits(value):
    """What is shown differs from the value by less than half of the third digit."""
    assert read(number(value)) == pytest.approx(value, rel=0.0051)


@given(POSITIVE | BELOW_A_MAGNITUDE)
def test_a_number_has_the_format_of_what_it_is_rounded_to(value):
    """999.7 is shown as 1,000 is, and 0.00099996 as 0.001 is: an exponent is for small ones."""
    rounded = float(f"{value:.3g}")
    shown = number(value)
    assert ("e" in shown) == (rounded < 1e-4)
    if value < 999.5 and value != int(value) and rounded >= 1e-3:
        assert len(shown.replace(".", "").lstrip("0")) == 3


@given(POSITIVE)
def test_a_negative_number_is_the_positive_one_with_a_sign(value):
    """The digits do not depend on the sign."""
    assert number(-value) == f"-{number(value)}"


@given(st.integers(-(10**14), 10**14))
def test_a_whole_number_shows_all_of_its_digits(value):
    """A count is never rounded."""
    assert number(value) == f"{value:,}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(math.nan, "not a number"), (math.inf, "infinite"), (-math.inf, "infinite"), (None, "")],
)
def test_what_is_no_number_is_said(value, shown):
    """No cell shows `nan` or `inf`."""
    assert number(value) == shown
    if value is not None:
        assert factor(value) == signed_percent(value) == percent(value) == shown
        assert signed(value) == signed_fixed(value) == shown
        assert signed_interval(0.5, value, value) == f"{shown} to {shown}"


def test_a_number_shows_no_more_digits_than_it_has():
    """The perplexity of random weights has 40 digits, of which 16 are known."""
    assert (number(2.4e40), number(-1.5e17)) == ("2.4e+40", "-1.5e+17")


@given(FINITE, POSITIVE)
def test_a_difference_has_a_sign_and_its_interval_the_same_decimals(value, half):
    """Value, lower and upper end line up below each other in a table."""
    shown = signed(value, value - half, value + half)
    decimals = {len(part.partition(".")[2]) for part in re.findall(r"[+-][\d,.]+", shown)}
    assert len(decimals) == 1
    assert shown[0] in "+-"
    assert f"({signed_interval(value, value - half, value + half)})" in shown


@given(BELOW_A_MAGNITUDE.filter(lambda value: 1e-6 < value < 999))
def test_a_difference_has_three_digits(value):
    """Also where rounding adds a digit before the point: 9.997 is +10.0."""
    assert len(signed(value).lstrip("+0.").replace(".", "")) == 3


@given(FINITE)
def test_a_difference_without_an_interval_is_the_number_alone(value):
    """A missing end leaves the brackets out."""
    assert signed(value, None, None) == signed(value) == signed(value, 0.0, None)
    assert signed_interval(value, None, 1.0) == ""


@given(st.floats(0, 1))
def test_only_all_is_100_percent_and_only_nothing_is_0(share):
    """A claim with one exception in a million never reads as if it had none."""
    shown = percent(share)
    assert (shown == "100%") == (share == 1)
    assert (shown == "0%") == (share == 0)
    if not shown.startswith(("<", ">")):
        assert float(shown.removesuffix("%")) == pytest.approx(100 * share, abs=0.051)


@given(FINITE, POSITIVE)
def test_an_interval_of_one_point_is_left_out(value, half):
    """A number that cannot vary has no brackets; others show both ends."""
    assert with_interval(value, value, value) == number(value)
    low, high = value - half, value + half
    if low != high:
        assert with_interval(value, low, high).endswith(f"({number(low)} to {number(high)})")


@given(st.integers(0, 10**13) | BELOW_A_MAGNITUDE.map(round))
@example(999_999)
def test_a_size_names_the_unit_that_fits(count):
    """The number before the unit is below 1,000, but for what is beyond the largest unit."""
    shown, unit = size(count).split(" ")
    factor = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert read(shown) * factor == pytest.approx(count, rel=0.0051)
    assert (read(shown) < 1000 and "e" not in shown) or unit == "GB"


@given(st.floats(1e3, 9e14) | BELOW_A_MAGNITUDE.filter(lambda value: value > 1e3))
def test_the_size_of_a_model_names_the_unit_that_fits(parameters):
    """The number before the unit is below 1,000, without an exponent."""
    shown = model_size(parameters)
    assert "e" not in shown
    factor = {"M": 1e6, "B": 1e9, "T": 1e12}[shown[-1]]
    assert float(shown[:-1]) < 1000
    assert float(shown[:-1]) * factor == pytest.approx(parameters, rel=0.0051)


@given(st.floats(0, 1e6) | st.sampled_from([59.94, 59.96, 3599.4, 3599.6]))
def test_a_duration_is_right_to_its_last_unit(seconds):
    """Hours, minutes and seconds add up to the span of time."""
    units = {"h": 3600, "min": 60, "s": 1}
    parts = re.findall(r"([\d.]+) (h|min|s)", duration(seconds))
    total = sum(float(count) * units[unit] for count, unit in parts)
    last = units[parts[-1][1]]
    assert abs(total - seconds) <= (0.051 if len(parts) == 1 and last == 1 else last)
    assert all(float(count) < 60 for count, unit in parts if unit != "h")


@given(st.lists(st.sampled_from("abc"), max_size=5))
def test_a_list_in_a_sentence_holds_every_word_in_order(words):
    """Commas between the first ones, `and` before the last."""
    assert re.split(", | and ", join_words(words)) == (words or [""])


@given(st.text(max_size=30))
def test_plain_text_has_nothing_that_steers_a_page(text):
    """Controls and direction overrides become visible, all other characters stay."""
    shown = plain(text)
    assert not BIDI_OVERRIDES & set(shown)
    assert not any(ord(character) < 32 and character not in "\n\t" for character in shown)
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text


LEAVES = st.text("ab c", min_size=1, max_size=4) | st.integers(0, 10**6) | st.booleans()
NOTES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


def leaves_of(notes, path=()) -> list:
    """Return every leaf with the way to it."""
    if not isinstance(notes, dict):
        return [(path, notes)]
    found = []
    for key, value in notes.items():
        found += leaves_of(value, (*path, key))
    return found


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), NOTES, max_size=3))
def test_nested_notes_become_one_row_for_each_leaf(notes):
    """No note is left out of a table, and each is named by the way to it."""
    rows = flatten(notes)
    expected = leaves_of(notes)
    assert [name for name, _ in rows] == [".".join(path) for path, _ in expected]
    for (_, shown), (_, value) in zip(rows, expected, strict=True):
        if isinstance(value, bool):
            assert shown == ("yes" if value else "no")
        else:
            assert shown == (f"{value:,}" if isinstance(value, int) else value)


@given(st.sampled_from(["Hindi", "हिन्दी", "中文"]), st.sampled_from(["العربية", "עברית", "اردو"]))
def test_the_first_letter_decides_the_direction(left, right):
    """Digits and punctuation before it have no say, and what follows has none either."""
    assert direction(f"(42) {left} {right}") == "ltr"
    assert direction(f"(42) {right} {left}") == "rtl"
    assert direction("42, -7!") == "ltr"


@pytest.mark.parametrize("language", ["domain:law", "domain:x-y"])
def test_a_domain_is_no_language(language):
    """It keeps its own name and puts no lang attribute into a page."""
    assert language_name(language) == language
    assert language_tag(language) == ""
    assert language_tag("pt-BR") == "pt-BR"
