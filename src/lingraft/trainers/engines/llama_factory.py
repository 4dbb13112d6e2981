"""LLaMA-Factory: a YAML file for each phase, and a script that adds lingraft's callback.

The stage is `sft`, because `pt` replaces the labels by the ids and ignores those equal to the pad
token, which is often the separator of documents. `tokenized_path` is read as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines.phase_files import phase_models, phase_name, yaml_text
from lingraft.trainers.engines.transformers_settings import (
    EVEN_BATCHES,
    freezes_weights,
    install_command,
    plan_limits,
    refuse_own_loop,
    training_settings,
)
from lingraft.trainers.manifest import Handover, PhaseRecord

SCRIPT = "train.py"
WITHOUT_SCRIPT_FROZEN = (
    "exact with train.py, which needs lingraft. With llamafactory-cli alone, all weights train, "
    "those that training.strategy freezes too: do not use it"
)
WITHOUT_SCRIPT = (
    "exact with train.py, which needs lingraft. With llamafactory-cli alone, all weights train at "
    "the rate of the body, because LLaMA-Factory has no setting for another rate of the "
    "embeddings; biases and norms have no weight decay, and the warm-up is one step late"
)

PASSES_ALIKE = (
    "LLaMA-Factory averages the losses of the forward passes of a step if the model is multimodal, "
    "also where they have different numbers of tokens"
)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the YAML files and the script."""
    del folder
    phases = handover.plan.phases
    files, launch = {}, [install_command(handover, "llamafactory")]
    for number, phase in enumerate(phases):
        name = phase_name("llama_factory", ".yaml", number, len(phases))
        files[name] = yaml_text(_comments(phase, name, number), _settings(handover, number))
        launch.append(f"python {SCRIPT} {name} {number + 1}")
    files[SCRIPT] = _SCRIPT.format(version=handover.lingraft)
    frozen = any(map(freezes_weights, phases))
    without = WITHOUT_SCRIPT_FROZEN if frozen else WITHOUT_SCRIPT
    limits = [*plan_limits(handover), without, EVEN_BATCHES]
    if handover.model.loads_with != "AutoModelForCausalLM":
        limits.append(PASSES_ALIKE)
    return EngineFiles(files, tuple(limits), tuple(launch))


def _settings(handover: Handover, number: int) -> dict[str, Any]:
    plan, phase = handover.plan, handover.plan.phases[number]
    (data,) = handover.training_data("sequences", number)
    start, trained = phase_models(number, len(plan.phases))
    return {
        "model_name_or_path": start,
        **handover.code_option,
        "stage": "sft",
        "finetuning_type": "full",
        "do_train": True,
        "tokenized_path": data.path,
        # A name is asked for; the data set is read from tokenized_path.
        "dataset": "handover",
        "template": "empty",
        "cutoff_len": plan.sequence_length + 1,
        "packing": False,
        "disable_shuffling": True,
        "disable_gradient_checkpointing": True,
        "output_dir": trained,
        "report_to": "none",
        **training_settings(handover, phase),
        "bf16": handover.model.dtype == "bfloat16",
    }


def _comments(phase: PhaseRecord, name: str, number: int) -> list[str]:
    rates = phase.learning_rates
    plan = [
        f"python {SCRIPT} {name} {number + 1}",
        "After a stop, the same command continues from the last checkpoint.",
        f"It trains exactly by lingraft's plan: body {rates.body:g}, added rows",
    ]
    if freezes_weights(phase):
        return [*plan, f"{rates.added_rows:g}. llamafactory-cli alone would train all weights."]
    return [
        *plan,
        f"{rates.added_rows:g}. llamafactory-cli train {name}: all weights at learning_rate, which",
        "is the nearest that LLaMA-Factory has a setting for.",
    ]


_SCRIPT = '''\
"""Makes LLaMA-Factory train as lingraft's loop would. Written by lingraft {version}.

    python train.py llama_factory.yaml [PHASE]
    torchrun --nproc-per-node 4 train.py llama_factory.yaml [PHASE]

`gradient_accumulation_steps` follows from the number of processes.
"""

import os
import sys
from pathlib import Path

import yaml
from llamafactory.train.tuner import run_exp

from lingraft import HandoverCallback

settings = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
phase = int(sys.argv[2]) if len(sys.argv) > 2 else 1
plan = HandoverCallback(Path(__file__).resolve().parent, phase=phase)
settings |= plan.batch_settings(settings["per_device_train_batch_size"])
run_exp(settings, callbacks=[plan])
if os.environ.get("RANK", "0") == "0":
    # LLaMA-Factory writes a tokenizer with a chat template of its own.
    plan.restore_tokenizer(settings["output_dir"])
'''
ENGINE = Engine(
    "llama-factory",
    "LLaMA-Factory",
    ("sequences",),
    configure,
    refusal=refuse_own_loop,
    mixes_documents="LLaMA-Factory does not pass on the position ids of a sequence",
)
