"""The command line.

Each command is a function in one of these modules. `COMMANDS` lists them in the order of
`lingraft --help`. A `LingraftError` is printed as one line on standard error and sets the exit
code; any other exception is a bug and shows its traceback. Results go to standard output (tables,
or JSON with --json), progress and messages to standard error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lingraft.cli import (
    adapt,
    diagnose,
    doctor,
    evaluate,
    export,
    extend,
    handover,
    init,
    plan,
    receive,
    report,
    serve,
    settings,
    study,
)
from lingraft.cli.app import app, main

COMMANDS = {
    "Adapt a model": (adapt.adapt, plan.plan, extend.extend, report.report),
    "Measure": (evaluate.evaluate, serve.serve),
    "Prepare": (init.init, diagnose.diagnose, doctor.doctor),
    "Compare choices": (study.study, study.advise, study.probe),
    "Export and publish": (export.export, export.push),
    "Train elsewhere": (handover.handover, receive.receive),
    "About lingraft": (settings.settings, settings.version),
}


def _help_text(command: Callable[..., Any]) -> str:
    """Return a docstring with one line per paragraph; rich keeps the line breaks of the source."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel, help=_help_text(command))(command)

__all__ = ["app", "main"]
