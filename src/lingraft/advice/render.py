"""Show a diagnosis: tables on the terminal, and one self-contained HTML page.

Both show the strings of `finding_tables`: printed with `rich`, or written as HTML. `curve_plot`
computes the coordinates of the charts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lingraft.advice import curve_plot
from lingraft.advice.diagnosis import Diagnosis, LanguageFinding, TokenizerFindings
from lingraft.advice.finding_tables import (
    TextTable,
    comparison_table,
    gini_sentence,
    measures_table,
    prediction_table,
    verdict,
    vocabulary_table,
)
from lingraft.advice.glossary import words_of
from lingraft.corpus.health_table import health_table
from lingraft.formatting import counted, number, percent, size
from lingraft.page_style import page_style


def diagnosis_tables(diagnosis: Diagnosis, *, compare: bool = False) -> RenderableType:
    """Return what `rich` prints: each tokenizer in full, or only the comparison."""
    notes = [Text(f"warning: {note}", style="yellow") for note in diagnosis.notes]
    notes += [Text(sentence) for sentence in health_sentences(diagnosis)]
    return Group(*notes, *(_comparisons(diagnosis) if compare else _tokenizers(diagnosis)))


def health_sentences(diagnosis: Diagnosis) -> list[str]:
    """Return a sentence for each sample in which nothing was found, and what is not checked."""
    sentences = []
    for report in diagnosis.health.values():
        if not report.warnings():
            checked = counted(report.documents, "document")
            sentences.append(f"text in {report.language}: no problem found in {checked}")
        if report.unchecked:
            sentences.append(f"text in {report.language}: {report.unchecked}")
    return sentences


def _comparisons(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    for language in diagnosis.samples:
        yield _rich_table(comparison_table(diagnosis, language))
        yield Text(verdict(diagnosis, language) + "\n", style="bold")


def _tokenizers(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    for tokenizer in diagnosis.tokenizers:
        yield _rich_table(measures_table(tokenizer))
        if sentence := gini_sentence(tokenizer):
            yield Text(sentence)
        predicted = prediction_table(tokenizer)
        if predicted.rows:
            yield _rich_table(predicted)
        yield from _recommendations(tokenizer)


def _recommendations(tokenizer: TokenizerFindings) -> Iterator[RenderableType]:
    for finding in tokenizer.findings:
        yield Text.assemble(
            (f"{finding.language}: ", "bold cyan"), (finding.recommendation.headline, "bold")
        )
        for reason in finding.recommendation.reasons:
            yield Text(f"  · {reason}")
        for warning in warnings_of(finding):
            yield Text(f"  ! {warning}", style="yellow")
        yield Text("")


def warnings_of(finding: LanguageFinding) -> list[str]:
    """Return the warnings of a finding, and the reason if there is no prediction."""
    warnings = list(finding.recommendation.warnings)
    if finding.unpredicted:
        warnings.append(finding.unpredicted)
    return warnings


def _rich_table(table: TextTable) -> Table:
    rich_table = Table(title=table.title, title_justify="left", title_style="bold")
    for position, name in enumerate(table.columns):
        rich_table.add_column(name, justify="left" if position == 0 else "right")
    for line in table.rows:
        # As `Text`, because `rich` would read brackets in a plain string as markup.
        rich_table.add_row(*map(Text, line))
    return rich_table


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """Return the HTML page; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparisons = []
    if len(diagnosis.tokenizers) > 1:
        for language in diagnosis.samples:
            table = comparison_table(diagnosis, language)
            comparisons.append((table, verdict(diagnosis, language)))
    return environment.get_template("diagnosis.html.j2").render(
        diagnosis=diagnosis,
        languages=list(diagnosis.samples),
        measures_table=measures_table,
        vocabulary_table=vocabulary_table,
        gini_sentence=gini_sentence,
        prediction_table=prediction_table,
        plot_curves=curve_plot.plot_curves,
        describe_curves=curve_plot.describe_curves,
        warnings_of=warnings_of,
        width=curve_plot.WIDTH,
        height=curve_plot.HEIGHT,
        left=curve_plot.LEFT,
        right=curve_plot.RIGHT,
        top=curve_plot.TOP,
        bottom=curve_plot.BOTTOM,
        x_of=curve_plot.x_of,
        y_of=curve_plot.y_of,
        number=number,
        percent=percent,
        size=size,
        style=page_style(),
        words=words_of(diagnosis),
        comparisons=comparisons,
        health=[health_table(report.as_json()) for report in diagnosis.health.values()],
        health_sentences=health_sentences(diagnosis),
    )
