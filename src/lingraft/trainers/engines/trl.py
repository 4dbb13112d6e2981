"""TRL's SFTTrainer: a script with lingraft's callback, which trains exactly."""

from __future__ import annotations

from pathlib import Path

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines.transformers_script import ScriptTrainer, script_files
from lingraft.trainers.engines.transformers_settings import refuse_own_loop
from lingraft.trainers.manifest import Handover

TRAINER = ScriptTrainer(
    title="the SFTTrainer of TRL",
    import_line="from trl import SFTConfig, SFTTrainer",
    trainer="SFTTrainer",
    arguments="SFTConfig",
    packages="lingraft trl",
    # The sequences are ready: TRL must not cut, pack or tokenise them.
    extra={
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "gradient_checkpointing": False,
    },
)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the script."""
    del folder
    return script_files(handover, TRAINER)


ENGINE = Engine("trl", "TRL", ("sequences",), configure, refuse_own_loop)
