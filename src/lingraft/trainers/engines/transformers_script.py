"""The script train.py with which the Trainer of transformers, or TRL's, trains on a hand-over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lingraft.trainers.engine import EngineFiles
from lingraft.trainers.engines.transformers_settings import (
    EVEN_BATCHES,
    install_command,
    plan_limits,
    training_settings,
)
from lingraft.trainers.manifest import Handover

SCRIPT = "train.py"


@dataclass(frozen=True)
class ScriptTrainer:
    """A trainer, its class of arguments, their import, and the arguments that only it has."""

    title: str
    import_line: str
    trainer: str
    arguments: str
    packages: tuple[str, ...]
    extra: dict[str, Any]


def script_files(handover: Handover, trainer: ScriptTrainer) -> EngineFiles:
    """Return the files for a trainer that a Python script starts."""
    return EngineFiles(
        files={SCRIPT: _script(handover, trainer)},
        limits=(*plan_limits(handover), EVEN_BATCHES),
        launch=(install_command(handover, *trainer.packages), f"python {SCRIPT}"),
    )


def _script(handover: Handover, trainer: ScriptTrainer) -> str:
    phases = []
    for number, phase in enumerate(handover.plan.phases):
        (data,) = handover.training_data("sequences", number)
        settings = training_settings(handover, phase)
        # The batch is computed in the script, because it depends on the number of processes.
        at_once = settings.pop("per_device_train_batch_size")
        settings.pop("gradient_accumulation_steps")
        phases.append(
            {
                "data": data.path,
                "sequences_at_once": at_once,
                "settings": settings,
            }
        )
    return _SCRIPT.format(
        title=trainer.title,
        version=handover.lingraft,
        trainer=trainer.trainer,
        arguments=trainer.arguments,
        import_line=trainer.import_line,
        loads_with=handover.model.loads_with,
        code="".join(f", {name}={value}" for name, value in handover.code_option.items()),
        trained=EngineFiles().trained,
        phases=_python(phases),
        common=_python({**COMMON, **trainer.extra}),
    )


def _python(value: Any, indent: int = 4) -> str:
    """Return a value as formatted Python source.

    >>> print(_python([{"a": 1}]))
    [
        {
            "a": 1,
        },
    ]
    """
    margin, end = " " * indent, " " * (indent - 4)
    if isinstance(value, dict) and value:
        lines = [f'{margin}"{key}": {_python(one, indent + 4)},' for key, one in value.items()]
        return "\n".join(["{", *lines, end + "}"])
    if isinstance(value, list) and value:
        lines = [f"{margin}{_python(one, indent + 4)}," for one in value]
        return "\n".join(["[", *lines, end + "]"])
    return json.dumps(value) if isinstance(value, str) else repr(value)


COMMON = {
    # The sequences are in the order of training.
    "train_sampling_strategy": "sequential",
    "remove_unused_columns": False,
    "report_to": "none",
}

_SCRIPT = '''\
"""Trains the model of this folder with {title}, as lingraft's loop would.

    python train.py
    torchrun --nproc-per-node 4 train.py

After a stop, the same command continues from the last checkpoint. To start again, remove
checkpoints-*.

Written by lingraft {version}, which must be installed. The callback sets what the trainer has no
setting for: the learning rate of the added rows, the rate in every step, and weight decay on all
weights. It stops if a setting differs from the plan. `sequences_at_once`, the data type and
`gradient_checkpointing` may be changed to fit the memory.
"""

from pathlib import Path

import torch
from datasets import load_from_disk
from transformers import {loads_with}, AutoTokenizer
{import_line}

from lingraft import HandoverCallback

FOLDER = Path(__file__).resolve().parent
BFLOAT16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()

PHASES = {phases}
COMMON = {common}


def last_checkpoint(folder):
    """Return the last complete checkpoint in a folder, None without one."""
    # The Trainer writes this file last.
    states = Path(folder).glob("checkpoint-*/trainer_state.json")
    steps = {{int(state.parent.name.split("-")[1]): state.parent for state in states}}
    return str(steps[max(steps)]) if steps else None


# Weights train in float32. On a GPU, forward and backward passes compute in bfloat16.
model = {loads_with}.from_pretrained(FOLDER / "model", dtype=torch.float32{code})
tokenizer = AutoTokenizer.from_pretrained(FOLDER / "model"{code})

for number, phase in enumerate(PHASES, start=1):
    plan = HandoverCallback(FOLDER, phase=number)
    arguments = {arguments}(
        output_dir=str(FOLDER / f"checkpoints-{{number}}"),
        **plan.batch_settings(phase["sequences_at_once"]),
        bf16=BFLOAT16,
        dataloader_pin_memory=torch.cuda.is_available(),
        **phase["settings"],
        **COMMON,
    )
    trainer = {trainer}(
        model,
        args=arguments,
        train_dataset=load_from_disk(str(FOLDER / phase["data"])),
        data_collator=plan.collate,
        processing_class=tokenizer,
        callbacks=[plan],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(arguments.output_dir))

if trainer.is_world_process_zero():
    plan.save(model, FOLDER / "{trained}")
    # `lingraft receive` makes a chart of this log, that of the last phase.
    trainer.state.save_to_json(str(FOLDER / "{trained}" / "trainer_state.json"))
'''
