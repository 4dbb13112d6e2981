"""A diagnosis as one HTML page that needs nothing beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lingraft.diagnosis.diagnosis import Diagnosis, Finding
from lingraft.diagnosis.terminal import warnings_of
from lingraft.diagnosis.wording import comparison_grid, now_grid, prediction_grid, verdict
from lingraft.forecast.extrapolate import SIZES
from lingraft.forecast.predict_fertility import FertilityCurve

WIDTH, HEIGHT = 420, 200
MARGIN = 36


@dataclass(frozen=True)
class Line:
    """A curve in the coordinates of the drawing: `line` and `band` are SVG points."""

    name: str
    line: str
    band: str
    color: str


def as_page(diagnosis: Diagnosis) -> str:
    """Return the page; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    languages = list(diagnosis.samples)
    compared = languages if len(diagnosis.tokenizers) > 1 else []
    return environment.get_template("page.html.j2").render(
        diagnosis=diagnosis, languages=languages, now_grid=now_grid, prediction_grid=prediction_grid, lines=lines,
        warnings_of=warnings_of, sizes=SIZES, width=WIDTH, height=HEIGHT, margin=MARGIN, across=across, down=down,
        comparisons=[(comparison_grid(diagnosis, tag), verdict(diagnosis, tag)) for tag in compared])


def across(added: int) -> float:
    """Return where a size stands, left to right; few tokens matter most, so the scale is by the root."""
    return round(MARGIN + (WIDTH - 2 * MARGIN) * math.sqrt(added / SIZES[-1]), 1)


def down(share: float) -> float:
    """Return where a share of the tokens stands, 1 at the top."""
    return round(HEIGHT - MARGIN + (2 * MARGIN - HEIGHT) * share, 1)


def lines(finding: Finding) -> list[Line]:
    """Return the curves of a finding, ready to be drawn."""
    named = (("pre-tokenizer as it is", finding.keep, "#2458a6"), ("repaired", finding.repaired, "#b4502a"))
    return [_line(name, curve, color) for name, curve, color in named if curve]


def _line(name: str, curve: FertilityCurve, color: str) -> Line:
    def spelled(pairs: list[tuple[int, float]]) -> str:
        return " ".join(f"{across(added)},{down(value)}" for added, value in pairs)

    upper = [(0, 1.0), *((point.added, point.high) for point in curve.points)]
    lower = [(point.added, point.low) for point in reversed(curve.points)]
    middle = [(0, 1.0), *((point.added, point.share) for point in curve.points)]
    return Line(name, spelled(middle), spelled([*upper, *lower]), color)
