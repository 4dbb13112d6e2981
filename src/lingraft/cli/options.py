"""Options that several commands share, each with its help text.

What commands print: results on standard output, as tables or JSON; progress and messages on standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

RecipeFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A recipe, a YAML file. Without one, --model, --language and --text say what is needed "
        "and everything else is at its default.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="What to start from: a model folder, or owner/name@revision of a hub.",
        rich_help_panel="What",
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        "-l",
        help="The language to graft on, a BCP-47 tag (hi, pt-BR), or domain:NAME.",
        rich_help_panel="What",
    ),
]
TextFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        "-t",
        help="Text in that language: a file (.txt .jsonl .csv .parquet, also .gz .zst), a glob, or a hub "
        "data set owner/name. Repeat for several.",
        rich_help_panel="What",
    ),
]
BaseLanguage = Annotated[
    str | None,
    typer.Option(
        "--base-language",
        help="The language that the model knows already, with --base-text (default: en).",
        rich_help_panel="What",
    ),
]
BaseText = Annotated[
    list[str] | None,
    typer.Option(
        "--base-text",
        help="Text in that language, mixed into training so that it is not forgotten, and measured before "
        "and after.",
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
        "`lingraft settings` lists them all.",
        rich_help_panel="What",
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of the run folder.", rich_help_panel="Where")
]
Runs = Annotated[
    Path, typer.Option("--runs", help="Where run folders are put.", rich_help_panel="Where")
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Where finished stages are kept, for any later run to use (default: what LINGRAFT_STORE names, or "
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
        help="auto, float32 or bfloat16; auto takes bfloat16 where the device computes in it.",
        rich_help_panel="Where",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--nproc",
        min=1,
        metavar="N",
        help="Train in N processes of this machine, which hold a shard of the model each. "
        "On several machines: torchrun ... -m lingraft adapt RECIPE.",
        rich_help_panel="How",
    ),
]
Trackers = Annotated[
    str,
    typer.Option(
        "--trackers",
        metavar="NAME,...",
        help="Where else to send the numbers of training: tensorboard, wandb, trackio.",
        rich_help_panel="How",
    ),
]
Recompute = Annotated[
    bool,
    typer.Option(
        "--recompute",
        help="Keep no activations inside of layers: less memory, slower, the same model.",
        rich_help_panel="How",
    ),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        help="Save progress after so much time of training.",
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
        help="Count words and tokenise in N processes.",
        rich_help_panel="How",
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        help="Where they are: local, or ray (tasks of a Ray cluster).",
        rich_help_panel="How",
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        help="Where the cluster is; left out: one on this machine, with --workers slots.",
        rich_help_panel="How",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be done, as `lingraft plan` does.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


def overrides(override: list[str] | None, name: str | None) -> list[str]:
    """Return the settings that are changed on the command line, the run's name among them."""
    return [*(override or []), *([f"name={json.dumps(name)}"] if name else [])]


def log(line: str) -> None:
    """Print a message to standard error."""
    typer.echo(line, err=True)


def print_table(table: Any) -> None:
    """Print a table: as wide as the terminal, or 160 columns where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_json(value: Any) -> None:
    """Print plain JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
