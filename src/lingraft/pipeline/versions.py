"""The versions that a run was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("lingraft", "torch", "transformers", "tokenizers")


def versions() -> dict[str, str]:
    """Return the versions of lingraft, Python, torch, transformers and tokenizers, without importing them."""
    numbers = {package: version(package) for package in PACKAGES}
    return {"lingraft": numbers.pop("lingraft"), "python": platform.python_version(), **numbers}
