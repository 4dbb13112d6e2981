"""transformers Trainer: its configuration for a hand-over."""

from __future__ import annotations

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.manifest import Handover


def configure(handover: Handover) -> EngineFiles:
    """Return the configuration of transformers Trainer."""
    del handover
    return EngineFiles()


ENGINE = Engine("hf", "transformers Trainer", ("sequences",), configure)
