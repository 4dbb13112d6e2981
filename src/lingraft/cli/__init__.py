"""The command line. Heavy modules are imported inside commands: `lingraft --help` answers in under 0.3 s.

A command is a function in one of the modules here and a name in `COMMANDS`, which is the order of `lingraft --help`.
A `LingraftError` becomes one line on standard error and its exit code; anything else is a bug and shows its traceback.
Standard output carries results (tables, or JSON with --json), standard error progress and messages.
"""

from __future__ import annotations

from lingraft.cli import adapt, diagnose, evaluate, export, init, serve, settings, study
from lingraft.cli.app import app, main

COMMANDS = {
    "Adapt a model": (adapt.adapt, adapt.plan, adapt.extend, adapt.report),
    "Measure": (evaluate.evaluate, serve.serve),
    "Look first": (init.init, diagnose.diagnose, init.doctor),
    "Explore": (study.study, study.advise, study.probe),
    "Hand on": (export.export, export.push),
    "About lingraft": (settings.settings, settings.version),
}

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)

__all__ = ["app", "main"]
