"""The command that measures models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.named_models import MoreModels, models_of
from lingraft.cli.options import (
    AsJson,
    Device,
    MeasuredText,
    Override,
    Parallel,
    StoreFolder,
    TextField,
    TextLanguage,
    log,
    print_json,
    print_table,
)
from lingraft.errors import RecipeError

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="Model folders, finished runs, or owner/name on the Hub. The others are compared "
        "with the first one.",
    ),
]
EvaluationRecipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        "-r",
        help="Evaluate on the held-out text of this recipe, with its settings.",
        rich_help_panel="What",
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        metavar="TASK,TASK,...",
        help="Tasks to run in addition: flores-hi, xcopa-ta, any task of lm-eval, or auto: the "
        "tasks that exist in the languages of the text.",
        rich_help_panel="What",
    ),
]
ReferenceTokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="TOKENIZER",
        help="A tokenizer to compare sequence lengths with.",
        rich_help_panel="What",
    ),
]
EvaluationFolder = Annotated[
    Path,
    typer.Option(
        "--output",
        "-O",
        metavar="FOLDER",
        help="Where the measurements are written.",
        rich_help_panel="Where",
    ),
]


def evaluate(
    models: Models = None,
    *,
    model: MoreModels = None,
    recipe: EvaluationRecipe = None,
    language: TextLanguage = None,
    text: MeasuredText = None,
    text_field: TextField = None,
    tasks: Tasks = None,
    parallel: Parallel = None,
    reference: ReferenceTokenizer = None,
    override: Override = None,
    output: EvaluationFolder = Path("evaluation"),
    store: StoreFolder = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure models on the same text: fertility, bits per byte, speed, tasks, and the changes.

    Every byte is scored, for every model. Scores are cached in the store for the same model and
    text. FOLDER gets measurements.parquet and .csv, the generated texts, and the results of the
    tasks.
    """
    from lingraft import pipeline
    from lingraft.corpus.text_arguments import texts_by_language
    from lingraft.measurement import Measurement
    from lingraft.measurement_table import comparison_table
    from lingraft.model_card.markdown import heldout_text
    from lingraft.recipe import Runtime

    texts = texts_by_language(text or (), text_field, language)
    names = _task_names(tasks)
    measured = models_of(models, model)
    request = pipeline.EvaluationRequest(
        measured, recipe, texts, names, parallel, reference, override or (), language
    )
    runtime = Runtime(Path("runs"), store or Path(), device)
    outcome = pipeline.evaluate_models(request, runtime, output, log=log)
    if as_json:
        print_json(outcome)
        return
    for warning in outcome["warnings"]:
        typer.echo(f"warning: {warning}")
    print_table(comparison_table([Measurement(**row) for row in outcome["measurements"]]))
    for tag, amount in heldout_text(outcome).items():
        typer.echo(f"measured in {tag} on {amount}")
    typer.echo(f"measurements  {output / 'measurements.csv'}")


def _task_names(tasks: str | None) -> tuple[str, ...]:
    """Return the names in the value of --tasks; raises `RecipeError` if it has none."""
    names = tuple(filter(None, map(str.strip, (tasks or "").split(","))))
    if tasks is not None and not names:
        msg = f"--tasks {tasks!r}: no task is named; write TASK,TASK or auto, or leave it out"
        raise RecipeError(msg)
    return names
