"""The progress of a run, as checkpoints store it, and the signals that ask a run to stop."""

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
"""Returns the name of the signal that asked the run to stop, or None."""


@dataclass(frozen=True)
class Totals:
    """Steps and predicted text so far, over all phases; `target_*` leave out the replay text."""

    step: int = 0
    tokens: int = 0
    bytes: int = 0
    target_bytes: int = 0
    target_documents: int = 0

    def plus(self, batch: Batch) -> Totals:
        """Return the totals after a step on this batch."""
        return Totals(
            self.step + 1,
            self.tokens + batch.tokens,
            self.bytes + batch.bytes,
            self.target_bytes + batch.target_bytes,
            self.target_documents + batch.target_documents,
        )


@dataclass
class RunState:
    """The progress of a run: the current phase, its next step, and the totals of all phases.

    `losses` are the first and the last losses of the `DivergenceMonitor`. `begun` are the totals
    when this process started, `seconds_before` the training time of earlier processes. `saved` is
    the time of the last checkpoint, and `saved_step` its step. The first `prefix_steps` steps are
    from a shorter run (`shared_prefix`). `curve` is the digest of what the held-out curve measures,
    None in checkpoints that have none. The curve begins at step `curve_from`: above 0, if a stopped
    run was resumed with other settings of the evaluation.
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
    curve: str | None = None
    curve_from: int = 0

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
            # `trunk` is the stored key of the shared prefix; stored formats keep their names.
            prefix_steps=state.get("trunk", 0),
            curve=state.get("curve"),
            curve_from=state.get("curve_from", 0),
        )

    @property
    def seconds(self) -> float:
        """Seconds of training, including those of earlier processes."""
        return self.seconds_before + time.monotonic() - self.started

    def is_due(self, execution: Execution) -> bool:
        """Return whether a checkpoint is due, by the number of steps or by time."""
        every = execution.checkpoint_steps
        if every and self.done.step - self.saved_step >= every:
            return True
        return time.monotonic() - self.saved >= execution.checkpoint_seconds

    def next_phase(self) -> None:
        """Go to the first step of the next phase."""
        self.phase, self.step = self.phase + 1, 0

    def content(self, fingerprint: str, log_bytes: int) -> dict[str, Any]:
        """Return what a checkpoint stores of the run; `read` reads it."""
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
            "curve": self.curve,
            "curve_from": self.curve_from,
        }


@contextmanager
def stop_signals() -> Iterator[Stopped]:
    """Record SIGTERM and SIGINT for the training loop, which saves its progress and stops.

    A second Ctrl-C has its usual effect. Further SIGTERMs do not: launchers send them again
    when one of their processes has ended, while another still saves.
    """
    received: list[str] = []
    # Python sets signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def record(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        # A second Ctrl-C must end a run that does not reach its next step.
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    # A handler is None if the program that embeds Python installed it. It cannot be restored from
    # Python: afterwards the signal ends the process.
    before = {
        number: signal.getsignal(number) or signal.SIG_DFL
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    for number in before:
        signal.signal(number, record)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()
