"""The command that measures models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    Device,
    Override,
    Precision,
    StoreFolder,
    log,
    print_json,
    print_table,
)


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, finished runs, or owner/name "
            "on a hub; the first one is what the others are compared with.",
        ),
    ],
    *,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Evaluate on the held-out text of this recipe, by its settings.",
            rich_help_panel="What",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            "-t",
            metavar="[LANG=]FILE",
            help="Text to evaluate on, taken as it is: hi=heldout.jsonl, or a file "
            "whose name begins with the language. Repeat for several.",
            rich_help_panel="What",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,TASK,...",
            help="Tasks to run, too: flores-hi, xcopa-ta, or any name of lm-eval.",
            rich_help_panel="What",
        ),
    ] = None,
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The same sentences in several languages, a column each (.jsonl .csv .parquet): the "
            "premium over English.",
            rich_help_panel="What",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENIZER",
            help="A tokenizer to compare sequence lengths with.",
            rich_help_panel="What",
        ),
    ] = None,
    override: Override = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-O",
            metavar="FOLDER",
            help="Where the measurements are written.",
            rich_help_panel="Where",
        ),
    ] = Path("evaluation"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure models on the same text: fertility, bits per byte, speed, tasks; what changed from the first one.

    Every byte is scored, for every model. Scores are kept in the store and not made again for the same model and text.
    FOLDER gets measurements.parquet and .csv, what the models wrote, and the results of tasks.
    """
    from lingraft import pipeline
    from lingraft.advice import language_and_place
    from lingraft.recipe import Runtime

    places: dict[str, list[str]] = {}
    for language, place in map(language_and_place, text or ()):
        places.setdefault(language, []).append(place)
    asked = pipeline.EvaluationRequest(
        models,
        recipe,
        places,
        tuple(filter(None, (tasks or "").split(","))),
        parallel,
        reference,
        override or (),
    )
    runtime = Runtime(Path("runs"), store or Path(), device, precision)
    found = pipeline.evaluate_models(asked, runtime, output, log=log)
    if as_json:
        print_json(found)
        return
    print_table(pipeline.comparison_table(found))
    typer.echo(f"measurements  {output / 'measurements.csv'}")
