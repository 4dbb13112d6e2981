"""The Trainer of transformers: a script with lingraft's callback, which trains exactly."""

from __future__ import annotations

from pathlib import Path

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines.transformers_script import ScriptTrainer, script_files
from lingraft.trainers.engines.transformers_settings import refuse_own_loop
from lingraft.trainers.manifest import Handover

TRAINER = ScriptTrainer(
    title="the Trainer of transformers",
    import_line="from transformers import Trainer, TrainingArguments",
    trainer="Trainer",
    arguments="TrainingArguments",
    packages="lingraft accelerate datasets",
    extra={},
)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the script."""
    del folder
    return script_files(handover, TRAINER)


ENGINE = Engine("hf", "the Trainer of transformers", ("sequences",), configure, refuse_own_loop)
