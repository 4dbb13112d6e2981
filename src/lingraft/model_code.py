"""Code that a model brings (`auto_map` in config.json): left out, unless a recipe permits it, file by file.

A recipe says `trust_remote_code: true` far above the functions that load models. What passes between them is the
SHA-256 of each permitted file: its copies in the store and in run folders are the same code wherever they lie, and a
file that differs in one byte is refused, whoever put it there. Nothing is permitted for longer than the process runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError
from lingraft.store import file_digest

PATTERN = "*.py"
OF_TOKENIZER = "tokenizer_as_it_stands.py"
"""Written beside tokenizers by lingraft itself, and never run by it: it loads tokenizers without code."""

_permitted: set[str] = set()


def code_files(folder: Path) -> list[Path]:
    """Return the files of code in a model folder, by name."""
    return sorted(
        path for path in folder.glob(PATTERN) if path.is_file() and path.name != OF_TOKENIZER
    )


def permit(folder: Path) -> None:
    """Let the code of a model folder run in this process; raises `ModelError` where some of it lies elsewhere."""
    config = folder / "config.json"
    named = _config(folder).get("auto_map")
    if not isinstance(named, dict):
        msg = f"{config}: the model brings no code (no auto_map); leave `trust_remote_code` out of the recipe"
        raise ModelError(msg)
    missing = {name.partition(".")[0] for name in map(str, named.values())} - {
        file.stem for file in code_files(folder)
    }
    if missing:
        msg = (
            f"{config}: the model's code lies elsewhere ({', '.join(sorted(missing))}), where no revision pins it; "
            "fetch those files into the model's folder, and name them in auto_map without a repository"
        )
        raise ModelError(msg)
    _permitted.update(file_digest(path) for path in code_files(folder))


def permitted(folder: Path) -> bool:
    """Say whether a model brings code, all of which was permitted."""
    files = code_files(folder)
    return (
        bool(files)
        and "auto_map" in _config(folder)
        and all(file_digest(path) in _permitted for path in files)
    )


def trust(folder: Path) -> dict[str, bool]:
    """Return the settings with which transformers loads a model folder: its own code runs where all was permitted.

    Raises `ModelError` for a model that cannot be had without code that nobody permitted.
    """
    if not permitted(folder):
        check_without(_config(folder), folder)
    return as_permitted(folder)


def as_permitted(folder: Path) -> dict[str, bool]:
    """Return the setting with which transformers loads a folder: its code runs only where all of it was permitted."""
    return {"trust_remote_code": permitted(folder)}


def check_without(config: Mapping[str, Any], folder: Path) -> None:
    """Raise `ModelError` where a model brings code and transformers has no architecture of that type."""
    if "auto_map" not in config:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        msg = (
            f"{folder / 'config.json'}: the model brings code of its own (auto_map) and transformers has no "
            f"{config.get('model_type')!r}; read that code, then permit it in a recipe: "
            "model: {folder: {path: ..., trust_remote_code: true}}, "
            "or {hub: {id: ..., revision: COMMIT, trust_remote_code: true}}"
        )
        raise ModelError(msg)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # whoever loads the folder says what is wrong with it
    return config if isinstance(config, dict) else {}
