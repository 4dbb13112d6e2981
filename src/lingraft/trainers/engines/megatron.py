"""Megatron-LM: a script that trains, and one that converts the model in both directions.

Megatron-LM makes its own samples: it shuffles documents, cuts them into sequences of its own, and
blends target and replay text by shares of samples. It rounds the number of embedding rows up to a
multiple, which is chosen here so that the rows are those of the model.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.bases.folder import read_config
from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines.phase_files import phase_models, phase_name
from lingraft.trainers.engines.transformers_settings import (
    decay_steps,
    plan_limits,
    refuse_frozen,
    save_interval,
    sequences_at_once,
)
from lingraft.trainers.manifest import Handover, PhaseRecord
from lingraft.training import TrainingPlan

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DENSE = ("llama", "mistral", "qwen2", "qwen3")
"""The model types whose architecture is written as flags."""

LLAMA3_SCALING = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What --use-rope-scaling of Megatron-LM computes with; only the factor has a flag."""


def refuse(plan: TrainingPlan) -> str:
    """Return why Megatron-LM cannot train a plan, "" if it can."""
    if plan.packing.layout == "documents":
        return (
            "training.packing.layout is documents, and Megatron-LM fills every sequence: the same "
            "steps would train on more text than the budget; set training.packing.layout: stream"
        )
    for phase in plan.phases:
        if phase.optimizer != "adamw":
            return f"training.optimizer is {phase.optimizer}; Megatron-LM has adamw, so set that"
    return refuse_frozen(plan)


def configure(handover: Handover, folder: Path) -> EngineFiles:
    """Return the scripts of all phases, and the script that converts."""
    phases, config = handover.plan.phases, read_config(folder / "model")
    files = {"convert.py": _convert(handover)}
    launch = ["pip install megatron-bridge lingraft", "python convert.py import model"]
    for number in range(len(phases)):
        name = phase_name("megatron", ".sh", number, len(phases))
        files[name] = _script(handover, config, number)
        launch.append(f"MEGATRON=path/to/Megatron-LM bash {name}")
    launch.append("python convert.py export trained")
    limits = (*plan_limits(handover), *_limits(handover, config))
    return EngineFiles(files, limits, tuple(launch))


def _convert(handover: Handover) -> str:
    return _CONVERT.format(
        version=handover.lingraft,
        end=handover.model.separators.after,
        folder=_TOKENIZER,
        code="".join(f", {name}={value}" for name, value in handover.code_option.items()),
    )


def _script(handover: Handover, config: Mapping[str, Any], number: int) -> str:
    architecture = architecture_flags(config, tied=handover.model.tied)
    return _SCRIPT.format(
        version=handover.lingraft,
        architecture=_written(architecture),
        training=_written(training_flags(handover, number)),
    )


def _written(flags: Mapping[str, Any]) -> str:
    """Return flags as lines of a bash array: True for one without a value, a tuple for several."""
    lines = []
    for name, value in flags.items():
        values = value if isinstance(value, tuple) else (value,)
        words = [] if value is True else [shlex.quote(str(one)) for one in values]
        lines.append(" ".join([f"    --{name}", *words]))
    return "\n".join(lines)


def vocabulary_divisor(tokens: int, rows: int) -> int:
    """Return the smallest multiple to which Megatron must round `tokens` up to get `rows`.

    >>> vocabulary_divisor(151_665, 151_936), vocabulary_divisor(340, 384), vocabulary_divisor(8, 8)
    (1187, 48, 1)
    """
    divisors = (size for size in range(rows - tokens + 1, rows + 1) if rows % size == 0)
    return next(divisors)


def training_flags(handover: Handover, number: int) -> dict[str, Any]:
    """Return the flags of data, batch, optimizer and schedule of a phase (from 0)."""
    plan, phase, model = handover.plan, handover.plan.phases[number], handover.model
    start, trained = phase_models(number, len(plan.phases))
    rates, (beta1, beta2) = phase.learning_rates, phase.betas
    flags: dict[str, Any] = {
        # A checkpoint in `load` precedes the model to start from: a stopped training continues.
        "pretrained-checkpoint": f"megatron-{start}",
        "load": f"megatron-{trained}",
        "save": f"megatron-{trained}",
        "save-interval": save_interval(phase),
        "train-data-path": _blend(handover, number),
        "tokenizer-type": "HuggingFaceTokenizer",
        "tokenizer-model": _TOKENIZER,
        "make-vocab-size-divisible-by": vocabulary_divisor(model.tokens, model.rows),
        "seq-length": plan.sequence_length,
        "micro-batch-size": sequences_at_once(handover, phase),
        "global-batch-size": phase.sequences_per_step,
        "train-iters": phase.steps,
        "optimizer": "adam",
        "lr": rates.body,
        "adam-beta1": beta1,
        "adam-beta2": beta2,
        "adam-eps": phase.epsilon,
        "weight-decay": phase.weight_decay,
        "clip-grad": phase.max_grad_norm or 0.0,  # 0 turns clipping off
        # Megatron-LM refuses the seed 0.
        "seed": plan.seed or 1234,
        "bf16": True,
        "log-interval": 1,
        "eval-iters": 0,
        **_schedule_flags(phase),
    }
    if rates.added_rows != rates.body:
        flags["decoupled-lr"] = rates.added_rows
        flags["decoupled-min-lr"] = rates.added_rows * _final_factor(phase)
    return flags


