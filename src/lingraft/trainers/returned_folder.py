"""The folder that another engine wrote: its format, its files and its weights.

Only a Hugging Face checkpoint can be received: config.json and *.safetensors. The checkpoints that
engines write while they train are recognised by their files, and refused with the call that
converts them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from lingraft.bases.folder import check_generation_config, model_files, read_config
from lingraft.bases.weight_formats import check_not_quantised, check_weight_format
from lingraft.checkpoint.model_class import auto_class, read_model_config
from lingraft.checkpoint.safetensors_files import INDEX, SINGLE, Checkpoint
from lingraft.errors import ModelError
from lingraft.formatting import counted
from lingraft.store import cached_sha256, is_folder
from lingraft.trainers.returned_faults import FAULTS, Finding

TRAINER_STATE = "trainer_state.json"
"""The log of transformers' Trainer, which TRL, Axolotl and LLaMA-Factory write as well."""

CAUSAL = "AutoModelForCausalLM"

EMBEDDINGS = re.compile(r"\b(embed_tokens|wte|embed_in|word_embeddings|lm_head|embed_out)\b")
"""The names of embeddings and heads in the files of an adapter."""

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")

ENGINE_FILES = (
    (
        ("latest_checkpointed_iteration.txt", "iter_*", "mp_rank_*", "metadata.json"),
        "a checkpoint of Megatron",
        "AutoBridge.from_hf_pretrained({model}).export_ckpt({folder}, {output}) of Megatron Bridge",
    ),
    (
        ("pytorch_model_fsdp_*",),
        "a sharded checkpoint of FSDP",
        "accelerate merge-weights {folder}/pytorch_model_fsdp_0 {output}",
    ),
    (
        ("zero_to_fp32.py", "global_step*"),
        "a checkpoint of DeepSpeed",
        "python {folder}/zero_to_fp32.py {folder} {output} --safe_serialization",
    ),
    (
        ("*.distcp", ".metadata", "step-*/*.distcp"),
        "a distributed checkpoint (torchtitan, FSDP)",
        (
            "torchtitan's scripts/checkpoint_conversion/convert_to_hf.py {folder} {output} "
            "--hf_assets_path {model}, or train with checkpoint.last_save_in_hf"
        ),
    ),
)
"""Files in a folder, the kind of checkpoint that they show, and what converts it."""


def check_format(folder: Path, extended: Path) -> None:
    """Raise `ModelError` for a folder that is no Hugging Face checkpoint, with what converts it.

    `extended` is the model that was handed over, which converters and merging need.
    """
    if not is_folder(folder):
        msg = f"{folder}: no such folder; name the folder that the engine wrote its model to"
        raise ModelError(msg)
    if (folder / "adapter_config.json").is_file() and not list(folder.glob("model*.safetensors")):
        raise ModelError(_adapter(folder, extended))
    if not list(folder.glob("*.safetensors")):
        if reason := _other_format(folder, extended):
            msg = f"{folder}: {reason}"
            raise ModelError(msg)
        check_weight_format(folder)
        msg = f"{folder}: no weights; expected *.safetensors, as save_pretrained writes them"
        raise ModelError(msg)
    check_weight_format(folder)
    check_generation_config(folder)
    if (folder / "config.json").is_file():
        check_not_quantised(read_config(folder), folder)


def _other_format(folder: Path, extended: Path) -> str:
    """Return what a folder without safetensors holds and what to do, "" if that is not known."""
    output = folder.with_name(f"{folder.name}-hf")
    for patterns, kind, converter in ENGINE_FILES:
        if any(list(folder.glob(pattern)) for pattern in patterns):
            call = converter.format(folder=folder, output=output, model=extended)
            return f"{kind}, not of Hugging Face; convert it, then receive {output}: {call}"
    steps = sorted(folder.glob("checkpoint-*/config.json"), key=_step)
    if steps:
        return (
            f"holds {counted(len(steps), 'checkpoint')} of a trainer and no finished model; name "
            f"one, such as {steps[-1].parent}"
        )
    return ""


