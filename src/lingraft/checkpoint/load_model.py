"""Load a model folder: to run it, to train it, or as shapes without weights.

Every model in lingraft is loaded here. All variants use the class that config.json names
(`model_class`), run the model's own code only where a recipe permits it (`model_code`), and refuse
weights with NaN or inf. `training.sharded_loading` loads one shard per process with the same
checks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.model_class import UNREADABLE, auto_class, read_model_config
from lingraft.checkpoint.safetensors_files import FLOATS, Checkpoint, torch_dtype
from lingraft.checkpoint.stored_names import stored_names
from lingraft.checkpoint.text_reading import read_text_alone
from lingraft.checkpoint.weight_checks import check_finite_model
from lingraft.errors import ModelError, RecipeError, did_you_mean, one_line
from lingraft.model_code import checked_trust_option

if TYPE_CHECKING:
    import torch


DTYPES = ("auto", "stored", "float32", "bfloat16", "float16", "float64")


def dtype_name(dtype: object) -> str:
    """Return one of `DTYPES`, for its name or a data type of torch; raises `RecipeError`."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        msg = f"dtype: {name!r} is not known; {did_you_mean(name, DTYPES)}"
        raise RecipeError(msg)
    return name


def load_model(folder: Path, device: str = "cpu", dtype: str = "auto") -> Any:
    """Load a model folder to run it, in evaluation mode.

    `dtype` is the name of a torch data type, "stored" for the one of the files, or "auto": the
    stored one on a GPU, float32 elsewhere. Raises `ModelError` where the folder holds no causal
    language model, or a weight is NaN or inf.
    """
    if dtype == "auto":
        # Half precision on a CPU is about ten times slower than float32, and less exact.
        dtype = "stored" if str(device).startswith("cuda") else "float32"
    model = _from_pretrained(folder, dtype).to(device).eval()
    check_finite_model(model, folder)
    return read_text_alone(model, folder)


def load_for_training(
    folder: Path, device: str = "cpu", dtype: str = "float32"
) -> tuple[Any, dict[str, torch.dtype]]:
    """Load a model folder to train it; return it with its `stored_dtypes`.

    `dtype` is "float32", or "stored" for the data types of the files.
    """
    model = _from_pretrained(folder, "stored")
    check_finite_model(model, folder)
    dtypes = stored_dtypes(model, folder)
    # Training reads each sequence once, so a key-value cache would only take memory.
    model.config.use_cache = False
    if dtype == "float32":
        model.float()
    return read_text_alone(model.to(device).train(), folder), dtypes


def meta_model(config: Any, folder: Path | None = None) -> Any:
    """Build the model of a configuration on the meta device: with shapes, without weights."""
    import torch

    with torch.device("meta"):
        return build_model(config, folder)


def build_model(
    config: Any, folder: Path | None = None, *, dtype: torch.dtype | None = None
) -> Any:
    """Build the model of a configuration; raise `ModelError` where transformers cannot.

    `folder` is the folder of the configuration: it may contain code, and errors name it.
    """
    where = folder / "config.json" if folder else Path("config.json")
    settings: dict[str, Any] = dict(checked_trust_option(folder)) if folder else {}
    if dtype is not None:
        settings["dtype"] = dtype
    model_class = auto_class(config, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model_class.from_config(config, **settings)
    except UNREADABLE as error:
        msg = f"{folder or where}: not a model that transformers can build ({one_line(error)})"
        raise ModelError(msg) from error


def stored_dtypes(model: Any, folder: Path) -> dict[str, torch.dtype]:
    """Return the data type of every parameter, and of every buffer that the files hold.

    transformers loads a few tensors in float32 that the files hold in 16 bits (the bias of
    DeepSeek's router). Here they have the data type of the files.
    """
    checkpoint = Checkpoint.open(folder)
    stored = stored_names(model, checkpoint.tensors)
    dtypes = {name: buffer.dtype for name, buffer in model.named_buffers() if name in stored}
    dtypes |= {name: parameter.dtype for name, parameter in model.named_parameters()}
    for name in dtypes.keys() & stored.keys():
        dtype = checkpoint.tensors[stored[name][0]].dtype
        if dtype in FLOATS and torch_dtype(dtype).itemsize < dtypes[name].itemsize:
            dtypes[name] = torch_dtype(dtype)
    return dtypes


def _from_pretrained(folder: Path, dtype: str) -> Any:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    # With "auto", transformers loads the data type of config.json or, without one, of the files.
    wanted = "auto" if dtype == "stored" else getattr(torch, dtype)
    model_class = auto_class(read_model_config(folder), folder)
    trusted = checked_trust_option(folder)
    try:
        # A model folder is complete, so nothing is downloaded.
        model, report = model_class.from_pretrained(
            folder,
            dtype=wanted,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            **trusted,
        )
    except UNREADABLE as error:
        # An ImportError too: weights that are quantised need other packages.
        reason = one_line(error)
        msg = f"{folder}: cannot be loaded as a causal language model ({reason})"
        raise ModelError(msg) from error
    _check_loaded(model, report, folder)
    return model


def _check_loaded(model: Any, report: Mapping[str, Any], folder: Path) -> None:
    """Raise `ModelError` for a weight that the files lack, or have in another shape.

    transformers gives such a weight random values, and only logs it.
    """
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    # Missing buffers are computed, for example the positions of old GPT-2 models.
    faults = [f"{name} is missing" for name in sorted(weights & set(report["missing_keys"]))]
    for name, stored, expected in sorted(report["mismatched_keys"]):
        faults.append(f"{name} has the shape {list(stored)}, not {list(expected)}")
    if faults:
        raise ModelError(describe_misfit(folder, faults))


def describe_misfit(folder: Path, faults: Sequence[str]) -> str:
    """Return the message that config.json and the weights do not belong together."""
    more = f", and {len(faults) - 1:,} more" if len(faults) > 1 else ""
    return (
        f"{folder}: config.json does not fit the weights: {faults[0]}{more}; use the config.json "
        "of these weights, or download the model again"
    )
