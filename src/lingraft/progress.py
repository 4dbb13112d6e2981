"""Progress that people see: a bar for everything longer than a second, plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from lingraft.formatting import duration

LINE_SECONDS = 30
"""How often something that has notes writes a line where there is no terminal."""


class Advance(Protocol):
    """Called with the number of units that were just done, and with what there is to say of them."""

    def __call__(self, amount: float, note: str = "", /) -> None:
        """Move on."""


LogLine = Callable[[str], None]
"""Takes a status line, for a terminal or a log."""


def discard_line(line: str, /) -> None:
    """Ignore a status line."""


def say(line: str) -> None:
    """Write a line about what goes on to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the line is the progress


@contextmanager
def progress(title: str, total: float | None = None, *, unit: str = "") -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; off a terminal, one line when it took over a second.

    A note stands beside the bar; off a terminal the latest one makes a line every half minute.

    >>> with progress("counting", 3) as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    if not sys.stderr.isatty():
        started = spoken = time.monotonic()
        done = 0.0

        def speak(amount: float, note: str = "", /) -> None:
            nonlocal done, spoken
            done += amount
            if note and time.monotonic() - spoken >= LINE_SECONDS:
                spoken = time.monotonic()
                of = f" of {total:g}" if total else ""
                say(f"{title}: {done:g}{of} {unit}, {note}")

        yield speak
        seconds = time.monotonic() - started
        if seconds > 1:
            say(f"{title}: {duration(seconds)}")
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, note="")

        def show(amount: float, note: str = "", /) -> None:
            bar.advance(task, amount)
            if note:
                bar.update(task, note=note)

        yield show
