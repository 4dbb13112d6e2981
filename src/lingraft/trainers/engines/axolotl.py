"""Axolotl: a YAML file for each phase, and a plugin that brings lingraft's callback.

Axolotl leaves a data set with `input_ids`, `labels` and `attention_mask` as it is. With `bf16`, it
loads and trains the weights in bfloat16, in which a step of continued pretraining is often too
small to change a weight; the plugin makes them float32 again.
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

PLUGIN = "handover_plugin"
RENAMED = {
    "per_device_train_batch_size": "micro_batch_size",
    "optim": "optimizer",
    "lr_scheduler_type": "lr_scheduler",
}
"""The settings that Axolotl calls otherwise than transformers."""
WITHOUT_PLUGIN_FROZEN = (
    "exact with the plugin, which needs lingraft. Without it, all weights train, those that "
    "training.strategy freezes too: do not remove it"
)
WITHOUT_PLUGIN = (
    "exact with the plugin, which needs lingraft. Without it: embedding_lr trains the base's own "
    "rows at the rate of the added rows, biases and norms have no weight decay, and the warm-up is "
    "one step late"
)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the YAML files and the plugin."""
    del folder
    phases = handover.plan.phases
    files, launch = {}, [install_command(handover, "axolotl")]
    for number, phase in enumerate(phases):
        name = phase_name("axolotl", ".yaml", number, len(phases))
        files[name] = yaml_text(_comments(phase, name), _settings(handover, number))
        launch.append(f"PYTHONPATH=. axolotl train {name}")
    files[f"{PLUGIN}.py"] = _plugin(handover)
    return EngineFiles(files, (*plan_limits(handover), *_limits(handover)), tuple(launch))


def _settings(handover: Handover, number: int) -> dict[str, Any]:
    plan, phase = handover.plan, handover.plan.phases[number]
    (data,) = handover.training_data("sequences", number)
    start, trained = phase_models(number, len(plan.phases))
    settings = {RENAMED.get(k, k): v for k, v in training_settings(handover, phase).items()}
    rates = phase.learning_rates
    return {
        "base_model": start,
        **handover.code_option,
        "plugins": [f"{PLUGIN}.Phase{number + 1}"],
        # The type is not used for a data set of token ids, but Axolotl asks for one.
        "datasets": [{"path": data.path, "type": "completion"}],
        "dataset_prepared_path": f"prepared-{number + 1}",
        "output_dir": trained,
        "sequence_len": plan.sequence_length + 1,
        "excess_length_strategy": "raise",
        "sample_packing": False,
        "pad_to_sequence_len": False,
        "shuffle_merged_datasets": False,
        "curriculum_sampling": True,
        "train_on_inputs": True,
        "num_epochs": 1,
        **settings,
        "auto_resume_from_checkpoints": True,
        "embedding_lr": rates.added_rows,
        "bf16": handover.model.dtype == "bfloat16",
        "tf32": False,
        "gradient_checkpointing": False,
    }


def _comments(phase: PhaseRecord, name: str) -> list[str]:
    rates = phase.learning_rates
    plan = [
        f"PYTHONPATH=. axolotl train {name}",
        "After a stop, the same command continues from the last checkpoint.",
        f"The plugin trains exactly by lingraft's plan: body {rates.body:g}, added rows",
    ]
    if freezes_weights(phase):
        return [*plan, f"{rates.added_rows:g}. Without it, all weights train: do not remove it."]
    return [
        *plan,
        f"{rates.added_rows:g}. Without it (remove `plugins`), the nearest is embedding_lr, which",
        "also trains the base's own rows at the rate of the added rows, and that forgets more.",
    ]


def _limits(handover: Handover) -> list[str]:
    frozen = any(map(freezes_weights, handover.plan.phases))
    limits = [WITHOUT_PLUGIN_FROZEN if frozen else WITHOUT_PLUGIN, EVEN_BATCHES]
    if handover.model.dtype != "bfloat16":
        limits.append(
            f"bf16 is off, because the model is stored in {handover.model.dtype} and Axolotl would "
            f"round its weights to bfloat16"
        )
    return limits


def _plugin(handover: Handover) -> str:
    numbers = range(1, len(handover.plan.phases) + 1)
    classes = [_PHASE.format(number=number) for number in numbers]
    return _HEAD.format(version=handover.lingraft) + "".join(classes)


_HEAD = '''\
"""Makes Axolotl train as lingraft's loop would. Written by lingraft {version}."""

import inspect
from pathlib import Path

from axolotl.integrations.base import BasePlugin

from lingraft import HandoverCallback


class HandoverPlugin(BasePlugin):
    """Trains float32 weights at the learning rates of a phase of the hand-over."""

    phase = 1

    def post_model_load(self, cfg, model):
        """Make the weights float32; bf16 then only is the type of computation."""
        model.float()

    def add_callbacks_pre_trainer(self, cfg, model):
        """Add the callback before the trainer is created."""
        return [HandoverCallback(Path(__file__).resolve().parent, phase=self.phase)]

    def add_callbacks_post_trainer(self, cfg, trainer):
        """Divide the loss of a step by its tokens, as the Trainer does.

        Axolotl averages the losses of the forward passes, whatever their numbers of tokens.
        """
        parameters = inspect.signature(trainer.model.forward).parameters.values()
        divides = any(one.kind is one.VAR_KEYWORD for one in parameters)
        trainer.model_accepts_loss_kwargs = getattr(trainer.model, "accepts_loss_kwargs", divides)
        return []
'''
_PHASE = '''

class Phase{number}(HandoverPlugin):
    """Phase {number}."""

    phase = {number}
'''
ENGINE = Engine(
    "axolotl",
    "Axolotl",
    ("sequences",),
    configure,
    refusal=refuse_own_loop,
    attention_mask=True,
    mixes_documents="Axolotl passes on an attention mask of ones, and transformers finds documents "
    "by their position ids only where there is none",
)
