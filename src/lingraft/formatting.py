"""Formats numbers, amounts and lists of words, the same in every output.

A number has three significant digits. `measurement_text` formats measurements with them.
"""

from __future__ import annotations

import math
from typing import Any


def number(value: float | None) -> str:
    """Return a number with three significant digits, all digits of a large one.

    >>> number(13.4932), number(2.3), number(0.0123), number(12345.6), number(0), number(2.8e-5)
    ('13.5', '2.30', '0.0123', '12,346', '0', '2.8e-05')
    >>> number(999.7), number(2.4e40)
    ('1,000', '2.4e+40')
    >>> number(math.nan), number(None)
    ('not a number', '')
    """
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    # Perplexities can have 40 digits, of which float64 has 16.
    if abs(_rounded(value)) < 1e-3 or abs(value) >= 1e15:
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
    text = _signed(value, _decimals(value, low, high))
    return f"{text} ({interval})" if interval else text


def signed_interval(value: float, low: float | None, high: float | None) -> str:
    """Return the interval of a difference, with signs and the decimals that `signed` gives.

    >>> signed_interval(0.1, -0.0875, 0.2), signed_interval(0.1, None, None)
    ('-0.087 to +0.200', '')
    """
    if low is None or high is None:
        return ""
    decimals = _decimals(value, low, high)
    return f"{_signed(low, decimals)} to {_signed(high, decimals)}"


def _signed(value: float, decimals: int) -> str:
    return f"{value:+,.{decimals}f}" if math.isfinite(value) else number(value)


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


def signed_fixed(value: float, decimals: int = 3) -> str:
    """Return a difference with its sign and so many decimals; what rounds to 0 has no sign.

    >>> signed_fixed(0.0714), signed_fixed(-0.0004), signed_fixed(2.4, decimals=0)
    ('+0.071', '0.000', '+2')
    """
    text = _signed(value, decimals)
    return text if text.strip("+-0.") else text[1:]


def signed_percent(share: float) -> str:
    """Return a relative change as a percentage.

    >>> signed_percent(-0.3612), signed_percent(0.005), signed_percent(-0.0004)
    ('-36.1%', '+0.5%', '0.0%')
    """
    if not math.isfinite(share):
        return number(share)
    text = f"{share:+.1%}"
    return text[1:] if text[1:] == "0.0%" else text


def factor(value: float) -> str:
    """Return a factor with two decimals.

    >>> factor(5.6081), factor(0.913)
    ('5.61x', '0.91x')
    """
    return f"{value:.2f}x" if math.isfinite(value) else number(value)


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Return a number and, in brackets, its interval or range; a single point has none.

    >>> with_interval(1.379, 1.26, 1.76), with_interval(1.5, 1.5, 1.5)
    ('1.38 (1.26 to 1.76)', '1.50')
    >>> with_interval(math.nan, math.nan, math.nan)
    'not a number'
    """
    if low is None or high is None or low == high or not math.isfinite(value):
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


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
