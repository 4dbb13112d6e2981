"""Commands to begin with: a first recipe, a look at the machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    BaseLanguage,
    BaseText,
    Language,
    Model,
    StoreFolder,
    TextFiles,
    print_json,
    print_table,
)

RecipeToWrite = Annotated[Path, typer.Argument(metavar="[RECIPE]", help="The recipe to write.")]


def init(
    file: RecipeToWrite = Path("recipe.yaml"),
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    size: Annotated[
        str, typer.Option(help="How many tokens to add, or auto.", rich_help_panel="What")
    ] = "10000",
    budget: Annotated[
        str,
        typer.Option(
            help="How long to train: '100M tokens', '1 GB', '1 epoch'.", rich_help_panel="What"
        ),
    ] = "1 epoch",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there.")
    ] = False,
) -> None:
    """Write a commented recipe: asks for the model, the language and the text, as far as options do not say.

    Nothing is downloaded or read but the answers; `lingraft plan RECIPE` then says what a run would do.
    """
    from lingraft.errors import RecipeError
    from lingraft.recipe import Given
    from lingraft.recipe.load import commented_recipe
    from lingraft.store import write_files

    if file.exists() and not force:
        msg = f"{file}: is there already; name another file, or --force to write over it"
        raise RecipeError(msg)
    asks = not yes and sys.stdin.isatty()
    if asks:
        model = model or typer.prompt("Model to start from (a folder, or owner/name of a hub)")
        language = language or typer.prompt("Language to graft on (hi, ta, pt-BR, domain:law)")
        text = (
            text
            or typer.prompt(
                "Text in it (files, globs, owner/name of data sets; spaces between)"
            ).split()
        )
        base_text = (
            base_text
            or typer.prompt(
                "Text in the language that the model knows, so that it is not forgotten (empty: none)",
                default="",
                show_default=False,
            ).split()
        )
        if base_text and not base_language:
            base_language = typer.prompt("Which language is that", default="en")
    written = commented_recipe(
        Given(model, language, text or (), base_language, base_text or ()),
        file,
        size=size,
        budget=budget,
    )
    write_files({file: written})
    typer.echo(f"{file}\nnext: lingraft plan {file}")


def doctor(
    *,
    store: StoreFolder = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read every stored stage output instead, and compare its checksums."
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="RUN",
            help="Look at a run's model, or a model folder, instead: would vLLM load it as it is?",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: versions, device, memory, disk, hub. Works without a network.

    The exit code is 2 where a run would stop, or with --verify where a stored output is damaged, or with --model where
    vLLM would refuse the folder or compute otherwise; else 0.
    """
    from lingraft.cli import doctor
    from lingraft.export.hub_upload import model_folder
    from lingraft.recipe import Runtime

    if model is not None:
        findings = doctor.look_at(model_folder(model))
    else:
        folder = Runtime(store=store or Path()).store
        findings = doctor.verify(folder) if verify else doctor.examine(folder)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for heading in ("what", "found", "", "advice"):
            table.add_column(heading, overflow="fold")
        for finding in findings:
            verdict = "" if finding.verdict == "ok" else finding.verdict
            table.add_row(
                finding.what, Text(finding.found), verdict, Text(finding.advice)
            )  # [extra] is no markup
        print_table(table)
    if not doctor.is_well(findings):
        raise typer.Exit(2)
