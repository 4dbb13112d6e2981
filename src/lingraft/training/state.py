"""Where a run stands: what was trained on so far, in the checkpoint's words."""

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

@dataclass(frozen=True)
class Done:
    """What was trained on, over all phases."""

    step: int = 0
    tokens: int = 0
    bytes: int = 0
    target_bytes: int = 0
    target_documents: int = 0

    def plus(self, batch: Batch) -> Done:
        """Return the sums one step later."""
        return Done(self.step + 1, self.tokens + batch.tokens, self.bytes + batch.bytes,
                    self.target_bytes + batch.target_bytes, self.target_documents + batch.target_documents)


@dataclass
class RunState:
    """The next step of the current phase, and what lies behind; the first `trunk` steps were a shorter run's."""

    phase: int = 0
    step: int = 0
    done: Done = Done()
    losses: tuple[float | None, list[float]] = field(default_factory=lambda: (None, []))
    log_bytes: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    saved_step: int = 0
    begun: Done = Done()
    trunk: int = 0

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> RunState:
        """Read the state of a checkpoint; an empty one is the beginning."""
        if not state:
            return cls()
        done = Done(**state["done"])
        return cls(state["phase"], state["step"], done, (state["first"], state["last"]), state["log_bytes"],
                   state["seconds"], saved_step=done.step, begun=done, trunk=state.get("trunk", 0))

    @property
    def seconds(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.seconds_before + time.monotonic() - self.started

    def is_due(self, execution: Execution) -> bool:
        """Say whether it is time for a checkpoint."""
        by_steps = execution.checkpoint_steps and self.done.step - self.saved_step >= execution.checkpoint_steps
        return bool(by_steps) or time.monotonic() - self.saved >= execution.checkpoint_seconds

    def next_phase(self) -> None:
        """Stand at the beginning of the next phase."""
        self.phase, self.step = self.phase + 1, 0

    def content(self, fingerprint: str, log_bytes: int) -> dict[str, Any]:
        """Return what a checkpoint says of it."""
        return {"fingerprint": fingerprint, "phase": self.phase, "step": self.step,
                "done": dataclasses.asdict(self.done), "first": self.losses[0], "last": self.losses[1],
                "log_bytes": log_bytes, "seconds": self.seconds, "trunk": self.trunk}


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
