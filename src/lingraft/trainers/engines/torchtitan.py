"""torchtitan: a Python module with a configuration for each phase, and a loader of the sequences.

torchtitan's backend for models of transformers builds the model from its folder. A pattern of
parameter names can have a learning rate of its own, rows of a matrix cannot. The backend calls the
layers and the head of a model like Llama by itself, and leaves out what its class does besides: a
model for which this matters is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from lingraft.checkpoint import Checkpoint
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.errors import RecipeError
from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines.phase_files import phase_models
from lingraft.trainers.engines.transformers_settings import (
    decay_steps,
    plan_limits,
    refuse_frozen,
    sequences_at_once,
)
from lingraft.trainers.manifest import Handover, PhaseRecord
from lingraft.training import TrainingPlan

MODULE = "handover_titan"
DTYPES = ("float16", "bfloat16", "float32")
PACKAGES = "'torchtitan>=0.3,<0.4' transformers"
"""The versions with the modules and settings that are written here; later ones rename them."""
PARTS = (
    ("model.embed_tokens",),
    ("model.layers",),
    ("model.norm", "model.final_layernorm"),
    ("model.rotary_emb",),
    ("lm_head",),
)
"""The modules that the backend looks for; one of each is enough."""
SCALES = (
    "final_logit_softcapping",
    "logit_softcap",
    "logits_scaling",
    "logit_scale",
    "output_multiplier",
    "embedding_multiplier",
)
"""Settings of what a class does to embeddings before the layers, and to logits after the head."""


def refuse(plan: TrainingPlan) -> str:
    """Return why torchtitan cannot train a plan, "" if it can."""
    for phase in plan.phases:
        if phase.optimizer != "adamw":
            return f"training.optimizer is {phase.optimizer}; torchtitan has adamw, so set that"
        if phase.schedule.name == "constant":
            return "training.schedule is constant; torchtitan lets rates fall, so set wsd"
    return refuse_frozen(plan)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the module."""
    if handover.code_option and handover.model.model_type not in CONFIG_MAPPING_NAMES:
        msg = (
            f"--to torchtitan: {handover.model.architecture} is defined by code in its own folder, "
            "and torchtitan takes a model's class from transformers; use --to hf"
        )
        raise RecipeError(msg)
    if reason := why_other_model(folder / "model", handover.plan.sequence_length):
        msg = f"--to torchtitan: {handover.model.architecture}: {reason}; use --to hf"
        raise RecipeError(msg)
    count = len(handover.plan.phases)
    text, launch = _MODULE.format(version=handover.lingraft), [f"pip install {PACKAGES}"]
    for number, phase in enumerate(handover.plan.phases):
        values = _values(handover, number)
        arguments = "\n".join(f"        {name}={value!r}," for name, value in values.items())
        text += _PHASE.format(number=number + 1, arguments=arguments)
        _start, trained = phase_models(number, count)
        saved = f"outputs-{number + 1}/checkpoint/step-{phase.steps}"
        launch.append(f"{_TRAIN} --config phase{number + 1}")
        launch.append(f"mkdir -p {trained} && {_COPY_TEXT} {trained} ';'")
        launch.append(f"cp {saved}/*.safetensors* {trained}")
    limits = (*plan_limits(handover), *_limits(handover))
    return EngineFiles({f"{MODULE}.py": text}, limits, tuple(launch))


def why_other_model(folder: Path, length: int) -> str:
    """Return why torchtitan would train another model than that in a folder, "" if it would not.

    `length` is the number of tokens of a sequence.
    """
    config = read_model_config(folder)
    model = meta_model(config, folder)
    modules = {name for name, _module in model.named_modules()}
    for names in PARTS:
        if modules.isdisjoint(names):
            return f"it has no module {names[0]}, and torchtitan trains models like Llama"
    for name in ("attention_bias", "mlp_bias"):
        if getattr(config, name, False):
            return f"{name} is true, and torchtitan builds the layers without it"
    for name in SCALES:
        if getattr(config, name, None) not in {None, 0, 1}:
            return f"{name} is {getattr(config, name):g}, and torchtitan does not apply it"
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if window and slides and window < length:
        return f"sliding_window is {window:,}, and torchtitan lets all {length:,} tokens be read"
    stored = Checkpoint.open(folder).tensors
    lost = model.state_dict().keys() - stored.keys() - {"lm_head.weight"}
    if lost:
        return (
            f"its files name {min(lost)} otherwise than its class, and torchtitan renames nothing"
        )
    return ""


