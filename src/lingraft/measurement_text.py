"""Formats measurements and changes, the same in every output.

The terminal, the model card and the report use these functions, so the same measurement and the
same change have the same text in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from lingraft.formatting import (
    factor,
    join_words,
    number,
    percent,
    signed,
    signed_fixed,
    signed_percent,
)
from lingraft.measurement import Measurement

# A change in tokens is written as a factor from here on, and as a percentage below.
LARGE_FACTOR = 1.5


def value_of(row: Measurement, value: float | None = None) -> str:
    """Return the value of a measurement, or `value` in its unit; a share is a percentage.

    >>> value_of(Measurement("m", "s", 0.256, "share")), value_of(Measurement("m", "s", 13.49, "x"))
    ('25.6%', '13.5')
    """
    shown = row.value if value is None else value
    return percent(shown) if row.unit == "share" else number(shown)


def interval_of(row: Measurement | None) -> str:
    """Return the interval of a measurement, empty if there is none or it is a single point.

    >>> interval_of(Measurement("m", "s", 1.5, "u", low=1.25, high=1.75, confidence=0.95))
    '1.25 to 1.75'
    """
    if row is None or row.low is None or row.high is None or row.low == row.high:
        return ""
    return f"{value_of(row, row.low)} to {value_of(row, row.high)}"


def confidence_levels(levels: Iterable[float | None]) -> str:
    """Return the levels of intervals, each once; `None` is the level of no interval.

    >>> confidence_levels([0.9, None, 0.9]), confidence_levels([0.9, 0.95]), confidence_levels([])
    ('90%', '90% and 95%', '')
    """
    return join_words([percent(level) for level in dict.fromkeys(levels) if level is not None])


def measured(row: Measurement | None) -> str:
    """Return the value of a measurement with its interval.

    >>> measured(Measurement("m", "s", 0.5, "share", low=0.25, high=0.75)), measured(None)
    ('50% (25% to 75%)', '')
    """
    if row is None:
        return ""
    interval = interval_of(row)
    return value_of(row) + (f" ({interval})" if interval else "")


def change(
    before: Measurement | None, after: Measurement | None, difference: Measurement | None = None
) -> str:
    """Return the change between two measurements of one metric in one language.

    A speed is shown as a factor, and so are tokens if they change by `LARGE_FACTOR` or more. Other
    metrics show the paired `difference` with its interval if it was measured, otherwise a
    percentage. Shares change by percentage points.

    >>> tokens = [Measurement("tokens per word", "source", n, "tok/word") for n in (13.06, 1.659)]
    >>> bits = [Measurement("bits per byte", "source", n, "bits/byte") for n in (1.379, 0.881)]
    >>> change(*tokens), change(*bits), change(bits[0], bits[0]), change(bits[0], None)
    ('7.87x fewer', '-36.1%', '0', '')
    >>> paired = Measurement("m", "adapted", -0.498, "bits/byte", low=-0.7031, high=-0.3842)
    >>> change(*bits, paired)
    '-0.498 (-0.703 to -0.384)'
    >>> change(Measurement("m", "source", 0.022, "share"), Measurement("m", "adapted", 0.178, ""))
    '+15.6 points'
    """
    if before is None or after is None:
        return ""
    if before.value == after.value:
        return "0"
    if before.unit == "share":
        return points(before.value, after.value, difference)
    return _change_of_value(before, after, difference)


def _change_of_value(
    before: Measurement, after: Measurement, difference: Measurement | None
) -> str:
    tokens, speed = before.metric.startswith("tokens"), before.unit.endswith("/s")
    if difference is not None and not tokens and not speed:
        return signed(difference.value, difference.low, difference.high)
    if not before.value or not after.value:
        return f"from 0 to {value_of(after)}" if after.value else "to 0"
    # A share of a negative value would have the wrong sign: -100 is more than -120.
    if before.value < 0 or after.value < 0:
        return signed(after.value - before.value)
    times = after.value / before.value
    if tokens and times <= 1 / LARGE_FACTOR:
        return f"{factor(1 / times)} fewer"
    is_factor = speed or (tokens and times >= LARGE_FACTOR)
    return factor(times) if is_factor else signed_percent(times - 1)


def points(before: float, after: float, difference: Measurement | None) -> str:
    """Return the change of a share in percentage points, with the interval of the difference.

    >>> points(0.5, 0.25, Measurement("m", "adapted", -0.25, "share", low=-0.4, high=-0.1))
    '-25.0 points (-40.0 to -10.0)'
    """
    value = difference.value if difference else after - before
    if difference is None or difference.low is None or difference.high is None:
        return f"{_in_points(value)} points"
    return (
        f"{_in_points(value)} points "
        f"({_in_points(difference.low)} to {_in_points(difference.high)})"
    )


def _in_points(share: float) -> str:
    return signed_fixed(100 * share, decimals=1)
