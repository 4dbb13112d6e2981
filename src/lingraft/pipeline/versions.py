"""Versions: one number for each kind of stage, and those of the installed packages.

The number of a stage is part of its key. Raise it when a change of the code changes what the stage
writes for the same settings and inputs: stored outputs of the earlier code are then not used.
"""

from __future__ import annotations

import platform
from importlib.metadata import version

STAGE_VERSIONS = {
    # Models, tokenizers and text that a recipe, a command or a diagnosis names.
    "source": 8,
    "tokenizer": 8,
    "advised model": 8,
    "corpus": 7,
    "blend": 2,
    "text": 3,
    # What a run builds from them.
    "vocabulary": 20,
    "embeddings": 14,
    "packing": 6,
    "training": 21,
    "received": 3,
    "merge-back": 2,
    "chat-vector": 4,
    # Checks, measurements and predictions.
    "evaluation-text": 4,
    "source-check": 2,
    "result-check": 1,
    "scoring": 7,
    "tasks": 6,
    "evaluation": 12,
    "prediction": 5,
    "probe": 5,
}
"""Name of a stage -> version of the code that builds it. Every stage has its entry here."""

PACKAGES = ("lingraft", "torch", "transformers", "tokenizers")


def package_versions() -> dict[str, str]:
    """Return the versions of lingraft, Python, torch, transformers and tokenizers.

    They are read from the metadata of the packages: importing torch takes seconds.
    """
    numbers = {package: version(package) for package in PACKAGES}
    return {"lingraft": numbers.pop("lingraft"), "python": platform.python_version(), **numbers}