def _values(handover: Handover, number: int) -> dict[str, Any]:
    """Return the arguments of the module's function `configuration`."""
    plan, phase = handover.plan, handover.plan.phases[number]
    (data,) = handover.training_data("sequences", number)
    start, _trained = phase_models(number, len(plan.phases))
    return {
        "model": start,
        "data": data.path,
        "output": f"outputs-{number + 1}",
        "flavor": "sft_full" if plan.document_attention_mask else "full",
        "padding": handover.model.control_ids[0],
        "seed": plan.seed,
        "sequence_length": plan.sequence_length,
        "sequences_per_step": phase.sequences_per_step,
        "sequences_at_once": sequences_at_once(handover, phase),
        "steps": phase.steps,
        "body": phase.learning_rates.body,
        "embeddings": phase.learning_rates.added_rows,
        "adamw": {
            "betas": phase.betas,
            "eps": phase.epsilon,
            "weight_decay": phase.weight_decay,
        },
        "max_grad_norm": phase.max_grad_norm,
        "schedule": _schedule(phase),
        "dtype": handover.model.dtype if handover.model.dtype in DTYPES else "float32",
    }


def _schedule(phase: PhaseRecord) -> dict[str, Any]:
    ((name, values),) = phase.schedule.items()
    schedule = {
        "warmup_steps": phase.warmup_steps,
        "decay_type": {"wsd": "sqrt"}.get(name, name),
        "min_lr_factor": float(values["final_factor"]),
    }
    if name == "wsd":
        schedule["decay_ratio"] = decay_steps(phase) / phase.steps
    return schedule


def _limits(handover: Handover) -> list[str]:
    limits = ["the rates differ by one step of warm-up and decay from lingraft's in each step"]
    phases = handover.plan.phases
    if any(one.learning_rates.added_rows != one.learning_rates.body for one in phases):
        limits.append(
            "the nearest to a learning rate of the added rows is one for embeddings and head: the "
            "base's own rows train at it too, as with `differential: {base_rows: added_rows}`, "
            "and that forgets more"
        )
    if handover.model.tied:
        limits.append(
            "on several GPUs, torchtitan separates the head from the embeddings before it shards "
            "them, and saves the embeddings alone: train on one"
        )
    if any(phase.average_steps for phase in phases):
        limits.append("the weights are not averaged over the last steps")
    return limits


