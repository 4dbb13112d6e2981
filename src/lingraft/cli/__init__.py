"""The command line. Heavy modules are imported inside commands: `lingraft --help` answers in under 0.3 s.

A command is a function in one of the modules here and a name in `COMMANDS`, which is the order of `lingraft --help`.
A `LingraftError` becomes one line on standard error and its exit code; anything else is a bug and shows its traceback.
Standard output carries results (tables, or JSON with --json), standard error progress and messages.
"""

from __future__ import annotations

from lingraft.cli import about, adapting, beginning, exploring, handing, looking, measuring, trying
from lingraft.cli.application import app, main

COMMANDS = {
    "Adapt a model": (adapting.adapt, adapting.plan, adapting.extend, adapting.report),
    "Measure": (measuring.evaluate, trying.serve),
    "Look first": (beginning.init, looking.diagnose, beginning.doctor),
    "Explore": (exploring.study, exploring.advise, exploring.probe),
    "Hand on": (handing.export, handing.push),
    "About lingraft": (about.settings, about.version),
}

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)

__all__ = ["app", "main"]
