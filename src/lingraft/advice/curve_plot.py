"""Coordinates of the fertility curves in the chart of the HTML page, in SVG user units.

The horizontal axis is the number of added tokens, the vertical axis the share of tokens left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lingraft.advice.diagnosis import LanguageFinding
from lingraft.forecast.extrapolate import SIZES
from lingraft.forecast.predict_fertility import FertilityCurve

WIDTH, HEIGHT = 420, 200
MARGIN = 36


@dataclass(frozen=True)
class PlottedCurve:
    """A curve and the band of its interval; `line` and `band` are SVG points."""

    name: str
    line: str
    band: str
    color: str


def x_of(added: int) -> float:
    """Return the horizontal position of a number of added tokens."""
    # The curve is steepest at few tokens, so the axis is a square root, which gives them more room.
    return round(MARGIN + (WIDTH - 2 * MARGIN) * math.sqrt(added / SIZES[-1]), 1)


def y_of(share: float) -> float:
    """Return the vertical position of a share of the tokens, with 1 at the top."""
    return round(HEIGHT - MARGIN + (2 * MARGIN - HEIGHT) * share, 1)


def plot_curves(finding: LanguageFinding) -> list[PlottedCurve]:
    """Return the curves of a finding: with the base's pre-tokenizer and with a mark-aware one."""
    curves = []
    if finding.keep:
        curves.append(_plot("pre-tokenizer as it is", finding.keep, "#2458a6"))
    if finding.repaired:
        curves.append(_plot("repaired", finding.repaired, "#b4502a"))
    return curves


def _plot(name: str, curve: FertilityCurve, color: str) -> PlottedCurve:
    line = [_svg_point(0, 1.0)]
    upper = [_svg_point(0, 1.0)]
    lower = []
    for point in curve.points:
        line.append(_svg_point(point.added, point.share))
        upper.append(_svg_point(point.added, point.high))
        lower.append(_svg_point(point.added, point.low))
    # The band is one polygon: along the upper bound, and back along the lower one.
    band = [*upper, *reversed(lower)]
    return PlottedCurve(name, " ".join(line), " ".join(band), color)


def _svg_point(added: int, share: float) -> str:
    return f"{x_of(added)},{y_of(share)}"
