"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from typing import Any

from lingraft.training.mfu import SPEEDS, kind_of


def facts(command: str) -> dict[str, Any]:
    """Return card, driver, versions and the command.

    Call it in a process of its own, since it starts CUDA.
    """
    import torch
    import transformers

    found: dict[str, Any] = {
        "command": command,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CPU cores": os.cpu_count(),
        "machine": platform.platform(),
        "executable": sys.executable,
    }
    if not torch.cuda.is_available():
        return {"card": "none: a CPU", "cards": 0, **found}
    properties = torch.cuda.get_device_properties(0)
    kind = kind_of(properties.name)
    peak = (
        f"{SPEEDS[kind][0] / 1e12:,.0f} TFLOP/s, dense bfloat16, data sheet of the {kind}"
        if kind
        else "not known"
    )
    return {
        "card": properties.name,
        "cards": torch.cuda.device_count(),
        "memory, GiB": round(properties.total_memory / 2**30, 1),
        "driver": _driver(),
        "CUDA": torch.version.cuda,
        "peak": peak,
        "kind": kind,
        **found,
    }


def _driver() -> str:
    """Return the driver's version as nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        return "not known"
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "not known"
