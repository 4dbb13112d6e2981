"""The command that receives a model that another engine trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.adapt import print_outcome
from lingraft.cli.options import (
    AsJson,
    Device,
    Name,
    Override,
    Runs,
    StoreFolder,
    log,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from lingraft.trainers.returned_model import ReturnedModel

TrainedFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", help="The Hugging Face checkpoint that the other engine wrote."
    ),
]
TrainedFrom = Annotated[
    Path,
    typer.Option(
        "--run",
        "-r",
        metavar="RUN",
        help="What it was trained from: the folder of a hand-over, a finished run, or a recipe.",
    ),
]
CheckOnly = Annotated[
    bool,
    typer.Option("--dry-run", help="Only check the checkpoint, and list its faults."),
]


def receive(
    folder: TrainedFolder,
    *,
    run: TrainedFrom,
    name: Name = None,
    override: Override = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    dry_run: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Check a model that another engine trained, measure it and report on it as a run.

    The checkpoint is compared with the model that was handed over: weights, rows, special ids,
    configuration and tokenizer. What the engine only saved otherwise is repaired in the result;
    what would make another model of it is refused. FOLDER itself is not changed. The result is
    runs/NAME (default: the name of the run, followed by -received), like that of `lingraft adapt`.
    """
    from lingraft import pipeline
    from lingraft.recipe import Runtime
    from lingraft.report import write_report
    from lingraft.trainers.origin import store_of
    from lingraft.trainers.receive_model import (
        Origin,
        check_folder,
        name_received,
        receive_model,
    )

    origin = Origin.find(run, override or [])
    runtime = Runtime(runs, store or store_of(run), device)
    if dry_run:
        name_received(origin, runtime, name)
        _print_findings(check_folder(folder, origin, runtime, log=log), as_json=as_json)
        return
    received = receive_model(folder, origin, runtime, write_report=write_report, name=name, log=log)
    if as_json:
        print_json(pipeline.summary(received))
    else:
        print_outcome(received)


def _print_findings(returned: ReturnedModel, *, as_json: bool) -> None:
    """Print what differs from the hand-over; raise `ModelError` if a fault is refused."""
    from lingraft.trainers.returned_faults import FAULTS, count_outcomes, findings_table

    if as_json:
        print_json([finding.as_json for finding in returned.findings])
    elif returned.findings:
        print_table(findings_table(returned.findings))
        for name in dict.fromkeys(finding.name for finding in returned.findings):
            typer.echo(f"{name}: {FAULTS[name].cause}; {FAULTS[name].cure}")
        typer.echo(f"\n{count_outcomes(returned.findings)}")
    else:
        typer.echo(f"{returned.folder}: no faults")
    returned.check()
