"""torchtitan: its configuration for a hand-over."""

from __future__ import annotations

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.manifest import Handover


def configure(handover: Handover) -> EngineFiles:
    """Return the configuration of torchtitan."""
    del handover
    return EngineFiles()


ENGINE = Engine("torchtitan", "torchtitan", ("text",), configure)
