"""The Trainers of transformers and TRL: a script with lingraft's callback, which trains exactly."""

from __future__ import annotations

from lingraft.trainers.engine import Engine
from lingraft.trainers.engines.transformers_script import ScriptTrainer, script_files
from lingraft.trainers.engines.transformers_settings import refuse_own_loop

_TRANSFORMERS = ScriptTrainer(
    title="the Trainer of transformers",
    import_line="from transformers import Trainer, TrainingArguments",
    trainer="Trainer",
    arguments="TrainingArguments",
    packages=("accelerate", "datasets"),
    extra={},
)
_TRL = ScriptTrainer(
    title="the SFTTrainer of TRL",
    import_line="from trl import SFTConfig, SFTTrainer",
    trainer="SFTTrainer",
    arguments="SFTConfig",
    packages=("'trl>=1.7'",),
    extra={
        # The sequences are ready: TRL must not cut, pack or tokenise them.
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "gradient_checkpointing": False,
        # TRL's own loss multiplies by the matrix of the head, without what a model does to its
        # logits otherwise (Granite divides them). And it adds a loss of the routers of experts.
        "loss_type": "nll",
        "router_aux_loss_coef": 0.0,
    },
)


def _engine(name: str, title: str, trainer: ScriptTrainer) -> Engine:
    """Return the engine whose only file is the script of a trainer."""
    return Engine(
        name,
        title,
        ("sequences",),
        lambda handover, _folder: script_files(handover, trainer),
        refuse_own_loop,
    )


TRANSFORMERS = _engine("hf", "the Trainer of transformers", _TRANSFORMERS)
TRL = _engine("trl", "TRL", _TRL)
