"""Loading a model folder to run it, not to train it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.checkpoint.model_class import auto_class, read_model_config
from lingraft.checkpoint.text_reading import read_text_alone
from lingraft.checkpoint.weight_checks import check_finite_model
from lingraft.errors import ModelError
from lingraft.model_code import trust


def load_model(folder: Path, device: str = "cpu", dtype: str = "auto") -> Any:
    """Load a model folder to run it; bfloat16 and float16 weights run in float32 on a CPU.

    Raises `ModelError` where the folder is no model, or a weight of it is NaN or inf.
    """
    import torch

    if dtype == "auto" and not str(device).startswith("cuda"):
        dtype = "float32"  # half precision without hardware for it is ten times slower, and less exact
    try:
        wanted = dtype if dtype == "auto" else getattr(torch, dtype)
        model = auto_class(read_model_config(folder), folder).from_pretrained(
            folder, dtype=wanted, **trust(folder))
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder}: cannot be loaded as a causal language model ({' '.join(str(error).split())[:200]})"
        raise ModelError(msg) from error
    model = model.to(device).eval()
    check_finite_model(model, folder)
    return read_text_alone(model, folder)
