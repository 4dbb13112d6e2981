"""Write a PEFT adapter: what a run trained, with its tokenizer.

PEFT is applied to a model on the meta device, which gives the names and shapes of its tensors
without reading the weights of the base. The trained tensors are then stored under these names. The
write is atomic. The package `peft` is an optional extra, so it is imported in the functions that
use it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lingraft.checkpoint.config_files import COMPANION_FILES
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.errors import MissingExtraError, ModelError
from lingraft.export.trained_delta import TrainedDelta, read_trained_delta
from lingraft.model_card.markdown import front_matter, loading_class
from lingraft.model_code import recipe_permits
from lingraft.pipeline.export_limits import WHOLE_MODEL
from lingraft.pipeline.opening import describe_model
from lingraft.pipeline.run_folder import read_record
from lingraft.splice import Splice
from lingraft.store import atomic_folder, copy_matching, write_json
from lingraft.tokenizer import open_tokenizer

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
MADE_BY = "made with lingraft"
_USAGE = """
```python
from peft import PeftModel
from transformers import {loads_with}, AutoTokenizer

base = {loads_with}.from_pretrained({arguments})
base.resize_token_embeddings({rows}, mean_resizing=False)
model = PeftModel.from_pretrained(base, "THIS FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")
```

`model.merge_and_unload()` gives a plain model. Its logits equal those of the run's merged model up
to rounding: merging in half precision rounds the weights again.
"""


@dataclass(frozen=True)
class Adapter:
    """The written adapter; `rows` is the number of embedding rows that its base must have."""

    path: Path
    base: str
    rows: int
    rows_stored: int
    layers: int
    rank: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"for {self.base} with {self.rows:,} rows: {self.rows_stored:,} rows, "
            f"matrices of rank {self.rank} for {self.layers} linear layers"
        )


def export_peft(run: Path, folder: Path) -> Adapter:
    """Write a run as a folder for `peft.PeftModel.from_pretrained` with the resized base.

    Raises `MissingExtraError` without the package `peft`, and `ModelError` if an adapter cannot
    represent what the run trained.
    """
    try:
        import peft  # noqa: F401 - checked before anything is read
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", extra="lora") from error
    _check_replaceable(folder)
    record, delta = read_record(run), read_trained_delta(run, Splice.read(run))
    open_tokenizer(run / "model")  # the adapter needs it; raises if it is missing or damaged
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
        len(delta.layers),
        delta.rank,
        (folder / WEIGHTS).stat().st_size,
    )


def _check_replaceable(folder: Path) -> None:
    """Raise `ModelError` for a folder with content, unless lingraft wrote it: it is replaced.

    The output folder of a trainer has an adapter_config.json too, next to all of its checkpoints.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    readme = folder / "README.md"
    is_own = readme.is_file() and MADE_BY in readme.read_text(encoding="utf-8", errors="replace")
    if not (is_own and (folder / CONFIG).is_file()):
        msg = (
            f"{folder}: exists and is not an adapter of lingraft; choose another folder, or move "
            "this one away"
        )
        raise ModelError(msg)


def _base(record: Mapping[str, Any]) -> str:
    """Return the hub id or folder of the base; for a base that the run built, a description."""
    kind, settings = next(iter(record["recipe"]["model"].items()))
    return str(settings["path"]) if kind == "folder" else describe_model(record["recipe"]["model"])


def _write_adapter(delta: TrainedDelta, base: str, model_folder: Path, folder: Path) -> None:
    """Write adapter_config.json with sorted lists, and the tensors under PEFT's names."""
    import peft

    model = meta_model(read_model_config(model_folder), model_folder)
    model.tie_weights()  # PEFT stores the rows of tied matrices differently
    check_shared_layers(delta, model, folder)
    config = _config(delta, model)
    input_name = _name_of(model, model.get_input_embeddings())
    output_name = _name_of(model, model.get_output_embeddings())
    # PEFT warns of problems of training and merging, which do not happen here.
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        peft_model = peft.get_peft_model(model, config)
        expected = peft.get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    tensors = {}
    for name, placeholder in expected.items():
        tensor = _tensor(name.removeprefix(PREFIX), delta, input_name, output_name)
        if tensor.shape != placeholder.shape:
            msg = (
                f"{name}: the trained tensor has the shape {tuple(tensor.shape)}, but the model "
                f"expects {tuple(placeholder.shape)}; run `lingraft adapt` again"
            )
            raise ModelError(msg)
        # The rows of tied matrices have two names, and safetensors refuses shared memory.
        tensors[name] = tensor.clone()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    # `inference_mode` is what PEFT itself writes: loading then does not prepare for training.
    settings = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    for key, value in settings.items():
        if isinstance(value, set):  # JSON has no sets, and their order changes between processes
            settings[key] = sorted(value)
    write_json(folder / CONFIG, settings)


