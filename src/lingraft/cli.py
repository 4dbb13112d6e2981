"""The command line. Heavy modules are imported inside commands: `lingraft --help` answers in under 0.3 s.

A `LingraftError` becomes one line on standard error and its exit code; anything else is a bug and shows its traceback.
Standard output carries results (tables, or JSON with --json), standard error progress and messages.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lingraft.errors import Interrupted, LingraftError

app = typer.Typer(
    name="lingraft", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="Graft a language onto a pretrained language model.\n\n"
         "Tokens are learned from text in the language and spliced into the model's tokenizer, get embedding rows, the "
         "model is trained on, and what was won and lost is measured.\n\n"
         "Begin with [bold]lingraft adapt recipes/demo.yaml[/bold], or with a model and text of your own: "
         "[bold]lingraft adapt --model FOLDER --language hi --text FILE[/bold].")

RecipeFile = Annotated[Path | None, typer.Argument(
    metavar="[RECIPE]", help="A recipe, a YAML file. Without one, --model, --language and --text say what is needed "
    "and everything else is at its default.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="What to start from: a model folder, or "
                                           "owner/name@revision of a hub.", rich_help_panel="What")]
Language = Annotated[str | None, typer.Option("--language", "-l", help="The language to graft on, a BCP-47 tag (hi, "
                                              "pt-BR), or domain:NAME.", rich_help_panel="What")]
TextFiles = Annotated[list[str] | None, typer.Option(
    "--text", "-t", help="Text in that language: a file (.txt .jsonl .parquet, also .gz .zst), a glob, or a hub data "
    "set owner/name. Repeat for several.", rich_help_panel="What")]
BaseLanguage = Annotated[str | None, typer.Option("--base-language", help="The language that the model knows already, "
                                                  "with --base-text (default: en).", rich_help_panel="What")]
BaseText = Annotated[list[str] | None, typer.Option(
    "--base-text", help="Text in that language, mixed into training so that it is not forgotten, and measured before "
    "and after.", rich_help_panel="What")]
Override = Annotated[list[str] | None, typer.Option(
    "--override", "-o", metavar="PATH=VALUE", help="Change one setting: -o vocabulary.size=10000. Repeat for several. "
    "`lingraft settings` lists them all.", rich_help_panel="What")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run folder.", rich_help_panel="Where")]
Runs = Annotated[Path, typer.Option("--runs", help="Where run folders are put.", rich_help_panel="Where")]
StoreFolder = Annotated[Path | None, typer.Option(
    "--store", help="Where finished stages are kept, for any later run to use (default: what LINGRAFT_STORE names, or "
    "runs/.store).", rich_help_panel="Where")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel="Where")]
Precision = Annotated[str, typer.Option("--precision", help="auto, float32 or bfloat16; auto takes bfloat16 where the "
                                        "device computes in it.", rich_help_panel="Where")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


@app.command()
def adapt(recipe: RecipeFile = None, *, model: Model = None, language: Language = None, text: TextFiles = None,
          base_language: BaseLanguage = None, base_text: BaseText = None, override: Override = None,
          name: Name = None, runs: Runs = Path("runs"), store: StoreFolder = None, device: Device = "auto",
          precision: Precision = "auto", as_json: AsJson = False) -> None:
    """Adapt a model to a language and report what was won and lost.

    Stages that were done before are taken from the store; a run that was stopped goes on where it was. The result is
    runs/NAME: model/ (loads with plain from_pretrained), report.html, measurements.csv, and the recipe that was used.
    """
    from lingraft import pipeline
    from lingraft.recipe import Given, Runtime, chosen_recipe
    from lingraft.report import write_report

    given = Given(model, language, text or (), base_language, base_text or ())
    chosen = chosen_recipe(recipe, given, _overrides(override, name))
    run = pipeline.run(chosen, Runtime(runs, store or Path(), device, precision), write_report=write_report, tell=_tell)
    if as_json:
        _print_json(pipeline.summary(run))
        return
    _print_table(pipeline.before_after(run))
    typer.echo(f"model   {run.model}\nreport  {run.report}")


@app.command()
def plan(recipe: RecipeFile = None, *, model: Model = None, language: Language = None, text: TextFiles = None,
         base_language: BaseLanguage = None, base_text: BaseText = None, override: Override = None,
         name: Name = None, runs: Runs = Path("runs"), store: StoreFolder = None, device: Device = "auto",
         precision: Precision = "auto", as_json: AsJson = False) -> None:
    """Show what a run would do: each stage, whether it is done already, its size, its cost and an estimated time."""
    from lingraft import pipeline
    from lingraft.recipe import Given, Runtime, chosen_recipe

    given = Given(model, language, text or (), base_language, base_text or ())
    chosen = chosen_recipe(recipe, given, _overrides(override, name))
    rows = pipeline.plan(chosen, Runtime(runs, store or Path(), device, precision))
    if as_json:
        _print_json([row.as_json() for row in rows])
    else:
        _print_table(pipeline.plan_table(rows))


@app.command()
def extend(recipe: RecipeFile = None, *, model: Model = None, language: Language = None, text: TextFiles = None,
           base_language: BaseLanguage = None, base_text: BaseText = None, override: Override = None,
           output: Annotated[Path, typer.Option("--output", "-O", metavar="FOLDER", help="Where the extended model is "
                                                "written.", rich_help_panel="Where")] = Path("extended"),
           size: Annotated[str | None, typer.Option("--size", help="How many tokens to add, or auto.",
                                                    rich_help_panel="What")] = None,
           store: StoreFolder = None) -> None:
    """Add tokens to a tokenizer, and rows for them where there are weights; nothing is trained.

    MODEL may be a model folder, a hub id, or a folder with only a tokenizer (also tokenizer.model or a tiktoken file).
    The certificate of what was kept lies in FOLDER/lingraft/certificate.json.
    """
    from lingraft import pipeline
    from lingraft.recipe import Given, Runtime, chosen_recipe

    given = Given(model, language, text or (), base_language, base_text or ())
    sized = [f"vocabulary.size={size}"] if size else []
    chosen = chosen_recipe(recipe, given, [*sized, *_overrides(override, None)])
    folder = pipeline.extend(chosen, Runtime(Path("runs"), store or Path(), "auto", "auto"), output, tell=_tell)
    _print_table(pipeline.claims_table(folder / "lingraft" / "certificate.json"))
    typer.echo(f"extended  {folder}")


@app.command()
def report(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, for example "
                                                      "runs/demo-hi.")]) -> None:
    """Write report.html of finished runs again, from their measurements."""
    from lingraft.pipeline.run_folder import read_record
    from lingraft.report import write_report

    for folder in runs:
        read_record(folder)
        write_report(folder)
        typer.echo(folder / "report.html")


@app.command()
def diagnose(
    models: Annotated[list[str], typer.Argument(metavar="MODEL_OR_TOKENIZER...", help="Model folders, tokenizer "
                                                "files, or owner/name on a hub.")], *,
    text: Annotated[list[str] | None, typer.Option(
        "--text", "-t", metavar="[LANG=]FILE", help="Text to diagnose on: hi=news.jsonl, or a file whose name begins "
        "with the language (hi.train.jsonl.gz). Repeat for several.")] = None,
    parallel: Annotated[str | None, typer.Option(metavar="FILE", help="The same sentences in several languages, "
                                                 "a column each (.jsonl .parquet): the premium over English.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Which of these tokenizers suits each language, now and "
                                          "with 10,000 tokens added.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page for people, too.")] = None,
    sample_bytes: Annotated[int, typer.Option(help="How much of the text of each language is looked at.")] = 2_000_000,
    learned_from: Annotated[int | None, typer.Option(
        metavar="BYTES", help="How much text the tokens would be learned from [default: all that is given].")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how a tokenizer treats a language, what added tokens would give, and whether to add them. Takes seconds.

    Nothing is trained or changed, and no model weights are needed. Predictions are made on held-out text and carry
    their 95% interval.
    """
    from lingraft import diagnosis

    found = diagnosis.diagnose_command(models, text=text or [], parallel=parallel, compare=compare, html=html,
                                       sample_bytes=sample_bytes, learned_from=learned_from)
    if as_json:
        _print_json(diagnosis.as_json(found))
        return
    _print_table(diagnosis.as_tables(found, compare=compare))
    if html:
        typer.echo(f"page  {html}")


@app.command()
def settings(path: Annotated[str, typer.Argument(help="Only settings under this path, for example vocabulary.")] = "",
             ) -> None:
    """List every setting of a recipe: its path, type, default and meaning."""
    from lingraft.recipe.catalogue import settings_table

    _print_table(settings_table(path))


@app.command()
def version() -> None:
    """Print the versions of lingraft and of what it stands on."""
    from lingraft.pipeline.versions import versions

    for package, number in versions().items():
        typer.echo(f"{package} {number}")


def _overrides(override: list[str] | None, name: str | None) -> list[str]:
    return [*(override or []), *([f"name={json.dumps(name)}"] if name else [])]


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _print_table(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _stop(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    msg = "stopped; finished stages are kept, and the same command goes on from there"
    raise Interrupted(msg)


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except LingraftError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