_TRAIN = f"PYTHONPATH=. torchrun --nproc-per-node 1 -m torchtitan.train --module {MODULE}"
# Chat templates with names are in a folder.
_COPY_TEXT = "find model/* -prune ! -name '*.safetensors*' -exec cp -R {}"
_MODULE = '''\
"""Trains the model of this folder with torchtitan. Written by lingraft {version}.

    PYTHONPATH=. torchrun --nproc-per-node 1 -m torchtitan.train --module handover_titan \\\\
        --config phase1
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import load_from_disk
from torch.utils.data import IterableDataset
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.components.dataloader import ParallelAwareDataloader
from torchtitan.components.loss import IGNORE_INDEX, CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import (
    LRSchedulersContainer,
    OptimizersContainer,
    ParamGroupConfig,
)
from torchtitan.config import DebugConfig, TrainingConfig
from torchtitan.experiments.transformers_modeling_backend import model_registry
from torchtitan.experiments.transformers_modeling_backend.configs import TransformersBackendConfig

FOLDER = Path(__file__).resolve().parent
EMBEDDINGS = r"embed_tokens|lm_head"


class Sequences(IterableDataset):
    """The sequences in the order of training, of which every process takes its part of a step."""

    def __init__(self, rows, sequence_length, rank, processes, count, padding):
        self.rows, self.length, self.padding = rows, sequence_length, padding
        self.rank, self.processes, self.count = rank, processes, count
        self.position = 0

    def __iter__(self):
        while self.position < self.count:
            index = self.position + self.rank
            self.position += self.processes
            yield self._sample(index)

    def _sample(self, index):
        # The last step may have fewer sequences: the others have no labels.
        row = self.rows[index] if index < len(self.rows) else {{"input_ids": [], "labels": []}}
        positions = row.get("position_ids", range(self.length))
        columns = (
            (row["input_ids"][:-1], self.padding),
            (row["labels"][1:], IGNORE_INDEX),
            (list(positions)[: max(len(row["input_ids"]) - 1, 0)], 0),
        )
        ids, labels, places = (
            torch.tensor([*values, *[fill] * (self.length - len(values))])
            for values, fill in columns
        )
        return {{"input": ids, "positions": places}}, labels

    def state_dict(self):
        return {{"position": self.position}}

    def load_state_dict(self, state):
        self.position = state["position"]


class SequenceLoader(ParallelAwareDataloader):
    """Reads a data set of the hand-over."""

    @dataclass(kw_only=True, slots=True)
    class Config(ParallelAwareDataloader.Config):
        path: str = ""
        count: int = 0
        padding: int = 0

    def __init__(
        self, config, *, dp_world_size, dp_rank, seq_len, local_batch_size, **_others
    ):
        rows = load_from_disk(str(FOLDER / config.path))
        sequences = Sequences(rows, seq_len, dp_rank, dp_world_size, config.count, config.padding)
        super().__init__(sequences, dp_rank, dp_world_size, batch_size=local_batch_size)


def configuration(
    *,
    model,
    data,
    output,
    flavor,
    padding,
    seed,
    sequence_length,
    sequences_per_step,
    sequences_at_once,
    steps,
    body,
    embeddings,
    adamw,
    max_grad_norm,
    schedule,
    dtype,
):
    """Return the configuration of a phase."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # As many sequences of a process at once as divide its part of a step.
    of_process = max(1, sequences_per_step // processes)
    at_once = min(sequences_at_once, of_process)
    while of_process % at_once:
        at_once -= 1
    groups = [
        ParamGroupConfig(
            pattern=pattern, optimizer_name="AdamW", optimizer_kwargs={{"lr": rate, **adamw}}
        )
        for pattern, rate in ((EMBEDDINGS, embeddings), (".*", body))
    ]
    return TransformersBackendConfig(
        hf_model=str(FOLDER / model),
        hf_assets_path=str(FOLDER / "model"),
        dump_folder=str(FOLDER / output),
        model_spec=model_registry(flavor),
        loss=CrossEntropyLoss.Config(),
        debug=DebugConfig(seed=seed),
        optimizer=OptimizersContainer.Config(param_groups=groups),
        lr_scheduler=LRSchedulersContainer.Config(**schedule),
        training=TrainingConfig(
            local_batch_size=at_once,
            global_batch_size=sequences_per_step,
            seq_len=sequence_length,
            max_norm=float("inf") if max_grad_norm is None else max_grad_norm,
            steps=steps,
        ),
        dataloader=SequenceLoader.Config(
            path=data, count=steps * sequences_per_step, padding=padding
        ),
        metrics=MetricsProcessor.Config(log_freq=1),
        checkpoint=CheckpointManager.Config(
            enable=True,
            interval=max(50, steps // 10),
            initial_load_path=str(FOLDER / model),
            initial_load_in_hf=True,
            last_save_in_hf=True,
            export_dtype=dtype,
        ),
    )
'''
_PHASE = """

def phase{number}():
    return configuration(
{arguments}
    )
"""
ENGINE = Engine("torchtitan", "torchtitan", ("sequences",), configure, refusal=refuse)
