"""The contract of a base: where the source model and its tokenizer come from.

`identity()` is plain JSON that changes when the weights or the tokenizer would (content hashes, a
resolved commit, a seed). `materialise(context)` writes a model folder with tokenizer.json,
config.json and safetensors, which has the same form for every kind of base.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.hub_client import HUB_ID
from lingraft.registry import Choice, Registry
from lingraft.store import Draft, path_exists
from lingraft.training import Execution


@dataclass(frozen=True)
class BuildContext:
    """What a base writes to and runs on; `workplace` is kept when the process is killed."""

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

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return JSON that changes whenever the model would.

        Raises `LingraftError` where there is no such model.
        """

    @abstractmethod
    def materialise(self, context: BuildContext) -> None:
        """Fill the draft with a model folder; raises `LingraftError` where that cannot be done."""

    def tokenizer_folder(self) -> Path | None:
        """Return a folder with the tokenizer's files, where they are there before the model is."""
        return None

    def check_trainable(self) -> None:
        """Raise `LingraftError` for a model that can be extended, but not trained or scored."""

    def config(self) -> Mapping[str, Any] | None:
        """Return the model's config.json, where it is known before the model is there."""
        return None

    def training_tokens(self) -> int:
        """Return the token budget of the training of this base; 0 without training."""
        return 0


BASES: Registry[Base] = Registry("base model")


def parse_model(value: object) -> Base:
    """Read the short forms of a recipe: a folder, or a hub id `owner/name[@revision]`.

    >>> parse_model("meta-llama/Llama-2-7b-hf@main").chosen()
    {'hub': {'id': 'meta-llama/Llama-2-7b-hf', 'revision': 'main', 'trust_remote_code': False}}
    """
    try:
        return BASES.parse(_long_form(value))
    except RecipeError as error:  # pydantic reports a ValueError with its place in the recipe
        raise ValueError(str(error)) from error


def _long_form(value: object) -> object:
    if not isinstance(value, str) or value in BASES.names():
        return value
    if path_exists(value):
        return {"folder": {"path": value}}
    name, _, revision = value.partition("@")
    if HUB_ID.fullmatch(name) and not value.startswith("."):
        return {"hub": {"id": name, **({"revision": revision} if revision else {})}}
    return {"folder": {"path": value}}
