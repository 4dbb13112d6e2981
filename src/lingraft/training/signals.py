"""SIGTERM and Ctrl-C as a question that the loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Stopped = Callable[[], str | None]
"""Returns the name of the signal that came, or None."""


@contextmanager
def stop_signals() -> Iterator[Stopped]:
    """Catch SIGTERM and SIGINT while the block runs; a second one of them has its usual effect."""
    came: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield lambda: None
        return

    def catch(number: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    for each in before:
        signal.signal(each, catch)
    try:
        yield lambda: came[0] if came else None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
