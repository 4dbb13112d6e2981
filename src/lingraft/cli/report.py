"""The command that writes the pages of finished runs and studies again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, print_json

RunFolders = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run or study folders, for example runs/demo-hi."),
]
ComparisonPage = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-O",
        metavar="FILE",
        help="Where the page that compares several runs is written (default: comparison.html in "
        "the folder of the first run).",
    ),
]


def report(runs: RunFolders, *, output: ComparisonPage = None, as_json: AsJson = False) -> None:
    """Write report.html of runs and studies again; of several runs, also a comparison page."""
    from lingraft.report import rebuild_pages

    written = rebuild_pages(runs, output)
    if as_json:
        content = []
        for paths in written:
            named = {name: str(path) for name, path in paths.items()}
            content.append(named)
        print_json(content)
        return
    for paths in written:
        typer.echo("  ".join(f"{name} {path}" for name, path in paths.items()))
