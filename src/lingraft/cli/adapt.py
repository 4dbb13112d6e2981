"""Commands that run a recipe: the whole run, its plan, and the extension alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lingraft.cli.options import (
    AsJson,
    BaseLanguage,
    BaseText,
    BaseTextField,
    Device,
    Executor,
    Language,
    Model,
    Name,
    Override,
    Precision,
    RayAddress,
    RecipeFile,
    Runs,
    StoreFolder,
    TextField,
    TextFiles,
    log,
    overrides_with_name,
    print_json,
    print_table,
    read_recipe,
)
from lingraft.errors import Interrupted, TrainingError

if TYPE_CHECKING:
    from lingraft.pipeline import Run
    from lingraft.recipe import Recipe, Runtime

Processes = Annotated[
    int | None,
    typer.Option(
        "--nproc",
        min=1,
        metavar="N",
        help="Train in N processes on this machine; each holds a shard of the model. "
        "On several machines: torchrun ... -m lingraft adapt RECIPE.",
        rich_help_panel="How",
    ),
]
Trackers = Annotated[
    str,
    typer.Option(
        "--trackers",
        metavar="NAME,...",
        help="Also send the training metrics to these: tensorboard, wandb, trackio.",
        rich_help_panel="How",
    ),
]
Recompute = Annotated[
    bool,
    typer.Option(
        "--recompute",
        help="Recompute activations in the backward pass: less memory, slower, the same model.",
        rich_help_panel="How",
    ),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        help="Save a checkpoint every so many seconds of training.",
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
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show what would be done, as `lingraft plan` does."),
]
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


def adapt(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    text_field: TextField = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    base_text_field: BaseTextField = None,
    override: Override = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    nproc: Processes = None,
    trackers: Trackers = "",
    recompute: Recompute = False,
    checkpoint_seconds: CheckpointSeconds = 300.0,
    workers: WorkerCount = 1,
    executor: Executor = "local",
    ray_address: RayAddress = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a model to a language and report what improved and what got worse.

    Finished stages are taken from the store, and a stopped run continues from its last checkpoint.
    The result is runs/NAME: model/ (loads with plain from_pretrained), report.html,
    measurements.csv and the complete recipe.
    """
    from lingraft.recipe import Runtime
    from lingraft.training.launch import launched
    from lingraft.workers import Workers

    overrides = overrides_with_name(override, name)
    chosen = read_recipe(
        recipe,
        model,
        language,
        text,
        base_language,
        base_text,
        overrides,
        text_field=text_field,
        base_text_field=base_text_field,
    )
    launch = launched(nproc)
    sinks = tuple(tracker for tracker in trackers.split(",") if tracker)
    pool = Workers(workers, executor, ray_address)
    place = (runs, store or Path(), device, precision)
    runtime = Runtime(*place, launch, sinks, recompute, checkpoint_seconds, pool)
    if launch and launch.rank:
        _train_as_worker(chosen, runtime)
    elif dry_run:
        _print_plan(chosen, runtime, as_json=as_json)
    else:
        _run(chosen, runtime, nproc, as_json=as_json)


def _run(recipe: Recipe, runtime: Runtime, nproc: int | None, *, as_json: bool) -> None:
    """Run a recipe and print its outcome; with --nproc, start the processes of a sharded run."""
    from lingraft import pipeline
    from lingraft.report import write_report
    from lingraft.training.launch import start_processes

    if runtime.launch is None and nproc and nproc > 1:
        sys.exit(start_processes(nproc, sys.argv[1:]))
    run = pipeline.run(recipe, runtime, write_report=write_report, log=log)
    if as_json:
        print_json(pipeline.summary(run))
    else:
        _print_outcome(run)


def _train_as_worker(recipe: Recipe, runtime: Runtime) -> None:
    """Train with the first process, which alone reports why training stopped."""
    from lingraft import pipeline

    try:
        pipeline.run_as_worker(recipe, runtime)
    except (Interrupted, TrainingError) as stopped:
        sys.exit(stopped.exit_code)


