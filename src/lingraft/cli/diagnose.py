"""Commands that look at a model or tokenizer and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, print_json, print_table


def diagnose(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_TOKENIZER...",
            help="Model folders, tokenizer files, or owner/name on a hub.",
        ),
    ],
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            "-t",
            metavar="[LANG=]FILE",
            help="Text to diagnose on: hi=news.jsonl, or a file whose name begins "
            "with the language (hi.train.jsonl.gz). Repeat for several.",
        ),
    ] = None,
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The same sentences in several languages, "
            "a column each (.jsonl .csv .parquet): the premium over "
            "English.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Which of these tokenizers suits each language, now and with 10,000 tokens added.",
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page for people, too.")
    ] = None,
    sample_bytes: Annotated[
        int, typer.Option(help="How much of the text of each language is looked at.")
    ] = 2_000_000,
    learned_from: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            help="How much text the tokens would be learned from [default: all that is given].",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how a tokenizer treats a language, what added tokens would give, and whether to add them. Takes seconds.

    Nothing is trained or changed, and no model weights are needed. Predictions are made on held-out text and carry
    their 95% interval.
    """
    from lingraft import advice

    found = advice.diagnose_command(
        models,
        text=text or [],
        parallel=parallel,
        compare=compare,
        html=html,
        sample_bytes=sample_bytes,
        learned_from=learned_from,
    )
    if as_json:
        print_json(advice.diagnosis_json(found))
        return
    print_table(advice.diagnosis_tables(found, compare=compare))
    if html:
        typer.echo(f"page  {html}")