def check_shared_layers(delta: TrainedDelta, model: Any, folder: Path) -> None:
    """Raise `ModelError` if another layer has the weight of a trained one, as in Zamba.

    PEFT applies matrices to the named layers only, and merges those of each layer by itself.
    """
    trained = {id(model.get_submodule(name).weight): name for name in delta.layers}
    for name, module in model.named_modules():
        owner = trained.get(id(getattr(module, "weight", None)), name)
        if owner != name:
            msg = (
                f"{folder}: {name} shares the weight of {owner}, which PEFT would merge more than "
                f"once; {WHOLE_MODEL}"
            )
            raise ModelError(msg)


def _name_of(model: Any, module: Any) -> str:
    return next(str(name) for name, candidate in model.named_modules() if candidate is module)


def _config(delta: TrainedDelta, model: Any) -> Any:
    """Return PEFT's configuration: LoRA with trainable tokens, or trainable tokens alone."""
    import peft
    from transformers.pytorch_utils import Conv1D

    modules = [model.get_input_embeddings()]
    if delta.output is not None:
        modules.append(model.get_output_embeddings())
    full_names = [*(_name_of(model, module) for module in modules), *delta.tables]
    names = [name.rpartition(".")[-1] for name in full_names]
    ids = list(delta.ids)
    if not delta.layers:
        return peft.TrainableTokensConfig(
            task_type="CAUSAL_LM", token_indices=ids, target_modules=names
        )
    # GPT-2's Conv1D layers store their weights transposed.
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in delta.layers)
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=delta.rank,
        lora_alpha=delta.rank,  # a scale of 1: the scale of training is part of the matrices
        lora_dropout=0.0,
        target_modules=_targets(delta, model),
        fan_in_fan_out=transposed,
        trainable_token_indices=dict.fromkeys(names, ids) if ids else None,
    )


def _targets(delta: TrainedDelta, model: Any) -> list[str]:
    """Return the short names of the layers if no other module has them, else the full names."""
    # PEFT matches a name against the end of a module's full name. Short names keep the
    # configuration readable, but could match modules that were not trained.
    short_names = {name.rpartition(".")[-1] for name in delta.layers}
    matched = set()
    for name, _ in model.named_modules():
        if name.rpartition(".")[-1] in short_names:
            matched.add(name)
    return sorted(short_names if matched == delta.layers.keys() else delta.layers)


def _tensor(name: str, delta: TrainedDelta, input_name: str, output_name: str) -> Tensor:
    """Return the trained tensor for a name of PEFT."""
    for ending, index in ((".lora_A.weight", 0), (".lora_B.weight", 1)):
        if name.endswith(ending):
            return delta.layers[name.removesuffix(ending)][index]
    for table, rows in delta.tables.items():
        if name.startswith(f"{table}."):
            return rows
    if name.startswith(f"{input_name}."):
        return delta.input
    if name.startswith(f"{output_name}."):
        return delta.input if delta.output is None else delta.output
    msg = f"PEFT expects a tensor {name!r} that was not trained"
    raise ValueError(msg)


def _readme(record: Mapping[str, Any], base: str, delta: TrainedDelta) -> str:
    kind, settings = next(iter(record["recipe"]["model"].items()))
    arguments = f'"{base}"'
    if kind == "hub" and settings.get("revision"):
        arguments += f', revision="{settings["revision"]}"'
    if recipe_permits(record["recipe"]["model"]):
        arguments += ", trust_remote_code=True"
    content = f"{len(delta.ids):,} rows of the embeddings"
    if delta.layers:
        content += f", and matrices of rank {delta.rank} for {len(delta.layers)} linear layers"
    lines = [
        front_matter(record, library="peft"),
        f"# {record['name']}",
        "",
        f"A PEFT adapter for {base}, {MADE_BY}: {content}.",
        f"It needs its own tokenizer, which is here too, and a base with {delta.rows:,} rows.",
    ]
    if kind not in {"hub", "folder"}:
        lines += ["", f"The base is {base}; put its folder in place of the name below."]
    usage = _USAGE.format(loads_with=loading_class(record), arguments=arguments, rows=delta.rows)
    return "\n".join(lines) + "\n" + usage