def _print_outcome(run: Run) -> None:
    """Print the warnings, the table, what follows from it, and how to load the model."""
    from lingraft import pipeline
    from lingraft.model_card import loading_code

    _print_warnings(run.folder)
    print_table(pipeline.before_after(run))
    typer.echo(f"{pipeline.measured_on(run)}\n")
    for sentence in run.headline:
        typer.echo(sentence)
    _print_pretokenizer(run.folder, run.folder)
    typer.echo(f"\nmodel   {run.model_path}\nreport  {run.report}")
    typer.echo(f"\n{loading_code(run.record, str(run.model_path))}")


def _print_warnings(folder: Path) -> None:
    """Print the warnings of a finished run or extension, above its table."""
    from lingraft import pipeline

    for line in pipeline.warning_lines(folder):
        typer.echo(line)


def _print_pretokenizer(folder: Path, evidence: Path) -> None:
    """Print what became of the pre-tokenizer, unless a warning has said so."""
    from lingraft import pipeline

    line = pipeline.pretokenizer_line(evidence)
    if line and not any(line in warning for warning in pipeline.warning_lines(folder)):
        typer.echo(line)


def plan(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    text_field: TextField = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    base_text_field: BaseTextField = None,
    override: Override = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what a run would do: each stage, whether it is cached, its size, cost and time."""
    from lingraft.recipe import Runtime

    overrides = overrides_with_name(override, name)
    chosen = read_recipe(
        recipe,
        model,
        language,
        text,
        base_language,
        base_text,
        overrides,
        text_field=text_field,
        base_text_field=base_text_field,
    )
    _print_plan(chosen, Runtime(runs, store or Path(), device, precision), as_json=as_json)


def _print_plan(recipe: Recipe, runtime: Runtime, *, as_json: bool) -> None:
    from lingraft import pipeline

    stages = pipeline.plan(recipe, runtime)
    if as_json:
        print_json([stage.as_json() for stage in stages])
        return
    typer.echo(pipeline.describe_run(recipe))
    for stage in stages:
        for note in stage.notes:
            typer.echo(note)
    print_table(pipeline.plan_table(stages))
    typer.echo(pipeline.describe_pretokenizer_plan(recipe, runtime))
    for line in pipeline.describe_limits(recipe, runtime):
        typer.echo(line)


def extend(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    text_field: TextField = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    base_text_field: BaseTextField = None,
    override: Override = None,
    output: ExtendedFolder = Path("extended"),
    size: VocabularySize = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Add tokens to a tokenizer, and embedding rows if there are weights; nothing is trained.

    MODEL may be a model folder, a Hub id, or a folder with only a tokenizer (also tokenizer.model
    or a tiktoken file). The certificate of the splice is written to
    FOLDER/lingraft/certificate.json.
    """
    from lingraft import pipeline
    from lingraft.recipe import Runtime

    # An explicit -o vocabulary.size=... comes last, so that it takes precedence over --size.
    overrides = [f"vocabulary.size={size}"] if size else []
    overrides += override or []
    chosen = read_recipe(
        recipe,
        model,
        language,
        text,
        base_language,
        base_text,
        overrides,
        trains=False,
        text_field=text_field,
        base_text_field=base_text_field,
    )
    runtime = Runtime(Path("runs"), store or Path(), "auto", "auto")
    folder = pipeline.extend(chosen, runtime, output, log=log)
    if as_json:
        print_json(_extension_json(folder))
        return
    _print_warnings(folder)
    print_table(pipeline.claims_table(folder / "lingraft" / "certificate.json"))
    _print_pretokenizer(folder, folder / "lingraft")
    typer.echo(f"extended  {folder}")


def _extension_json(folder: Path) -> dict[str, Any]:
    """Return what `extend --json` prints: the warnings, the pre-tokenizer and the certificate."""
    files = {"record": "run.json", "pretokenizer": "lingraft/pretokenizer.json"}
    files["certificate"] = "lingraft/certificate.json"
    values = {}
    for key, file in files.items():
        values[key] = json.loads((folder / file).read_text(encoding="utf-8"))
    return {
        "extended": str(folder),
        "warnings": values["record"]["warnings"],
        "pretokenizer": values["pretokenizer"],
        **values["certificate"],
    }
