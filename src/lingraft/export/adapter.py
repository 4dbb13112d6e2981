"""Writing what a run learned as an adapter of PEFT beside its tokenizer; whole or absent.

The names of an adapter's tensors are asked of PEFT, with a model that has shapes and no weights: nothing of the base is
read, and nothing is as large as the model.
"""

from __future__ import annotations

import json
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.companions import copy_matching
from lingraft.checkpoint.model_class import meta_model, read_model_config
from lingraft.errors import MissingExtraError, ModelError
from lingraft.export.learned import Learned, learned_by
from lingraft.pipeline.making import BESIDE_WEIGHTS, read_splice
from lingraft.pipeline.run_folder import read_record
from lingraft.pipeline.running import describe_source
from lingraft.store import apply_umask, room_on_disk

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """An adapter that was written: the rows that its base has to have, how many it brings, the maps it adds to."""

    path: Path
    base: str
    rows: int
    rows_stored: int
    maps: int
    rank: int
    bytes: int

    def __str__(self) -> str:
        return (f"for {self.base} with {self.rows:,} rows: {self.rows_stored:,} rows, "
                f"matrices of rank {self.rank} beside {self.maps} maps")


def export_peft(run: Path, folder: Path) -> Adapter:
    """Write a run as a folder that `peft.PeftModel.from_pretrained` loads onto the base, resized to `rows`.

    Raises `MissingExtraError` without the package `peft`, and `ModelError` where what the run changed is no adapter.
    """
    try:
        import peft  # noqa: F401 - asked for before anything is read
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", extra="lora") from error
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        msg = f"{folder}: is there already and is no adapter; choose another folder, or move it away"
        raise ModelError(msg)
    record, learned = read_record(run), learned_by(run, read_splice(run))
    base = _base(record)
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    with room_on_disk(folder, option="--peft"):
        try:
            draft.mkdir(parents=True)
            _write_adapter(learned, base, run / "model", draft)
            copy_matching(run / "model", draft, BESIDE_WEIGHTS)
            (draft / "README.md").write_text(_readme(record, base, learned), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            apply_umask(draft)
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return Adapter(folder, base, learned.rows, len(learned.ids), len(learned.maps), learned.rank,
                   (folder / WEIGHTS).stat().st_size)


def _base(record: Mapping[str, Any]) -> str:
    """Return what loads the base: its hub id or folder; of one that was made by the run, only a description."""
    kind, settings = next(iter(record["recipe"]["model"].items()))
    return str(settings["path"]) if kind == "folder" else describe_source(record["recipe"]["model"])


def _write_adapter(learned: Learned, base: str, model_folder: Path, folder: Path) -> None:
    """Write the configuration, with its lists in order, and the tensors under the names that PEFT has for them."""
    import peft
    import torch
    from safetensors.torch import save_file

    model = meta_model(read_model_config(model_folder), model_folder)
    model.tie_weights()
    config = _config(learned, model)
    sides = _name_of(model, model.get_input_embeddings()), _name_of(model, model.get_output_embeddings())
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # of PEFT, to whoever trains or merges
        wanted = peft.get_peft_model_state_dict(peft.get_peft_model(model, config), save_embedding_layers=False)
    tensors = {name: _tensor(name.removeprefix(PREFIX), learned, *sides) for name in wanted}
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            msg = f"{name}: {tuple(tensor.shape)} was learned, while the model has {tuple(wanted[name].shape)}"
            raise ModelError(msg)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    settings = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (folder / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _name_of(model: Any, module: Any) -> str:
    return next(str(name) for name, own in model.named_modules() if own is module)


def _config(learned: Learned, model: Any) -> Any:
    """Return PEFT's configuration: low-rank matrices with rows beside them, or rows alone."""
    import peft
    from transformers.pytorch_utils import Conv1D

    sides = [model.get_input_embeddings(), *([model.get_output_embeddings()] if learned.output is not None else [])]
    names = [_name_of(model, side).rpartition(".")[-1] for side in sides]
    ids = list(learned.ids)
    if not learned.maps:
        return peft.TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=ids, target_modules=names)
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in learned.maps)
    return peft.LoraConfig(task_type="CAUSAL_LM", r=learned.rank, lora_alpha=learned.rank, lora_dropout=0.0,
                           target_modules=_targets(learned, model), fan_in_fan_out=transposed,
                           trainable_token_indices=dict.fromkeys(names, ids) if ids else None)


def _targets(learned: Learned, model: Any) -> list[str]:
    """Return the last names of the maps where these mean no other module, as people write them, else the full ones."""
    last = {name.rpartition(".")[-1] for name in learned.maps}
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[-1] in last}
    return sorted(last if meant == learned.maps.keys() else learned.maps)


def _tensor(name: str, learned: Learned, input_name: str, output_name: str) -> Tensor:
    """Return the tensor that PEFT has a name for."""
    for ending, which in ((".lora_A.weight", 0), (".lora_B.weight", 1)):
        if name.endswith(ending):
            return learned.maps[name.removesuffix(ending)][which]
    if name.startswith(f"{input_name}."):
        return learned.input
    if name.startswith(f"{output_name}."):  # beside tied matrices, PEFT stores the rows alone once for each side
        return learned.input if learned.output is None else learned.output
    msg = f"PEFT has a tensor {name!r}, for which nothing was learned"
    raise ValueError(msg)


def _readme(record: Mapping[str, Any], base: str, learned: Learned) -> str:
    kind = next(iter(record["recipe"]["model"]))
    front = ["---", "library_name: peft", f"language: {record['language']}", "pipeline_tag: text-generation",
             *([f"base_model: {base}"] if kind == "hub" else []), "---"]
    revision = record["recipe"]["model"][kind].get("revision") if kind == "hub" else None
    named = f'"{base}"' + (f', revision="{revision}"' if revision else "")
    made = "" if kind in {"hub", "folder"} else f"\nThe base is {base}; put its folder in place of the name below.\n"
    brings = f"{len(learned.ids):,} rows of the embeddings" + (
        f", and matrices of rank {learned.rank} beside {len(learned.maps)} maps" if learned.maps else "")
    return "\n".join([
        *front, "", f"# {record['name']}", "",
        f"An adapter of PEFT for {base}, made with lingraft: {brings}. It needs its own tokenizer, which is here",
        f"too, and a base with {learned.rows:,} rows.", made,
        "```python", "from peft import PeftModel", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        f"base = AutoModelForCausalLM.from_pretrained({named})",
        f"base.resize_token_embeddings({learned.rows}, mean_resizing=False)",
        'model = PeftModel.from_pretrained(base, "THIS FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")', "```", "",
        "`model.merge_and_unload()` gives a plain model again. Logits are those of the run's merged model, but for",
        "rounding: a merged model of half precision rounds its weights once more.", ""])
