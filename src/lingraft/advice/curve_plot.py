"""Coordinates of the fertility curves in the chart of the HTML page, in SVG user units.

The horizontal axis is the number of added tokens, the vertical axis the share of tokens left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lingraft.advice.diagnosis import LanguageFinding
from lingraft.forecast.extrapolate import TARGETS
from lingraft.forecast.predict_fertility import FertilityCurve
from lingraft.formatting import percent
from lingraft.vocabulary.auto_size import SIZES

# As wide as the text on a phone, so that the page does not scale the letters down.
WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 32, 44


@dataclass(frozen=True)
class PlottedCurve:
    """A curve and the band of its interval; `line` and `band` are SVG points.

    `kind` is its class in the style sheet.
    """

    name: str
    kind: str
    line: str
    band: str


def x_of(added: int) -> float:
    """Return the horizontal position of a number of added tokens."""
    # The curve is steepest at few tokens, so the axis is a square root, which gives them more room.
    return round(LEFT + (WIDTH - LEFT - RIGHT) * math.sqrt(added / SIZES[-1]), 1)


def y_of(share: float) -> float:
    """Return the vertical position of a share of the tokens, with 1 at the top."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)


def plot_curves(finding: LanguageFinding) -> list[PlottedCurve]:
    """Return the curves of a finding: with the base's pre-tokenizer and with a repaired one."""
    curves = []
    if finding.keep:
        curves.append(_plot("pre-tokenizer as it is", "keep", finding.keep))
    if finding.repaired:
        curves.append(_plot(finding.repair, "repaired", finding.repaired))
    return curves


def describe_curves(finding: LanguageFinding) -> str:
    """Return the curves of a finding in words, for screen readers."""
    parts = []
    for name, curve in (
        ("the pre-tokenizer as it is", finding.keep),
        (f"a {finding.repair} one", finding.repaired),
    ):
        if curve:
            left = ", ".join(
                f"{percent(point.share)} after {point.added:,} added"
                for point in map(curve.at, TARGETS)
            )
            parts.append(f"with {name}: {left}")
    return f"Tokens left in {finding.language} {'; '.join(parts)}."


def _plot(name: str, kind: str, curve: FertilityCurve) -> PlottedCurve:
    line = [_svg_point(0, 1.0)]
    upper = [_svg_point(0, 1.0)]
    lower = []
    for point in curve.points:
        line.append(_svg_point(point.added, point.share))
        upper.append(_svg_point(point.added, point.high))
        lower.append(_svg_point(point.added, point.low))
    # The band is one polygon: along the upper bound, and back along the lower one.
    band = [*upper, *reversed(lower)]
    return PlottedCurve(name, kind, " ".join(line), " ".join(band))


def _svg_point(added: int, share: float) -> str:
    return f"{x_of(added)},{y_of(share)}"
