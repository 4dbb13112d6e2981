"""Formats numbers, measurements and changes, the same in every output.

The terminal, the model card and the report use these functions, so the same measurement and the
same change have the same text in all of them. A number has three significant digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lingraft.measurement import Measurement

# A change in tokens is written as a factor from here on, and as a percentage below.
LARGE_FACTOR = 1.5


def number(value: float | None) -> str:
    """Return a number with three significant digits, all digits of a large one.

    >>> number(13.4932), number(2.3), number(0.0123), number(12345.6), number(0), number(2.8e-5)
    ('13.5', '2.30', '0.0123', '12,346', '0', '2.8e-05')
    >>> number(999.7)
    '1,000'
    >>> number(math.nan), number(None)
    ('not a number', '')
    """
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(_rounded(value)) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(_rounded(value)) >= 1000 else f"{value:#,.3g}".rstrip(".")


def _rounded(value: float) -> float:
    """Return a value with three significant digits, by which its format and unit are chosen.

    999.7 is shown as 1,000, so it has the format of 1,000.
    """
    return float(f"{value:.3g}")


def signed(value: float, low: float | None = None, high: float | None = None) -> str:
    """Return a difference with its sign, and its interval where there is one.

    All three have as many decimals as the largest of them needs for three significant digits.

    >>> signed(-0.25), signed(0.007, -0.1342, 0.045), signed(-11.204, -11.7, -10.8)
    ('-0.250', '+0.007 (-0.134 to +0.045)', '-11.2 (-11.7 to -10.8)')
    """
    interval = signed_interval(value, low, high)
    text = f"{value:+,.{_decimals(value, low, high)}f}" if math.isfinite(value) else number(value)
    return f"{text} ({interval})" if interval else text


def signed_interval(value: float, low: float | None, high: float | None) -> str:
    """Return the interval of a difference, with signs and the decimals that `signed` gives.

    >>> signed_interval(0.1, -0.0875, 0.2), signed_interval(0.1, None, None)
    ('-0.087 to +0.200', '')
    """
    if low is None or high is None:
        return ""
    decimals = _decimals(value, low, high)
    return f"{low:+,.{decimals}f} to {high:+,.{decimals}f}"


def _decimals(*values: float | None) -> int:
    """Return the decimals that give the largest value three significant digits."""
    largest = 0.0
    for value in values:
        if value and math.isfinite(value):
            largest = max(largest, _rounded(abs(value)))
    return min(max(2 - math.floor(math.log10(largest)), 0), 9) if largest else 0


def percent(share: float) -> str:
    """Return a share as a percentage with three significant digits, at most two decimals.

    Only all is 100% and only nothing 0%.

    >>> percent(1), percent(0.4237), percent(0.0583), percent(0.0), percent(0.75)
    ('100%', '42.4%', '5.83%', '0%', '75%')
    >>> percent(0.9996), percent(0.99999), percent(2e-5)
    ('99.96%', '>99.99%', '<0.01%')
    """
    if not math.isfinite(share):
        return number(share)
    # Rounding must not turn a small share into 0%, or a large one into 100%.
    if 0 < share < 1e-4:
        return "<0.01%"
    if 0.9999 < share < 1:
        return ">99.99%"
    decimals = 1 if 0.1 <= abs(share) < 0.9995 or abs(share) >= 1 else 2
    text = f"{100 * share:.{decimals}f}"
    return text.rstrip("0").rstrip(".") + "%"


def signed_percent(share: float) -> str:
    """Return a relative change as a percentage.

    >>> signed_percent(-0.3612), signed_percent(0.005), signed_percent(-0.0004)
    ('-36.1%', '+0.5%', '0.0%')
    """
    text = f"{share:+.1%}"
    return text[1:] if text[1:] == "0.0%" else text


def factor(value: float) -> str:
    """Return a factor with two decimals.

    >>> factor(5.6081), factor(0.913)
    ('5.61x', '0.91x')
    """
    return f"{value:.2f}x"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Return a number and, in brackets, its interval or range; a single point has none.

    >>> with_interval(1.379, 1.26, 1.76), with_interval(1.5, 1.5, 1.5)
    ('1.38 (1.26 to 1.76)', '1.50')
    """
    if low is None or high is None or low == high:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


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
        return f"{100 * value:+.1f} points"
    return (
        f"{100 * value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )


def size(count: float) -> str:
    """Return a number of bytes in the largest decimal unit that gives at least 1.

    >>> size(512), size(108481), size(999_999), size(24e9)
    ('512 bytes', '108 kB', '1.00 MB', '24 GB')
    """
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if _rounded(count) >= limit:
            return f"{number(count / limit)} {unit}"
    return f"{count:,.0f} bytes"


def model_size(parameters: float) -> str:
    """Return a number of parameters in millions, billions or trillions.

    >>> model_size(8_621_312), model_size(999_900_000), model_size(230_208), model_size(1e12)
    ('8.62M', '1B', '0.23M', '1T')
    """
    for limit, unit in ((1e12, "T"), (1e9, "B")):
        if _rounded(parameters) >= limit:
            return f"{parameters / limit:.3g}{unit}"
    return f"{parameters / 1e6:.3g}M"


def duration(seconds: float) -> str:
    """Return a duration in the units of its size.

    >>> duration(0.09), duration(59.97), duration(82.8), duration(5000)
    ('0.1 s', '1 min 0 s', '1 min 23 s', '1 h 23 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def flops(value: float) -> str:
    """Return a number of floating-point operations.

    >>> flops(2.84e15)
    '2.8e+15'
    """
    return f"{value:.2g}"


def counted(count: int, unit: str) -> str:
    """Return a number of things, with the plural of their name unless it is one.

    >>> counted(1, "document"), counted(1234, "document")
    ('1 document', '1,234 documents')
    """
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def join_words(parts: list[str]) -> str:
    """Join words to a list in a sentence.

    >>> join_words(["a", "b", "c"])
    'a, b and c'
    """
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def flatten(notes: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested notes as pairs of name and text, the names joined by dots; empty ones left out.

    >>> flatten({"a": {"b": 1234}, "c": [1, 2], "d": None})
    [('a.b', '1,234'), ('c', '1, 2')]
    """
    nested = isinstance(notes, list) and any(isinstance(item, dict | list) for item in notes)
    if isinstance(notes, dict) or nested:
        items = notes.items() if isinstance(notes, dict) else enumerate(notes)
        pairs = []
        for key, value in items:
            pairs += flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return pairs
    if notes is None or notes == []:
        return []
    return [(prefix, ", ".join(map(_word, notes)) if isinstance(notes, list) else _word(notes))]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)
