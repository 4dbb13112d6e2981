"""A diagnosis for people: tables on the terminal, and one HTML page that needs no other file.

Both show the same strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lingraft.advice.diagnosis import Diagnosis, LanguageFinding, Rank, TokenizerFindings
from lingraft.advice.recommend import UNREADABLE, reading
from lingraft.forecast.extrapolate import SIZES, TARGETS
from lingraft.forecast.predict_fertility import FertilityCurve
from lingraft.formatting import factor, number, percent, size

NOTHING = "–"
WIDTH, HEIGHT = 420, 200
MARGIN = 36


@dataclass(frozen=True)
class TextTable:
    """A table as strings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def share(value: float) -> str:
    """Write a share.

    >>> share(0.4237), share(0.0)
    ('42.4%', '–')
    """
    return percent(value) if value else NOTHING


def now_grid(of: TokenizerFindings) -> TextTable:
    """Return the measures of the tokenizer, a line for each language."""
    columns = (
        "language",
        "tokens/word",
        "bytes/token",
        "chars/token",
        "premium",
        "byte fallback",
        "one character",
        "partial character",
        "unknown",
        "lower bound",
        "mark-aware",
    )
    return TextTable(
        f"{of.name}: {of.family}, {of.size:,} tokens", columns, tuple(map(_now, of.findings))
    )


def _now(finding: LanguageFinding) -> tuple[str, ...]:
    measures = finding.measures
    words = NOTHING if measures.unspaced else number(measures.tokens_per_word)
    floor = NOTHING if measures.unspaced else number(measures.floor)
    repaired = (
        NOTHING
        if measures.unspaced or finding.repaired_floor is None
        else number(finding.repaired_floor)
    )
    over = NOTHING if finding.premium is None else factor(finding.premium)
    kinds = map(share, (measures.fallback, measures.single, measures.torn, measures.unknown))
    lengths = (number(measures.bytes_per_token), number(measures.characters_per_token))
    return (finding.language, words, *lengths, over, *kinds, floor, repaired)


def prediction_grid(of: TokenizerFindings) -> TextTable:
    """Return the predictions with added tokens, a line for each language and pre-tokenizer."""
    columns = ("language", "pre-tokenizer", *(f"+{added:,}" for added in TARGETS))
    rows = [
        _prediction(finding, name, curve)
        for finding in of.findings
        for name, curve in (("unchanged", finding.keep), ("mark-aware", finding.repaired))
        if curve
    ]
    units = ", ".join(
        f"{finding.language}: {reading(finding.measures)[0]}, learned from "
        f"{size(finding.keep.learned_from)}"
        for finding in of.findings
        if finding.keep
    )
    return TextTable(
        f"predicted with tokens added, reduction (95% interval); {units}", columns, tuple(rows)
    )


def _prediction(finding: LanguageFinding, name: str, curve: FertilityCurve) -> tuple[str, ...]:
    _, read = reading(finding.measures)
    return (
        finding.language,
        name,
        *(
            f"{number(read(point.share))}  {factor(point.reduction)} "
            f"({factor(1 / point.high)} to {factor(1 / point.low)})"
            for point in map(curve.at, TARGETS)
        ),
    )


def comparison_grid(diagnosis: Diagnosis, language: str) -> TextTable:
    """Return the tokenizers on one language, fewest tokens per byte first."""
    columns = (
        "tokenizer",
        "size",
        "tokens/word",
        "premium",
        "tokens/byte now",
        "tokens/byte +10,000",
        "95% interval",
        "pre-tokenizer",
        "",
    )
    ranks = diagnosis.ranking(language)
    return TextTable(
        f"which base suits {language}", columns, tuple(_rank(rank, ranks) for rank in ranks)
    )


def _rank(rank: Rank, ranks: Sequence[Rank]) -> tuple[str, ...]:
    measures, after = rank.finding.measures, rank.finding.after()
    now = measures.tokens_per_byte
    later: tuple[str, ...] = (NOTHING, NOTHING, NOTHING)
    if after:
        point, fixed = after
        interval = f"{number(now * point.low)} to {number(now * point.high)}"
        later = (number(now * point.share), interval, "mark-aware" if fixed else "unchanged")
    best = (
        ("best now", rank.best_now),
        ("best after", rank.best_after and not _rivals(rank, ranks)),
    )
    marks = " and ".join(name for name, holds in best if holds)
    marks = f"{percent(measures.unknown)} unknown" if measures.unknown > UNREADABLE else marks
    return (
        rank.name,
        f"{rank.size:,}",
        NOTHING if measures.unspaced else number(measures.tokens_per_word),
        NOTHING if rank.finding.premium is None else factor(rank.finding.premium),
        number(now),
        *later,
        marks,
    )


