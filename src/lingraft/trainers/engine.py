"""What lingraft knows of a trainer: the data that it reads, its limits, its configuration files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.trainers.manifest import DataKind, Handover
from lingraft.training import TrainingPlan


@dataclass(frozen=True)
class EngineFiles:
    """What an engine needs in addition to the model and the data.

    - `files`: the text of each file by its path in the folder.
    - `limits`: what this engine does otherwise than lingraft, one line each.
    - `launch`: the commands that start training, from within the folder.
    - `trained`: where the trained model will be, relative to the folder.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    launch: tuple[str, ...] = ()
    trained: str = "trained"


@dataclass(frozen=True)
class Engine:
    """A trainer to which a run can be handed over.

    - `name`: as the command takes it; `title`: as its authors write it.
    - `data`: the forms of the training text that it reads.
    - `attention_mask`: whether it needs this column in `sequences`.
    - `mixes_documents`: why it cannot keep attention within documents, "" if it can.
    - `configure`: returns the files for a hand-over and its folder; raises `RecipeError` where the
      engine cannot train this model or plan.
    - `refusal`: returns why the engine cannot train a plan, "" if it can. It is asked before
      anything is built.
    """

    name: str
    title: str
    data: tuple[DataKind, ...]
    configure: Callable[[Handover, Path], EngineFiles]
    refusal: Callable[[TrainingPlan], str]
    attention_mask: bool = False
    mixes_documents: str = ""
