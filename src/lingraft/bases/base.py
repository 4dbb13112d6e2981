"""The interface of a base: the source of the model and the tokenizer that a recipe adapts.

`identity()` is plain JSON that changes if the weights or the tokenizer would change (content
hashes, a resolved commit, a seed). `materialise(context)` writes a model folder with
tokenizer.json, config.json and safetensors, which has the same form for every kind of base.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lingraft.errors import RecipeError
from lingraft.hub_client import HUB_ID
from lingraft.registry import Choice, Registry
from lingraft.store import Draft, path_exists
from lingraft.training import Execution


@dataclass(frozen=True)
class BuildContext:
    """Where and how a base builds its model.

    `draft` is the stage output to fill. `scratch_dir` outlives a killed process, so a base that
    trains can resume from it. `execution` says on which device and how training runs.
    """

    draft: Draft
    scratch_dir: Path
    execution: Execution = field(default_factory=Execution)

    @property
    def folder(self) -> Path:
        """The model folder to fill."""
        folder = self.draft.folder / "model"
        folder.mkdir(exist_ok=True)
        return folder


class Base(Choice):
    """A source of a model folder."""

    reads_files: ClassVar[bool] = False
    """Whether `materialise` takes local files as they are then, and `identity` hashes them."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return JSON that changes if the model would change.

        Raises `LingraftError` if there is no such model.
        """

    @abstractmethod
    def materialise(self, context: BuildContext) -> None:
        """Write the model folder into the draft; raises `LingraftError` if that is not possible."""

    def tokenizer_folder(self) -> Path | None:
        """Return a folder with the tokenizer files, if they exist before the model is built."""
        return None

    def check_trainable(self) -> None:
        """Raise `LingraftError` for a model that can be extended but not trained or scored."""

    def config(self) -> Mapping[str, Any] | None:
        """Return the content of config.json, if it is known before the model is built."""
        return None

    def training_tokens(self) -> int:
        """Return the token budget of the training of this base; 0 without training."""
        return 0


BASES: Registry[Base] = Registry("base model", Base)


def parse_model(value: object) -> Base:
    """Read the short forms of a recipe: a folder, or a hub id `owner/name[@revision]`.

    >>> parse_model("meta-llama/Llama-2-7b-hf@main").chosen()
    {'hub': {'id': 'meta-llama/Llama-2-7b-hf', 'revision': 'main', 'trust_remote_code': False}}
    """
    try:
        return BASES.parse(_long_form(value))
    except RecipeError as error:
        # pydantic adds the place in the recipe to a ValueError, not to other exceptions.
        raise ValueError(str(error)) from error


def _long_form(value: object) -> object:
    if not isinstance(value, str) or value in BASES.names():
        return value
    # A path that exists takes precedence over a hub id of the same form.
    if path_exists(value):
        return {"folder": {"path": value}}
    name, _, revision = value.partition("@")
    if HUB_ID.fullmatch(name):
        return {"hub": {"id": name, **({"revision": revision} if revision else {})}}
    # Neither exists: the error of the folder base then names both forms.
    return {"folder": {"path": value}}
