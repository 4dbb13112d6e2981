"""Progress that people see: a bar for everything longer than a second, plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[float], None]
"""Called with the number of units that were just done."""


@contextmanager
def progress(title: str, total: float | None = None, *, unit: str = "") -> Iterator[Advance]:
    """Show a bar on standard error while the block runs; off a terminal, one line when it took over a second.

    >>> with progress("counting", 3) as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    if not sys.stderr.isatty():
        started = time.monotonic()
        yield lambda _amount: None
        seconds = time.monotonic() - started
        if seconds > 1:
            print(f"{title}: {seconds:.1f} s", file=sys.stderr, flush=True)  # noqa: T201 - the line is the progress
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

    columns = [TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
               TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)
