"""How far a run is, as checkpoints store it, and whether a signal asks it to stop."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from lingraft.training.execution import Execution

if TYPE_CHECKING:
    from lingraft.packing.mixture import Batch

Stopped = Callable[[], str | None]
"""Returns the name of the signal that came, or None."""


@dataclass(frozen=True)
class Totals:
    """What the model was trained on so far, over all phases."""

    step: int = 0
    tokens: int = 0
    bytes: int = 0
    target_bytes: int = 0
    target_documents: int = 0

    def plus(self, batch: Batch) -> Totals:
        """Return the totals one step later."""
        return Totals(
            self.step + 1,
            self.tokens + batch.tokens,
            self.bytes + batch.bytes,
            self.target_bytes + batch.target_bytes,
            self.target_documents + batch.target_documents,
        )


@dataclass
class RunState:
    """The phase and its next step, the totals so far, and what resuming needs.

    `losses` are those of the `DivergenceMonitor`. `begun` are the totals when this process
    started. The first `prefix_steps` are from a shorter run (`shared_prefix`).
    """

    phase: int = 0
    step: int = 0
    done: Totals = Totals()
    losses: tuple[float | None, list[float]] = field(default_factory=lambda: (None, []))
    log_bytes: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    saved_step: int = 0
    begun: Totals = Totals()
    prefix_steps: int = 0

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> RunState:
        """Read the state of a checkpoint; an empty one is the start of a run."""
        if not state:
            return cls()
        done = Totals(**state["done"])
        return cls(
            state["phase"],
            state["step"],
            done,
            (state["first"], state["last"]),
            state["log_bytes"],
            state["seconds"],
            saved_step=done.step,
            begun=done,
            prefix_steps=state.get("trunk", 0),
        )

    @property
    def seconds(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.seconds_before + time.monotonic() - self.started

    def is_due(self, execution: Execution) -> bool:
        """Return whether it is time for a checkpoint."""
        every = execution.checkpoint_steps
        if every and self.done.step - self.saved_step >= every:
            return True
        return time.monotonic() - self.saved >= execution.checkpoint_seconds

    def next_phase(self) -> None:
        """Go to the first step of the next phase."""
        self.phase, self.step = self.phase + 1, 0

    def content(self, fingerprint: str, log_bytes: int) -> dict[str, Any]:
        """Return what a checkpoint stores of it."""
        return {
            "fingerprint": fingerprint,
            "phase": self.phase,
            "step": self.step,
            "done": dataclasses.asdict(self.done),
            "first": self.losses[0],
            "last": self.losses[1],
            "log_bytes": log_bytes,
            "seconds": self.seconds,
            "trunk": self.prefix_steps,
        }


@contextmanager
def stop_signals() -> Iterator[Stopped]:
    """Turn SIGTERM and SIGINT into a flag that the loop polls; a second signal acts as usual."""
    came: list[str] = []
    # Python sets signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def catch(number: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)
        # A second signal must end a run that does not reach its next step.
        restore()

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    for each in before:
        signal.signal(each, catch)
    try:
        yield lambda: came[0] if came else None
    finally:
        restore()