def _blend(handover: Handover, number: int) -> tuple[str, ...]:
    """Return the weight and the path of each data set of a phase."""
    words: list[str] = []
    for data in handover.training_data("megatron"):
        if data.weights[number]:
            words += [f"{data.weights[number]:.6g}", data.path]
    return tuple(words)


def _final_factor(phase: PhaseRecord) -> float:
    (values,) = phase.schedule.values()
    return float(values.get("final_factor", 0.0))


def _schedule_flags(phase: PhaseRecord) -> dict[str, Any]:
    ((name, _values),) = phase.schedule.items()
    flags = {
        "lr-decay-style": {"wsd": "WSD"}.get(name, name),
        "lr-decay-iters": phase.steps,
        "lr-warmup-iters": phase.warmup_steps,
        "min-lr": phase.learning_rates.body * _final_factor(phase),
    }
    if name == "wsd":
        flags |= {"lr-wsd-decay-style": "minus_sqrt", "lr-wsd-decay-iters": decay_steps(phase)}
    return flags


def why_no_flags(config: Mapping[str, Any]) -> str:
    """Return what of an architecture Megatron-LM has no flag for, "" if it has all of them.

    A flag that is missing would make Megatron-LM train another model without a word.
    """
    kind = config["model_type"]
    return _unknown_setting(_complete(config)) if kind in DENSE else str(kind)


def _unknown_setting(config: PretrainedConfig) -> str:
    kind = config.model_type
    for setting in ("attention_bias", "mlp_bias"):
        # Only the biases of Qwen2's queries, keys and values have a flag; they have no setting.
        if getattr(config, setting, False):
            return f"{setting} true"
    if config.hidden_act != "silu":
        return f"hidden_act {config.hidden_act}"
    if kind != "mistral" and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "use_sliding_window true"
    return _unknown_rope(config.rope_parameters)


