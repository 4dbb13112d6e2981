"""The contract of a base: where the model and the tokenizer come from that a language is grafted onto.

A base answers two questions. `identity()`: plain JSON that changes when the weights or the tokenizer would (content
hashes, a resolved commit, a seed). `materialise(bench)`: a model folder with tokenizer.json, config.json and
safetensors. Whatever the base, what lies in the store afterwards looks the same.
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
    """What a base works with: the draft that it fills, a folder that outlives a killed process, and the machine."""

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
        """Return JSON that changes whenever the model would; raises `LingraftError` where there is no such model."""

    @abstractmethod
    def materialise(self, bench: BuildContext) -> None:
        """Fill the draft with a model folder; raises `LingraftError` where that cannot be done."""

    def tokenizer_folder(self) -> Path | None:
        """Return a folder with the tokenizer's files, where they are there before the model is."""
        return None

    def check_trainable(self) -> None:
        """Raise `LingraftError` for a model to which rows can be added, but which cannot be trained or scored."""

    def config(self) -> Mapping[str, Any] | None:
        """Return the model's config.json, where it is known before the model is there."""
        return None

    def training_tokens(self) -> int:
        """Return how many tokens the base is trained on while it is made, as far as its budget says; 0 for none."""
        return 0


BASES: Registry[Base] = Registry("base model")


def parse_model(value: object) -> Base:
    """Read the short forms of a recipe: a folder, a hub id `owner/name` with an optional `@revision`.

    >>> parse_model("meta-llama/Llama-2-7b-hf@main").chosen()
    {'hub': {'id': 'meta-llama/Llama-2-7b-hf', 'revision': 'main', 'trust_remote_code': False}}
    """
    try:
        return BASES.parse(_long_form(value))
    except RecipeError as error:  # as a ValueError it keeps its place in pydantic's account of the recipe
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
