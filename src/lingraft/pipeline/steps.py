"""A recipe as a graph of questions.

Each `Step` is a question for the store (its settings, and the keys of what it builds on) and the function that
answers it. All keys are known before anything runs: a plan needs no computing, and a changed setting changes the keys
of exactly those steps that depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.store import Draft, Stage, Store

Make = Callable[[Draft, Mapping[str, Path]], None]
"""Fills a draft; the folders of the answers that it builds on are given by role."""


@dataclass(frozen=True)
class Step:
    """A question, and how it is answered."""

    title: str
    stage: Stage
    make: Make
    inputs: Mapping[str, Step] = field(default_factory=dict)

    def folders(self, store: Store) -> dict[str, Path]:
        """Return where the answers that this step builds on lie."""
        return {role: store.folder(step.stage) for role, step in self.inputs.items()}


def step(title: str, name: str, version: int, settings: Mapping[str, object], make: Make,
         **inputs: Step | None) -> Step:
    """Build a step whose stage names the keys of its inputs; an input of `None` is none."""
    given = {role: made for role, made in inputs.items() if made is not None}
    stage = Stage(name, version, dict(settings), {role: made.stage.key for role, made in given.items()})
    return Step(title, stage, make, given)
