"""Progress on standard error: a bar on a terminal, otherwise plain lines.

A program that uses lingraft as a library can receive the lines itself (`send_lines_to`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from lingraft.formatting import duration

# Without a terminal, a note is printed at most once in this time, so that logs stay short, and only
# a block that took longer than the second time prints a line at its end.
LINE_SECONDS = 30
MIN_SECONDS = 10

# What libraries log while transformers imports torchao, which it does with every model: kernels of
# torchao that this machine cannot load and that lingraft does not use, and a deprecation inside
# torchao. Each is named with the start of its format string, so that nothing else is hidden.
IMPORT_NOTES = {
    "torchao": "Failed to load ",
    "torch.utils._pytree": "%s is an Enum subclass and is now natively supported",
}

_in_progress: ContextVar[bool] = ContextVar("in_progress", default=False)
_in_stage: ContextVar[bool] = ContextVar("in_stage", default=False)
_printed_warnings: ContextVar[set[str] | None] = ContextVar("printed_warnings", default=None)


class Advance(Protocol):
    """A function to call with the units finished since the last call, and a note to show."""

    def __call__(self, amount: float, note: str = "", /) -> None:
        """Advance the bar."""


def no_progress(_amount: float, _note: str = "", /) -> None:
    """Show nothing."""


LogLine = Callable[[str], None]
"""A function that takes a status line, and prints or logs it."""


def discard_line(line: str, /) -> None:
    """Ignore a status line."""


_RECEIVER: ContextVar[LogLine | None] = ContextVar("receiver of status lines", default=None)


@contextmanager
def send_lines_to(log: LogLine | None) -> Iterator[None]:
    """Pass every status line and warning to `log` while the block runs, and draw no bars.

    With `None`, nothing changes: lines and bars go to standard error. Bars of transformers, which
    lingraft turns off, are afterwards as they were before.

    >>> lines = []
    >>> with send_lines_to(lines.append):
    ...     say("warning: no replay")
    >>> lines
    ['warning: no replay']
    """
    token = _RECEIVER.set(log if log is not None else _RECEIVER.get())
    had_bars, had_hub_bars = _shows_transformers_bars(), _shows_hub_bars()
    try:
        yield
    finally:
        _RECEIVER.reset(token)
        if had_bars and not _shows_transformers_bars():
            sys.modules[_TRANSFORMERS_LOGGING].enable_progress_bar()
            # transformers turns both on.
            if not had_hub_bars:
                sys.modules[_HUB].disable_progress_bars()


_TRANSFORMERS_LOGGING, _HUB = "transformers.utils.logging", "huggingface_hub.utils"


def _shows_transformers_bars() -> bool:
    """Return whether transformers draws progress bars, or will draw them once it is imported."""
    library = sys.modules.get(_TRANSFORMERS_LOGGING)
    if library is None:
        return _shows_hub_bars()
    return bool(library.is_progress_bar_enabled())


def _shows_hub_bars() -> bool:
    library = sys.modules.get(_HUB)
    if library is None:
        variable = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "")
        return variable.upper() not in {"1", "ON", "YES", "TRUE"}
    return not library.are_progress_bars_disabled()


def say(line: str) -> None:
    """Print a status line to standard error, or pass it to the function of `send_lines_to`."""
    receiver = _RECEIVER.get()
    if receiver is not None:
        receiver(line)
        return
    # A process may be started without standard error; print would then use standard output.
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the line is the progress


def quiet_import_notes() -> None:
    """Hide `IMPORT_NOTES` in this process; call it before transformers is imported.

    >>> quiet_import_notes()
    >>> logging.getLogger("torchao").warning("Failed to load _C_mxfp8.so: no such library")
    """
    for name in IMPORT_NOTES:
        logging.getLogger(name).addFilter(_is_no_import_note)  # twice is as once


def _is_no_import_note(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(IMPORT_NOTES[record.name])


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Print a warning that `warn` is given several times in this block only once.

    Two stages can find the same problem, for example in the model before and after training.
    """
    token = None
    if _printed_warnings.get() is None:  # an inner block is part of the outer one
        token = _printed_warnings.set(set())
    try:
        yield
    finally:
        if token is not None:
            _printed_warnings.reset(token)


def warn(warning: str, log: LogLine = say) -> None:
    """Print a warning on one line that begins with `warning: `.

    >>> with each_warning_once():
    ...     for _ in range(2):
    ...         warn("text in te: too short", print)
    warning: text in te: too short
    """
    printed = _printed_warnings.get()
    if printed is None or warning not in printed:
        log(f"warning: {warning}")
    if printed is not None:
        printed.add(warning)


@contextmanager
def stage_progress() -> Iterator[None]:
    """Indent the notes of blocks of progress in a stage, and leave out their times.

    The stage has a line of its own, with its time.
    """
    token = _in_stage.set(True)
    try:
        yield
    finally:
        _in_stage.reset(token)


@contextmanager
def progress(title: str, total: float | None = None, *, unit: str = "") -> Iterator[Advance]:
    """Show a bar on standard error while the block runs.

    A note is shown next to the bar. Without a terminal, a block that took over ten seconds prints
    one line at its end, and the latest note is printed every half minute. A block inside another
    one prints nothing: the outer one has the terminal.

    >>> with progress("counting", 3) as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    if _in_progress.get():
        yield no_progress
        return
    draw = _RECEIVER.get() is None and sys.stderr is not None and sys.stderr.isatty()
    token = _in_progress.set(True)
    try:
        with (_bar if draw else _lines)(title, total, unit) as advance:
            yield advance
    finally:
        _in_progress.reset(token)


@contextmanager
def _lines(title: str, total: float | None, unit: str) -> Iterator[Advance]:
    started = last_line = time.monotonic()
    done, indent = 0.0, "  " if _in_stage.get() else ""

    def advance(amount: float, note: str = "", /) -> None:
        nonlocal done, last_line
        done += amount
        if note and time.monotonic() - last_line >= LINE_SECONDS:
            last_line = time.monotonic()
            of = f" of {total:g}" if total else ""
            say(f"{indent}{title}: {done:g}{of} {unit}, {note}")

    yield advance
    seconds = time.monotonic() - started
    if seconds > MIN_SECONDS and not _in_stage.get():
        say(f"{title}: {duration(seconds)}")


@contextmanager
def _bar(title: str, total: float | None, unit: str) -> Iterator[Advance]:
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
        TextColumn("{task.description:<28}", markup=False),  # names of users
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(amount: float, note: str = "", /) -> None:
            bar.advance(task, amount)
            if note:
                bar.update(task, note=note)

        yield advance
