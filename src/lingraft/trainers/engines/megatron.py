"""Megatron-LM: its configuration for a hand-over."""

from __future__ import annotations

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.manifest import Handover


def configure(handover: Handover) -> EngineFiles:
    """Return the configuration of Megatron-LM."""
    del handover
    return EngineFiles()


ENGINE = Engine("megatron", "Megatron-LM", ("megatron",), configure)
