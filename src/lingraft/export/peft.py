"""Write what a run trained as a PEFT adapter with its tokenizer, atomically.

PEFT names the tensors of the adapter, on a meta-device model without weights: the weights of the
base are not read, and memory stays far below the size of the model.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.config_files import copy_matching
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.errors import MissingExtraError, ModelError
from lingraft.export.trained_delta import TrainedDelta, read_trained_delta
from lingraft.pipeline.run_folder import read_record
from lingraft.pipeline.runner import describe_source
from lingraft.pipeline.stage_builders import COMPANION_FILES, read_splice
from lingraft.store import atomic_folder

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """An adapter that was written; `rows` are the embedding rows that its base must have."""

    path: Path
    base: str
    rows: int
    rows_stored: int
    maps: int
    rank: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"for {self.base} with {self.rows:,} rows: {self.rows_stored:,} rows, "
            f"matrices of rank {self.rank} for {self.maps} linear layers"
        )


def export_peft(run: Path, folder: Path) -> Adapter:
    """Write a run as a folder for `peft.PeftModel.from_pretrained` with the resized base.

    Raises `MissingExtraError` without the package `peft`, and `ModelError` where an adapter cannot
    represent what the run trained.
    """
    try:
        import peft  # noqa: F401 - checked before anything is read
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", extra="lora") from error
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        msg = (
            f"{folder}: exists and is not an adapter; choose another folder, or move this one away"
        )
        raise ModelError(msg)
    record, delta = read_record(run), read_trained_delta(run, read_splice(run))
    base = _base(record)
    with atomic_folder(folder, option="--peft") as draft:
        _write_adapter(delta, base, run / "model", draft)
        copy_matching(run / "model", draft, COMPANION_FILES)
        (draft / "README.md").write_text(_readme(record, base, delta), encoding="utf-8")
    return Adapter(
        folder,
        base,
        delta.rows,
        len(delta.ids),
        len(delta.maps),
        delta.rank,
        (folder / WEIGHTS).stat().st_size,
    )


def _base(record: Mapping[str, Any]) -> str:
    """Return the hub id or folder of the base; a description for a base that the run made."""
    kind, settings = next(iter(record["recipe"]["model"].items()))
    return str(settings["path"]) if kind == "folder" else describe_source(record["recipe"]["model"])


def _write_adapter(delta: TrainedDelta, base: str, model_folder: Path, folder: Path) -> None:
    """Write adapter_config.json with sorted lists, and the tensors under PEFT's names."""
    import peft
    import torch
    from safetensors.torch import save_file

    model = meta_model(read_model_config(model_folder), model_folder)
    model.tie_weights()
    config = _config(delta, model)
    sides = (
        _name_of(model, model.get_input_embeddings()),
        _name_of(model, model.get_output_embeddings()),
    )
    with (
        torch.device("meta"),
        warnings.catch_warnings(action="ignore"),
    ):  # PEFT's, on training and merging
        wanted = peft.get_peft_model_state_dict(
            peft.get_peft_model(model, config), save_embedding_layers=False
        )
    tensors = {name: _tensor(name.removeprefix(PREFIX), delta, *sides) for name in wanted}
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            expected = tuple(wanted[name].shape)
            msg = f"{name}: {tuple(tensor.shape)} was trained, while the model has {expected}"
            raise ModelError(msg)
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        {"format": "pt"},
    )
    settings = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    settings = {
        key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()
    }
    (folder / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _name_of(model: Any, module: Any) -> str:
    return next(str(name) for name, own in model.named_modules() if own is module)


def _config(delta: TrainedDelta, model: Any) -> Any:
    """Return PEFT's configuration: LoRA with trainable tokens, or trainable tokens alone."""
    import peft
    from transformers.pytorch_utils import Conv1D

    sides = [
        model.get_input_embeddings(),
        *([model.get_output_embeddings()] if delta.output is not None else []),
    ]
    names = [_name_of(model, side).rpartition(".")[-1] for side in sides]
    ids = list(delta.ids)
    if not delta.maps:
        return peft.TrainableTokensConfig(
            task_type="CAUSAL_LM", token_indices=ids, target_modules=names
        )
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in delta.maps)
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=delta.rank,
        lora_alpha=delta.rank,
        lora_dropout=0.0,
        target_modules=_targets(delta, model),
        fan_in_fan_out=transposed,
        trainable_token_indices=dict.fromkeys(names, ids) if ids else None,
    )


def _targets(delta: TrainedDelta, model: Any) -> list[str]:
    """Return the short names of the layers if no other module has them, else full names."""
    last = {name.rpartition(".")[-1] for name in delta.maps}
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[-1] in last}
    return sorted(last if meant == delta.maps.keys() else delta.maps)


def _tensor(name: str, delta: TrainedDelta, input_name: str, output_name: str) -> Tensor:
    """Return the trained tensor for a name of PEFT's."""
    for ending, which in ((".lora_A.weight", 0), (".lora_B.weight", 1)):
        if name.endswith(ending):
            return delta.maps[name.removesuffix(ending)][which]
    if name.startswith(f"{input_name}."):
        return delta.input
    if name.startswith(f"{output_name}."):  # PEFT stores the rows of tied matrices once per side
        return delta.input if delta.output is None else delta.output
    msg = f"PEFT expects a tensor {name!r} that was not trained"
    raise ValueError(msg)


def _readme(record: Mapping[str, Any], base: str, delta: TrainedDelta) -> str:
    kind = next(iter(record["recipe"]["model"]))
    front = [
        "---",
        "library_name: peft",
        f"language: {record['language']}",
        "pipeline_tag: text-generation",
        *([f"base_model: {base}"] if kind == "hub" else []),
        "---",
    ]
    revision = record["recipe"]["model"][kind].get("revision") if kind == "hub" else None
    named = f'"{base}"' + (f', revision="{revision}"' if revision else "")
    made = (
        ""
        if kind in {"hub", "folder"}
        else f"\nThe base is {base}; put its folder in place of the name below.\n"
    )
    brings = f"{len(delta.ids):,} rows of the embeddings" + (
        f", and matrices of rank {delta.rank} for {len(delta.maps)} linear layers"
        if delta.maps
        else ""
    )
    return "\n".join(
        [
            *front,
            "",
            f"# {record['name']}",
            "",
            f"A PEFT adapter for {base}, made with lingraft: {brings}.",
            f"It needs its own tokenizer, which is here too, and a base with {delta.rows:,} rows.",
            made,
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({named})",
            f"base.resize_token_embeddings({delta.rows}, mean_resizing=False)",
            'model = PeftModel.from_pretrained(base, "THIS FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")',
            "```",
            "",
            "`model.merge_and_unload()` gives a plain model. Logits are those of the run's merged",
            "model but for rounding: merging in half precision rounds the weights again.",
            "",
        ]
    )
