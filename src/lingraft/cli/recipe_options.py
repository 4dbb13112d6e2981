"""The options that name a recipe, or a model and its text, of the commands that read one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from lingraft.cli.named_models import recipe_or_model
from lingraft.cli.options import (
    BaseLanguage,
    BaseText,
    BaseTextField,
    Language,
    Model,
    Override,
    RecipeFile,
    TextField,
    TextFiles,
)

if TYPE_CHECKING:
    from lingraft.recipe import Given, Recipe
    from lingraft.recipe.overrides import Assignment


@dataclass(frozen=True)
class RecipeOptions:
    """The options that name a recipe, or a model and its text; each is one of the command line."""

    recipe: RecipeFile = None
    model: Model = None
    language: Language = None
    text: TextFiles = None
    text_field: TextField = None
    base_language: BaseLanguage = None
    base_text: BaseText = None
    base_text_field: BaseTextField = None
    override: Override = None

    def read(
        self, overrides: Sequence[str | Assignment] | None = None, *, trains: bool = True
    ) -> Recipe:
        """Read the recipe file, or build a recipe from the options; then apply the overrides.

        `overrides` take the place of those of the command line. Without `trains`, the recipe is for
        an extension, which reads less of a preset.
        """
        from lingraft.recipe import chosen_recipe

        file, model = recipe_or_model(self.recipe, self.model)
        texts = (self.language, self.text, self.base_language, self.base_text)
        given = given_texts(model, *texts, fields=(self.text_field, self.base_text_field))
        return chosen_recipe(file, given, overrides or self.override or [], trains=trains)


def names_a_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `RecipeOptions`, which it gets as its first argument."""
    shared = inspect.signature(RecipeOptions, eval_str=True).parameters
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def called(**values: Any) -> None:
        options = {name: values.pop(name) for name in shared}
        command(RecipeOptions(**options), **values)

    options = (*shared.values(), *own)
    parameters = [option.replace(kind=option.KEYWORD_ONLY) for option in options]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return called


def given_texts(
    model: str | None,
    language: str | None,
    text: Sequence[str] | None,
    base_language: str | None,
    base_text: Sequence[str] | None,
    *,
    fields: tuple[str | None, str | None] = (None, None),
) -> Given:
    """Return what the options name; the language may stand in front of a file: LANG=FILE.

    `fields` are the fields that hold the text and the base text.
    """
    from lingraft.corpus.text_arguments import texts_of_one_language
    from lingraft.recipe import Given

    target = texts_of_one_language(text or (), language, ("--text", "--language"))
    base = texts_of_one_language(base_text or (), base_language, ("--base-text", "--base-language"))
    return Given(model, *target, *base, *fields)
