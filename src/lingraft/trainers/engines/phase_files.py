"""Files and folders of the phases: names, and settings as YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from lingraft.trainers.engine import EngineFiles


def phase_name(stem: str, suffix: str, number: int, phases: int) -> str:
    """Return the name of the file of a phase (from 0); a single phase needs no number.

    >>> phase_name("axolotl", ".yaml", 0, 1), phase_name("axolotl", ".yaml", 1, 2)
    ('axolotl.yaml', 'axolotl-2.yaml')
    """
    return f"{stem}{suffix}" if phases == 1 else f"{stem}-{number + 1}{suffix}"


def phase_models(number: int, phases: int) -> tuple[str, str]:
    """Return the folders of the model that a phase (from 0) starts from and of its result.

    >>> phase_models(0, 1), phase_models(0, 2), phase_models(1, 2)
    (('model', 'trained'), ('model', 'trained-1'), ('trained-1', 'trained'))
    """
    trained = EngineFiles().trained
    start = f"{trained}-{number}" if number else "model"
    return start, trained if number + 1 == phases else f"{trained}-{number + 1}"


def yaml_text(comments: Iterable[str], values: Mapping[str, Any]) -> str:
    """Return settings as YAML below lines of comment."""
    head = "".join(f"# {line}\n" for line in comments)
    return head + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