def _step(path: Path) -> int:
    digits = path.parent.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _adapter(folder: Path, extended: Path) -> str:
    """Return why an adapter is refused: it is of another size, or has to be merged first."""
    rows = sorted(set(_adapter_rows(folder)))
    wanted = set(_adapter_rows(extended))
    if rows and wanted and not wanted.issuperset(rows):
        return (
            f"{folder}: an adapter of a model with {rows[0]:,} embedding rows, while the model "
            f"that was handed over has {max(wanted):,} (adapter before the resize); train it from "
            f"{extended}"
        )
    output = folder.with_name(f"{folder.name}-merged")
    # With another class, the adapter of a multimodal model would find no layer of its names.
    is_known = (extended / "config.json").is_file()
    loads_with = auto_class(read_model_config(extended)).__name__ if is_known else CAUSAL
    code = (
        f"from transformers import {loads_with} as M; from peft import PeftModel as P; "
        f"P.from_pretrained(M.from_pretrained({json.dumps(str(extended))}), "
        f"{json.dumps(str(folder))}).merge_and_unload().save_pretrained({json.dumps(str(output))})"
    )
    return (
        f"{folder}: {FAULTS['adapter'].cause} (adapter_config.json); merge it, then receive "
        f"{output}: (pip install peft) python -c {shlex.quote(code)}"
    )


def _adapter_rows(folder: Path) -> Iterator[int]:
    """Yield the numbers of rows of whole embeddings and heads in a folder's files."""
    for file in sorted(folder.glob("*.safetensors")):
        for name, place in Checkpoint.open_files([file]).items():
            # The matrices of LoRA have the rank as their number of rows.
            if EMBEDDINGS.search(name) and "lora_" not in name and len(place.shape) == 2:
                yield place.shape[0]


def returned_digests(folder: Path) -> dict[str, str]:
    """Return the hash of every file that is received, by name."""
    files = [*model_files(folder), *filter(None, [find_trainer_state(folder)])]
    return {path.relative_to(folder).as_posix(): cached_sha256(path) for path in files}


def find_trainer_state(folder: Path) -> Path | None:
    """Return the log of transformers' Trainer in a folder, or in its last checkpoint."""
    steps = sorted(folder.glob(f"checkpoint-*/{TRAINER_STATE}"), key=_step, reverse=True)
    found = [path for path in (folder / TRAINER_STATE, *steps) if path.is_file()]
    return found[0] if found else None


def open_weights(folder: Path) -> tuple[Checkpoint, list[Finding]]:
    """Return the weights of a returned folder; an index that is missing is a finding.

    Raises `ModelError` if a file is missing or damaged, or if there are the files of two models.
    """
    files = [path for path in model_files(folder) if path.suffix == ".safetensors"]
    shards = list(filter(None, (_SHARD.search(path.name) for path in files)))
    if shards and (folder / SINGLE).is_file():
        msg = (
            f"{folder}: holds two models, {SINGLE} and {shards[0].string}, and transformers reads "
            "only the first; remove the one that is not to be received"
        )
        raise ModelError(msg)
    if (folder / INDEX).is_file() or len(files) == 1:
        return Checkpoint.open(folder), []
    if not shards:
        return Checkpoint.open(folder), []
    numbers, total = {int(shard[1]) for shard in shards}, int(shards[0][2])
    if missing := set(range(1, total + 1)) - numbers:
        msg = (
            f"{folder}: shard {min(missing)} of {total} is missing ({len(missing)} of them); copy "
            "the whole folder again"
        )
        raise ModelError(msg)
    tensors = Checkpoint.open_files(files)
    finding = Finding("missing index", INDEX, f"{total} shards without an index", "repaired")
    return Checkpoint(folder, tensors, None), [finding]
