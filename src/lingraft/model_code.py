"""Python code in a model folder (`auto_map` in config.json): it runs only if a recipe permits it.

A recipe permits it with `trust_remote_code: true`. A permitted file is identified by its SHA-256
digest, so its copies in the store and in run folders are permitted as well, and a file that differs
in one byte is refused. A permission lasts as long as the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError
from lingraft.store import file_digest

PATTERN = "*.py"
# A file that lingraft writes next to tokenizers and never runs itself.
OF_TOKENIZER = "tokenizer_as_it_stands.py"

_permitted: set[str] = set()


class CodeNotPermittedError(ModelError):
    """A model needs its own code, which no recipe has permitted in this process."""


def code_files(folder: Path) -> list[Path]:
    """Return the Python files of a model folder, sorted by name."""
    return sorted(
        path for path in folder.glob(PATTERN) if path.is_file() and path.name != OF_TOKENIZER
    )


def permit(folder: Path) -> None:
    """Permit the code of a model folder to run in this process.

    Raises `ModelError` if the model has no code, or if some of it is in another repository.
    """
    config = folder / "config.json"
    named = _config(folder).get("auto_map")
    if not isinstance(named, dict):
        msg = f"{config}: the model has no code (no auto_map); remove `trust_remote_code`"
        raise ModelError(msg)
    modules = {str(name).partition(".")[0] for name in named.values()}
    missing = modules - {file.stem for file in code_files(folder)}
    if missing:
        # Code in another repository is not pinned by the revision of the model.
        msg = (
            f"{config}: the model's code is in another repository ({', '.join(sorted(missing))}), "
            "at no fixed revision; copy those files into the model folder, and name them in "
            "auto_map without a repository"
        )
        raise ModelError(msg)
    _permitted.update(file_digest(path) for path in code_files(folder))


def is_permitted(folder: Path) -> bool:
    """Return whether a model has code and all of it was permitted."""
    files = code_files(folder)
    return (
        bool(files)
        and "auto_map" in _config(folder)
        and all(file_digest(path) in _permitted for path in files)
    )


def checked_trust_option(folder: Path) -> dict[str, bool]:
    """Return `trust_option(folder)`.

    Raises `CodeNotPermittedError` for a model that needs code that was not permitted.
    """
    if not is_permitted(folder):
        check_loads_without_code(_config(folder), folder)
    return trust_option(folder)


def trust_option(folder: Path | None) -> dict[str, bool]:
    """Return the option for `from_pretrained`: code runs only if all of it was permitted.

    Without a folder none runs.
    """
    return _option(trusted=folder is not None and is_permitted(folder))


def _option(*, trusted: bool) -> dict[str, bool]:
    return {"trust_remote_code": trusted}


def recipe_permits(model: Mapping[str, Any]) -> bool:
    """Return whether the `model` of a recipe permits code.

    >>> recipe_permits({"folder": {"path": "base", "trust_remote_code": True}})
    True
    >>> recipe_permits({"random": {}})
    False
    """
    return any(settings.get("trust_remote_code") is True for settings in model.values())


def option_of_trainers(model: Mapping[str, Any]) -> dict[str, bool]:
    """Return the option with which a trainer runs the code that a recipe permits; else nothing.

    transformers, Axolotl, LLaMA-Factory and Megatron Bridge all give it the same name.
    """
    return _option(trusted=True) if recipe_permits(model) else {}


def check_loads_without_code(config: Mapping[str, Any], folder: Path) -> None:
    """Raise `CodeNotPermittedError` if transformers lacks the architecture of a model with code."""
    if "auto_map" not in config:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        msg = (
            f"{folder / 'config.json'}: the model has its own code (auto_map) and transformers has "
            f"no {config.get('model_type')!r}; read that code, then permit it in a recipe: "
            "model: {folder: {path: ..., trust_remote_code: true}}, "
            "or {hub: {id: ..., revision: COMMIT, trust_remote_code: true}}"
        )
        raise CodeNotPermittedError(msg)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # loading the folder reports the problem
    return config if isinstance(config, dict) else {}