def verdict(diagnosis: Diagnosis, language: str) -> str:
    """Say which base suits a language, in a sentence."""
    ranks = diagnosis.ranking(language)
    now = next((rank for rank in ranks if rank.best_now), None)
    if now is None:
        return f"{language}: none of these tokenizers can represent the text"
    after = next((rank for rank in ranks if rank.best_after), None)
    text = f"{language}: {now.name} needs the fewest tokens now"
    if after is None:
        return text
    rivals = _rivals(after, ranks)
    if rivals:
        others = ", ".join(rivals)
        return (
            f"{text}; with 10,000 added tokens the intervals do not separate {after.name} from "
            f"{others}"
        )
    later = "it stays ahead" if after is now else f"{after.name} does"
    return f"{text}; {later} with 10,000 added tokens"


def _rivals(best: Rank, ranks: Sequence[Rank]) -> list[str]:
    """Return the tokenizers whose predicted value is within the interval of the best one."""
    point, _ = best.finding.after()  # type: ignore[misc]  # it is the best of those that have one
    low, high = (best.finding.measures.tokens_per_byte * bound for bound in (point.low, point.high))
    return [
        rank.name
        for rank in ranks
        if rank is not best
        and (near := rank.finding.after())
        and low <= rank.finding.measures.tokens_per_byte * near[0].share <= high
    ]


def diagnosis_tables(diagnosis: Diagnosis, *, compare: bool = False) -> RenderableType:
    """Return what `rich` prints: each tokenizer in full, or the comparison alone."""
    parts = _compared(diagnosis) if compare else _each(diagnosis)
    return Group(*parts, *(Text(f"note: {note}", style="yellow") for note in diagnosis.notes))


def _compared(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    for language in diagnosis.samples:
        yield _table(comparison_grid(diagnosis, language))
        yield Text(verdict(diagnosis, language) + "\n", style="bold")


def _each(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    for of in diagnosis.tokenizers:
        yield _table(now_grid(of))
        predicted = prediction_grid(of)
        if predicted.rows:
            yield _table(predicted)
        yield from _recommendations(of)


def _recommendations(of: TokenizerFindings) -> Iterator[RenderableType]:
    for finding in of.findings:
        yield Text.assemble(
            (f"{finding.language}: ", "bold cyan"), (finding.recommendation.headline, "bold")
        )
        yield from (Text(f"  · {reason}") for reason in finding.recommendation.reasons)
        yield from (Text(f"  ! {warning}", style="yellow") for warning in warnings_of(finding))
        yield Text("")


def warnings_of(finding: LanguageFinding) -> list[str]:
    """Return the warnings of a finding, with the reason where there is no prediction."""
    return [
        *finding.recommendation.warnings,
        *([finding.unpredicted] if finding.unpredicted else []),
    ]


def _table(grid: TextTable) -> Table:
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for i, name in enumerate(grid.columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


@dataclass(frozen=True)
class PlotLine:
    """A curve in the coordinates of the drawing: `line` and `band` are SVG points."""

    name: str
    line: str
    band: str
    color: str


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """Return the page; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    languages = list(diagnosis.samples)
    compared = languages if len(diagnosis.tokenizers) > 1 else []
    return environment.get_template("diagnosis.html.j2").render(
        diagnosis=diagnosis,
        languages=languages,
        now_grid=now_grid,
        prediction_grid=prediction_grid,
        lines=lines,
        warnings_of=warnings_of,
        sizes=SIZES,
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        across=across,
        down=down,
        number=number,
        percent=percent,
        comparisons=[
            (comparison_grid(diagnosis, tag), verdict(diagnosis, tag)) for tag in compared
        ],
    )


def across(added: int) -> float:
    """Return the x of a size; few tokens matter most, so the axis is a square root."""
    return round(MARGIN + (WIDTH - 2 * MARGIN) * math.sqrt(added / SIZES[-1]), 1)


def down(share: float) -> float:
    """Return the y of a share of the tokens, 1 at the top."""
    return round(HEIGHT - MARGIN + (2 * MARGIN - HEIGHT) * share, 1)


def lines(finding: LanguageFinding) -> list[PlotLine]:
    """Return the curves of a finding, ready to be drawn."""
    named = (
        ("pre-tokenizer as it is", finding.keep, "#2458a6"),
        ("repaired", finding.repaired, "#b4502a"),
    )
    return [_line(name, curve, color) for name, curve, color in named if curve]


def _line(name: str, curve: FertilityCurve, color: str) -> PlotLine:
    def spelled(pairs: list[tuple[int, float]]) -> str:
        return " ".join(f"{across(added)},{down(value)}" for added, value in pairs)

    upper = [(0, 1.0), *((point.added, point.high) for point in curve.points)]
    lower = [(point.added, point.low) for point in reversed(curve.points)]
    middle = [(0, 1.0), *((point.added, point.share) for point in curve.points)]
    return PlotLine(name, spelled(middle), spelled([*upper, *lower]), color)
