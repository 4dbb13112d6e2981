"""The command that extends a tokenizer and a model without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lingraft.cli.options import (
    AsJson,
    StoreFolder,
    log,
    print_json,
    print_table,
    print_vocabulary,
    print_warnings,
)
from lingraft.cli.recipe_options import RecipeOptions, names_a_recipe

ExtendedFolder = Annotated[
    Path,
    typer.Option(
        "--output",
        "-O",
        metavar="FOLDER",
        help="Where the extended model is written.",
        rich_help_panel="Where",
    ),
]
VocabularySize = Annotated[
    str | None,
    typer.Option("--size", help="How many tokens to add, or auto.", rich_help_panel="What"),
]
Balance = Annotated[
    str | None,
    typer.Option(
        "--balance",
        metavar="size|premium",
        help="With several target languages: tokens by the amounts of text, or until all languages "
        "need equally many for the same content.",
        rich_help_panel="What",
    ),
]
ParallelSentences = Annotated[
    str | None,
    typer.Option(
        "--parallel",
        metavar="FILE",
        help="The same sentences in several languages, one column per language, en among them: "
        "--balance premium counts tokens on them.",
        rich_help_panel="What",
    ),
]


@names_a_recipe
def extend(
    options: RecipeOptions,
    *,
    output: ExtendedFolder = Path("extended"),
    size: VocabularySize = None,
    balance: Balance = None,
    parallel: ParallelSentences = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Add tokens to a tokenizer, and embedding rows if there are weights; nothing is trained.

    MODEL may be a model folder, a Hub id, or a folder with only a tokenizer (also tokenizer.model
    or a tiktoken file). The certificate of the splice is written to
    FOLDER/lingraft/certificate.json.
    """
    from lingraft import pipeline
    from lingraft.errors import RecipeError
    from lingraft.recipe import Runtime
    from lingraft.recipe.overrides import Assignment
    from lingraft.recipe.yaml import read_value

    overrides: list[str | Assignment] = []
    for option, given in (("--size", size), ("--balance", balance), ("--parallel", parallel)):
        if given == "":
            msg = f"{option}: is empty; give a value, or leave the option out"
            raise RecipeError(msg)
    # These two are text, and may hold any character.
    for setting, option, value in (
        ("parallel_file", "--parallel", parallel),
        ("balance", "--balance", balance),
    ):
        if value is not None:
            overrides.append(Assignment(f"vocabulary.{setting}", value, f"{option} {value}"))
    if size is not None:  # a number or a word, read as -o reads it
        where = f"--size {size}"
        overrides.append(Assignment("vocabulary.size", read_value(size, where), where))
    # An explicit -o vocabulary.size=... comes last, so that it takes precedence over --size.
    overrides += options.override or []
    chosen = options.read(overrides, trains=False)
    runtime = Runtime(Path("runs"), store or Path(), "auto", "auto")
    folder = pipeline.extend(chosen, runtime, output, log=log)
    if as_json:
        print_json(_extension_json(folder))
        return
    print_warnings(folder)
    print_table(pipeline.claims_table(folder / "lingraft" / "certificate.json"))
    print_vocabulary(folder, folder / "lingraft")
    typer.echo(f"extended  {folder}")


def _extension_json(folder: Path) -> dict[str, Any]:
    """Return what `extend --json` prints: warnings, certificate, pre-tokenizer and premiums."""
    files = {"record": "run.json", "pretokenizer": "lingraft/pretokenizer.json"}
    files["certificate"] = "lingraft/certificate.json"
    if (folder / "lingraft" / "premiums.json").is_file():
        files["premiums"] = "lingraft/premiums.json"
    values = {}
    for key, file in files.items():
        values[key] = json.loads((folder / file).read_text(encoding="utf-8"))
    warnings = values.pop("record")["warnings"]
    return {"extended": str(folder), "warnings": warnings, **values.pop("certificate"), **values}
