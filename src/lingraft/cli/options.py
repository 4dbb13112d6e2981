"""Options that several commands share, each with its help text, and how commands read and print.

Results go to standard output, as tables or JSON. Progress and messages go to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lingraft.file_kinds import TEXT_KINDS

RecipeFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE_OR_MODEL]",
        help="A recipe, if it ends in .yaml or .yml; otherwise a source model, as with --model. "
        "Without a recipe, give a model and --language, and --text for text of your own; all other "
        "settings have their defaults.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The source model: a model folder, or owner/name@revision on the Hub.",
        rich_help_panel="What",
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        help="The target language: a BCP-47 tag (hi, pt-BR), or domain:NAME.",
        rich_help_panel="What",
    ),
]
TextFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        "-t",
        metavar="[LANG=]FILE",
        help=f"Text in the target language: a file ({TEXT_KINDS}), a folder, a glob, a URL of "
        "one (s3:// gs:// az:// hf:// https://), a Hub dataset owner/name, or a preset "
        "(fineweb-2, wikipedia, c4, hplt). Repeat for several "
        "(default: fineweb-2, as much as is needed).",
        rich_help_panel="What",
    ),
]
MeasuredText = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        "-t",
        metavar="[LANG=]FILE",
        help="Text to measure on, used as it is: hi=heldout.jsonl, or FILE with --language. Repeat "
        "for several files and languages.",
        rich_help_panel="What",
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        "--text-field",
        metavar="FIELD",
        help="The field that holds the text, in files and Hub datasets of --text (default: text).",
        rich_help_panel="What",
    ),
]
TextLanguage = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        help="The language of text that is given without LANG=: a BCP-47 tag (hi, pt-BR), or "
        "domain:NAME.",
        rich_help_panel="What",
    ),
]
BaseLanguage = Annotated[
    str | None,
    typer.Option(
        "--base-language",
        help="A language that the model knows already, the language of --base-text (default: en).",
        rich_help_panel="What",
    ),
]
BaseText = Annotated[
    list[str] | None,
    typer.Option(
        "--base-text",
        metavar="[LANG=]FILE",
        help="Text in the base language. It is mixed into training (replay), so that the model "
        "does not forget the language, and is measured before and after (default without --text: "
        "fineweb-edu or fineweb-2).",
        rich_help_panel="What",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Read the documents whose columns meet a condition, such as language_score >= 0.9.",
        rich_help_panel="What",
    ),
]
BaseTextField = Annotated[
    str | None,
    typer.Option(
        "--base-text-field",
        metavar="FIELD",
        help="The field that holds the text, in files and Hub datasets of --base-text (default: "
        "text).",
        rich_help_panel="What",
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "-o",
        metavar="PATH=VALUE",
        help="Change one setting: -o vocabulary.size=10000. Repeat for several. "
        "`lingraft settings` lists all of them.",
        rich_help_panel="What",
    ),
]
Parallel = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The same sentences in several languages, one column per language (.jsonl .csv "
        ".parquet), to measure the premium: tokens compared with English.",
        rich_help_panel="What",
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="The name of the run folder.", rich_help_panel="Where")
]
Runs = Annotated[
    Path, typer.Option("--runs", help="The folder of all run folders.", rich_help_panel="Where")
]


def _named_folder(given: Path | None) -> Path | None:
    """Return the current folder by its whole name: `Path(".")` stands for no folder at all."""
    return given.absolute() if given == Path() else given


StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store",
        callback=_named_folder,
        help="Where finished stages are cached for later runs (default: LINGRAFT_STORE, or "
        "runs/.store).",
        rich_help_panel="Where",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel="Where")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="auto, float32, bfloat16, or tf32 (float32 with faster, less exact products on NVIDIA "
        "GPUs); auto uses bfloat16 where the device supports it.",
        rich_help_panel="Where",
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        help="Where workers run: local, or ray (tasks on a Ray cluster).",
        rich_help_panel="How",
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        help="The address of the Ray cluster (default: start one on this machine, with --workers "
        "slots).",
        rich_help_panel="How",
    ),
]
WorkerCount = Annotated[
    int,
    typer.Option(
        "--workers",
        "-n",
        min=1,
        metavar="N",
        help="Count words and tokenise text in N processes.",
        rich_help_panel="How",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


def overrides_with_name(override: list[str] | None, name: str | None) -> list[str]:
    """Return the overrides of the command line, including the name of the run."""
    from lingraft.recipe import assignment

    overrides = list(override or [])
    if name is not None:
        overrides.append(assignment("name", name))
    return overrides


def log(line: str) -> None:
    """Print a message to standard error."""
    typer.echo(line, err=True)


def print_table(table: Any) -> None:
    """Print a table in the width of the terminal, or in `WIDTH` columns without one."""
    from lingraft.table_display import WIDTH, plain_console

    # A process may be started without standard output.
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    plain_console(width=None if is_terminal else WIDTH).print(table)


def print_json(value: Any) -> None:
    """Print plain JSON, with letters that standard output lacks as escapes of JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1)
    typer.echo(text)


def print_warnings(folder: Path) -> None:
    """Print the warnings of a finished run or extension, above its table."""
    from lingraft import pipeline

    for line in pipeline.warning_lines(folder):
        typer.echo(line)


def print_vocabulary(folder: Path, evidence: Path) -> None:
    """Print what became of the pre-tokenizer, unless a warning has said so, and of premiums."""
    from lingraft import pipeline

    line = pipeline.pretokenizer_line(evidence)
    if line and not any(line in warning for warning in pipeline.warning_lines(folder)):
        typer.echo(line)
    if premiums := pipeline.premiums_line(evidence):
        typer.echo(premiums)