def _unknown_rope(rope: Mapping[str, Any]) -> str:
    """Return what of the rotary embedding has no flag, "" if there is nothing."""
    kind, base = rope["rope_type"], rope["rope_theta"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return f"partial_rotary_factor {rope['partial_rotary_factor']:g}"
    if base != int(base):
        return f"rope_theta {base}"
    if kind == "llama3":
        for name, value in LLAMA3_SCALING.items():
            if rope[name] != value:
                return f"{name} {rope[name]:g} of rope_type llama3"
        return ""
    return "" if kind == "default" else f"rope_type {kind}"


def architecture_flags(config: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    """Return the flags of a dense model like Llama, none if they cannot say all of it.

    >>> config = {"model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 8,
    ...     "intermediate_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    ...     "rope_theta": 1e6}
    >>> flags = architecture_flags(config, tied=True)
    >>> flags["num-query-groups"], flags["rotary-base"], "add-qkv-bias" in flags
    (2, 1000000, True)
    >>> architecture_flags({"model_type": "gemma2"}, tied=True)
    {}
    """
    if why_no_flags(config):
        return {}
    full = _complete(config)
    heads, rope = full.num_attention_heads, full.rope_parameters
    flags = {
        "num-layers": full.num_hidden_layers,
        "hidden-size": full.hidden_size,
        "ffn-hidden-size": full.intermediate_size,
        "num-attention-heads": heads,
        "kv-channels": getattr(full, "head_dim", None) or full.hidden_size // heads,
        "group-query-attention": True,
        "num-query-groups": full.num_key_value_heads or heads,
        "max-position-embeddings": full.max_position_embeddings,
        "position-embedding-type": "rope",
        "rotary-base": int(rope["rope_theta"]),
        "normalization": "RMSNorm",
        "norm-epsilon": full.rms_norm_eps,
        "swiglu": True,
        "disable-bias-linear": True,
        "attention-dropout": full.attention_dropout,
        "hidden-dropout": 0.0,
    }
    if not tied:
        flags["untie-embeddings-and-output-weights"] = True
    kind = full.model_type
    flags |= {"qwen2": {"add-qkv-bias": True}, "qwen3": {"qk-layernorm": True}}.get(kind, {})
    if rope["rope_type"] == "llama3":
        flags |= {"use-rope-scaling": True, "rope-scaling-factor": rope["factor"]}
    if kind == "mistral" and full.sliding_window:
        # transformers counts the token itself, Megatron-LM only those before it.
        flags["window-size"] = f"{full.sliding_window - 1},0"
    return flags


def _complete(config: Mapping[str, Any]) -> PretrainedConfig:
    """Return the content of config.json with the defaults of transformers."""
    from transformers import AutoConfig

    settings = deepcopy(dict(config))  # transformers adds to the mappings in it
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def _limits(handover: Handover, config: Mapping[str, Any]) -> list[str]:
    plan = handover.plan
    limits = [
        (
            "Megatron-LM makes its own samples from the documents, so its batches differ from "
            "those of lingraft; target and replay text are blended by their shares of samples"
        ),
        "biases and norms have no weight decay, and the warm-up is one step late",
    ]
    if handover.model.dtype != "bfloat16":
        limits.append(
            f"the trained weights are in bfloat16, and those of the source in "
            f"{handover.model.dtype}"
        )
    rates = [phase.learning_rates for phase in plan.phases]
    if any(one.added_rows != one.body for one in rates):
        limits.append(
            "--decoupled-lr is the nearest to a learning rate of the added rows: the base's own "
            "rows train at it too, as with `differential: {base_rows: added_rows}`, and that "
            "forgets more"
        )
    if reason := why_no_flags(config):
        limits.append(
            f"the flags of the architecture ({reason}) are not written: put them into "
            f"ARCHITECTURE in megatron.sh"
        )
    if not plan.seed:
        limits.append("the seed is 1234, because Megatron-LM refuses 0")
    if any(phase.average_steps for phase in plan.phases):
        limits.append("the weights are not averaged over the last steps")
    return limits


_TOKENIZER = "megatron-tokenizer"
_SCRIPT = """\
#!/usr/bin/env bash
# Trains the model of this folder with Megatron-LM. Written by lingraft {version}.
#
#     MEGATRON=path/to/Megatron-LM GPUS=1 bash megatron.sh
#
# `python convert.py import model` must have run. After a stop, the same command continues from the
# last checkpoint. The global batch must be a multiple of the micro
# batch times the data-parallel GPUs. With tensor parallelism over N GPUs, divide
# --make-vocab-size-divisible-by by N: Megatron-LM multiplies it.
set -euo pipefail
cd "$(dirname "$0")"

ARCHITECTURE=(
{architecture}
)
TRAINING=(
{training}
)
torchrun --nproc-per-node "${{GPUS:-1}}" "$MEGATRON/pretrain_gpt.py" \\
    "${{ARCHITECTURE[@]}}" "${{TRAINING[@]}}" --ckpt-format torch_dist "$@"
"""

_CONVERT = '''\
"""Converts the model with Megatron-Bridge. Written by lingraft {version}.

    python convert.py import model      # model/ -> megatron-model/, and megatron-tokenizer/
    python convert.py export trained    # megatron-trained/ -> trained/
"""

import sys

from megatron.bridge import AutoBridge
from transformers import AutoTokenizer

DOCUMENT_END = {end!r}

action, name = sys.argv[1:]
if action == "import":
    AutoBridge.import_ckpt(name, f"megatron-{{name}}"{code})
    # Megatron-LM replaces the id of PAD by 0, without a label, and takes EOS as the end of
    # documents. Often PAD is the separator, or both are the end of a turn.
    tokenizer = AutoTokenizer.from_pretrained(name{code})
    tokenizer.pad_token = None
    if DOCUMENT_END is not None:
        tokenizer.eos_token = DOCUMENT_END
    tokenizer.save_pretrained("{folder}")
elif action == "export":
    AutoBridge.from_hf_pretrained("model"{code}).export_ckpt(f"megatron-{{name}}", name)
else:
    sys.exit(f"{{action}}: expected import or export")
'''
ENGINE = Engine(
    "megatron",
    "Megatron-LM",
    ("megatron",),
    configure,
    refusal=refuse,
    # NVIDIA/Megatron-LM, issue 2357.
    mixes_documents="Megatron-LM's layers of Transformer Engine ignore --reset-attention-mask",
)
