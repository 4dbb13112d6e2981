"""A diagnosis on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lingraft.diagnosis.diagnosis import Diagnosis, Finding, TokenizerFindings
from lingraft.diagnosis.wording import Grid, comparison_grid, now_grid, prediction_grid, verdict


def as_tables(diagnosis: Diagnosis, *, compare: bool = False) -> RenderableType:
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
        yield from _advice(of)


def _advice(of: TokenizerFindings) -> Iterator[RenderableType]:
    for finding in of.findings:
        yield Text.assemble((f"{finding.language}: ", "bold cyan"), (finding.advice.headline, "bold"))
        yield from (Text(f"  · {reason}") for reason in finding.advice.reasons)
        yield from (Text(f"  ! {warning}", style="yellow") for warning in warnings_of(finding))
        yield Text("")


def warnings_of(finding: Finding) -> list[str]:
    """Return the warnings of a finding, with the reason where there is no prediction."""
    return [*finding.advice.warnings, *([finding.unpredicted] if finding.unpredicted else [])]


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", title_style="bold")
    for i, name in enumerate(grid.columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
