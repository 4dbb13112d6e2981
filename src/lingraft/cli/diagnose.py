"""The command that measures tokenizers and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.named_models import MoreModels, models_of
from lingraft.cli.options import (
    AsJson,
    MeasuredText,
    Parallel,
    TextField,
    Where,
    log,
    print_json,
    print_table,
)

Tokenizers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL_OR_TOKENIZER...",
        help="Model folders, tokenizer files, or owner/name on the Hub.",
    ),
]
DiagnosisLanguage = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        help="The language of text without LANG=. Without --text, a sample of fineweb-2 "
        "(fineweb-edu for English) is read from the Hub.",
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Compare these tokenizers in each language, now and with 10,000 tokens added.",
    ),
]
HtmlPage = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write the result as an HTML page.")
]
SampleBytes = Annotated[int, typer.Option(help="How many bytes of text per language are measured.")]
LearnedFrom = Annotated[
    int | None,
    typer.Option(
        metavar="BYTES",
        help="How much text the tokens would be learned from (default: all text that is given).",
    ),
]


def diagnose(
    models: Tokenizers = None,
    *,
    model: MoreModels = None,
    language: DiagnosisLanguage = None,
    text: MeasuredText = None,
    text_field: TextField = None,
    where: Where = None,
    parallel: Parallel = None,
    compare: Compare = False,
    html: HtmlPage = None,
    sample_bytes: SampleBytes = 2_000_000,
    learned_from: LearnedFrom = None,
    as_json: AsJson = False,
) -> None:
    """Measure a tokenizer on a language, and predict how much added tokens would save.

    It takes seconds, needs no model weights, and trains or changes nothing. Predictions are made on
    held-out text and have 95% intervals. They include a recommendation whether to add tokens.
    """
    from lingraft import advice

    diagnosis = advice.diagnose_command(
        models_of(models, model),
        text=text or [],
        language=language,
        text_field=text_field,
        where=where,
        parallel=parallel,
        compare=compare,
        html=html,
        sample_bytes=sample_bytes,
        learned_from=learned_from,
    )
    if as_json:
        for note in diagnosis.notes:
            log(f"warning: {note}")
        print_json(advice.diagnosis_json(diagnosis))
        return
    print_table(advice.diagnosis_tables(diagnosis, compare=compare))
    if html:
        typer.echo(f"page  {html}")
