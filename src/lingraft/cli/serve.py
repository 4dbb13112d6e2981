"""The command that lets people try an adapted model beside its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, Device, Precision, StoreFolder, log, print_json


def serve(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run with a model (runs/demo-hi).")
    ],
    *,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="The port on this machine; 0 takes any that is free."),
    ] = 8765,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The model that the run started from [default: what the store holds of it].",
        ),
    ] = None,
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Open a page on this machine: write a prompt, see the source and the adapted model go on from it side by side.

    With the tokens of both, added ones marked, and their speed. It answers on 127.0.0.1 only, to who has the address
    that is printed here. Ctrl + C ends it.
    """
    from lingraft.errors import Interrupted
    from lingraft.recipe import Runtime
    from lingraft.serving import find_pair, open_generators, open_server

    runtime = Runtime(run.parent, store or Path(), device, precision)
    pair = find_pair(run, runtime.store, source)
    with open_server(
        port, pair, {}
    ) as desk:  # a port that is taken is told before minutes of loading
        log(f"source   {pair.source}\nadapted  {pair.adapted}\nloading both ...")
        desk.writers = open_generators(
            pair.folders, pair.added, runtime.resolved_device(), precision
        )
        if as_json:
            print_json(
                {"address": desk.address, "source": str(pair.source), "adapted": str(pair.adapted)}
            )
        else:
            typer.echo(f"open     {desk.address}\nCtrl + C ends it")
        try:
            desk.serve_forever()
        except Interrupted:
            log("stopped")
