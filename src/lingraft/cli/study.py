"""Commands that compare choices: studies, probes, and advice before a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.named_models import MoreModels, models_of
from lingraft.cli.options import (
    AsJson,
    BaseLanguage,
    BaseText,
    BaseTextField,
    Device,
    Executor,
    Language,
    Precision,
    RayAddress,
    Runs,
    StoreFolder,
    TextField,
    TextFiles,
    log,
    print_json,
    print_table,
)
from lingraft.cli.recipe_options import RecipeOptions, given_texts, names_a_recipe

if TYPE_CHECKING:
    from lingraft.studies.study_planner import StudyPlan

StudyFile = Annotated[
    Path,
    typer.Argument(metavar="STUDY", help="A study, a YAML file like recipes/study-inits.yaml."),
]
StudyOverride = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "-o",
        metavar="PATH=VALUE",
        help="Change the study (scale=small, seeds=[0,1,2]), the values of an axis, or a setting "
        "of the recipe in every cell. Repeat for several.",
    ),
]
StudyDryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only show the cells and stages, which are cached, and what cannot run."
    ),
]
TaskCount = Annotated[
    int,
    typer.Option(
        "--workers",
        "-n",
        min=1,
        help="How many tasks run at a time, each in its own process.",
        rich_help_panel="How",
    ),
]
TaskCpus = Annotated[
    float, typer.Option(help="CPU cores of a task on a Ray cluster.", rich_help_panel="How")
]
TaskGpus = Annotated[
    float, typer.Option(help="GPUs of a task on a Ray cluster.", rich_help_panel="How")
]
Inits = Annotated[
    str,
    typer.Option(
        metavar="INIT,INIT,...",
        help="The initialisation methods to compare: mean,calibrated, with settings "
        "{focus: {vector_size: 100}}. `lingraft settings embeddings` lists them.",
    ),
]
ProbeSteps = Annotated[int, typer.Option(help="Training steps with each method.")]
ProbeSeeds = Annotated[
    int, typer.Option(help="Number of seeds per method; one seed gives no interval.")
]
Bases = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="The base models to choose from: model folders, tokenizer files, or owner/name on "
        "the Hub.",
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(metavar="KIND:COUNT", help="The GPUs for training, for example H100:8."),
]
TextBudget = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="How much text of the language to train on, like 200 MB (default: all text that is "
        "given).",
    ),
]
ProbeSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Adapt each base on this much text, like 1 MB, and predict the result from that.",
    ),
]


def study(
    file: StudyFile,
    *,
    override: StudyOverride = None,
    dry_run: StudyDryRun = False,
    workers: TaskCount = 1,
    executor: Executor = "local",
    ray_address: RayAddress = "",
    cpus: TaskCpus = 1.0,
    gpus: TaskGpus = 0.0,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a study: one run for every combination of its axes and seeds, and one table of all.

    Stages that several cells share are computed once. The result is runs/NAME: table.parquet and
    .csv with all measurements, differences.csv with paired intervals, study.json, and the run of
    each cell under cells/. A failed cell is reported and the others continue. The same command
    again runs only what is missing.
    """
    from lingraft import studies
    from lingraft.recipe import Runtime
    from lingraft.report import write_report, write_study_report
    from lingraft.studies.result_tables import result_tables, warning_lines
    from lingraft.studies.study_command import raise_for_failures, study_runtime

    chosen = studies.read_study(file, override or [])
    runtime = Runtime(runs, store or Path(), device, precision)
    how = study_runtime(runtime, workers, executor, ray_address, (cpus, gpus))
    if dry_run:
        plan = studies.study_plan(chosen, how, file.parent)
        _print_study_plan(plan, as_json=as_json)
        plan.raise_for_broken()
        return
    finished = studies.run_study(
        chosen, how, write_report=write_report, folder=file.parent, log=log
    )
    page = write_study_report(finished.folder)
    if as_json:
        print_json(finished.record)
    else:
        for line in warning_lines(finished.record):
            typer.echo(line)
        for table in result_tables(finished.record):
            print_table(table)
        typer.echo(f"study   {finished.folder}\nreport  {page}")
    raise_for_failures(finished)


def _print_study_plan(plan: StudyPlan, *, as_json: bool) -> None:
    from lingraft.studies import study_plan_tables

    if as_json:
        print_json(plan.as_json())
        return
    for table in study_plan_tables(plan):
        print_table(table)


@names_a_recipe
def probe(
    options: RecipeOptions,
    *,
    inits: Inits = "calibrated,mean,random",
    steps: ProbeSteps = 50,
    seeds: ProbeSeeds = 3,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Rank initialisation methods by a short training with each, on your own model and text.

    Bits per byte before training do not rank the methods; after about fifty steps they do. Two
    methods are ranked only where the intervals over seeds separate them. Text, vocabulary and
    packing are computed once, and a later run of the recipe uses them.
    """
    from lingraft import studies
    from lingraft.recipe import Runtime

    settings = studies.Probe(studies.inits_of(inits), steps, seeds)
    chosen = options.read()
    runtime = Runtime(runs, store or Path(), device, precision)
    outcome = studies.run_probe(chosen, settings, runtime, log=log)
    if as_json:
        print_json(outcome.as_json())
        return
    print_table(outcome.table())
    for sentence in outcome.sentences():
        typer.echo(sentence)


def advise(
    models: Bases = None,
    *,
    model: MoreModels = None,
    language: Language = None,
    text: TextFiles = None,
    text_field: TextField = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    base_text_field: BaseTextField = None,
    gpus: Gpus = None,
    budget: TextBudget = None,
    probe: ProbeSize = None,
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Recommend how many tokens to add and which base to use; predict the result and its cost.

    With --probe each base is first adapted on a little text; without it, nothing is trained. Every
    number has a 95% interval. That of a result predicted with --probe contained the measured one
    in 32 of 32 cases, from which one of its rules was derived. A
    base is called better only where the intervals, widened for the number of pairs, separate them;
    one whose tokenizer loses text is not compared.
    """
    from lingraft import advice
    from lingraft.recipe import Runtime

    given = given_texts(None, language, text, base_language, base_text)
    request = advice.parse_request(
        given.language,
        given.text,
        given.base_language,
        given.base_text,
        gpus=gpus,
        budget=budget,
        probe=probe,
        text_field=text_field,
        base_text_field=base_text_field,
    )
    runtime = Runtime(Path("runs"), store or Path(), device, precision)
    advised = advice.advise(models_of(models, model), request, runtime)
    if as_json:
        print_json(advice.advice_json(advised))
        return
    for warning in advised.warnings:
        log(f"warning: {warning}")
    for table in advice.advice_tables(advised):
        print_table(table)
