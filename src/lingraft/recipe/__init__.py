"""Recipes: what a run depends on (`Recipe`), where and how it runs (`Runtime`), and YAML files.

The keys of stages depend on the `Recipe`, never on the `Runtime`. Importing this package does not
import torch.
"""

from lingraft.recipe.default_text import Given
from lingraft.recipe.load import (
    assignment,
    chosen_recipe,
    load_recipe,
    parse_recipe,
    recipe_values,
    recipe_yaml,
)
from lingraft.recipe.runtime import Runtime
from lingraft.recipe.schema import EmbeddingSettings, Evaluation, Recipe
from lingraft.recipe.text_settings import Replay, Text
from lingraft.recipe.vocabulary_settings import VocabularySettings

__all__ = [
    "EmbeddingSettings",
    "Evaluation",
    "Given",
    "Recipe",
    "Replay",
    "Runtime",
    "Text",
    "VocabularySettings",
    "assignment",
    "chosen_recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_values",
    "recipe_yaml",
]
