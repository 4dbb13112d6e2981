"""The command that serves a demo page of an adapted model and its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.named_models import ModelOrRun, run_of
from lingraft.cli.options import AsJson, Device, Precision, StoreFolder, log, print_json
from lingraft.errors import Interrupted, RecipeError

FinishedRun = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="A finished run with a model (runs/demo-hi).")
]
Port = Annotated[
    int,
    typer.Option(min=0, max=65535, help="The port on this machine; 0 chooses a free one."),
]
SourceFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="The source model of the run (default: its copy in the store).",
    ),
]


def serve(
    run: FinishedRun = None,
    *,
    model: ModelOrRun = None,
    port: Port = 8765,
    source: SourceFolder = None,
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Serve a page on this machine where the source and the adapted model answer side by side.

    Models with a chat template chat through it; others, and at a switch of the page, continue a
    text. The page shows the tokens of both models, marks added tokens, and shows the speed of both.
    The server listens on 127.0.0.1 only, and needs the token in the printed address. Ctrl + C stops
    it.
    """
    from lingraft.recipe import Runtime
    from lingraft.serving import ChatOffer, find_pair, open_generators, open_server

    if precision == "tf32":
        msg = "--precision tf32: is for training; to serve, give auto, float32 or bfloat16"
        raise RecipeError(msg)
    run = run_of(run, model)
    runtime = Runtime(run.parent, store or Path(), device, precision)
    computed_on = runtime.available_device()
    pair = find_pair(run, runtime.store, source)
    models = {"source": str(pair.source), "adapted": str(pair.adapted)}
    # The port is opened first: loading takes minutes, and a port in use fails before that.
    with open_server(port, pair, {}) as server:
        log(f"source   {pair.source}\nadapted  {pair.adapted}\nloading both ...")
        server.generators = open_generators(pair.folders, pair.added, computed_on, precision)
        chat = ChatOffer.of(server.generators)
        mode = "chat" if chat.offered else "text"
        if as_json:
            print_json({"address": server.address, "mode": mode, **models})
        else:
            log(f"mode     {chat.describe()}")
            typer.echo(f"open     {server.address}\nCtrl + C stops the server")
        try:
            server.serve_forever()
        except Interrupted:
            log("stopped")
