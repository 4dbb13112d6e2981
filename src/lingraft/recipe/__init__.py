"""Recipes: what a run depends on (`Recipe`), how it is carried out (`Runtime`), and reading them from YAML.

A `Recipe` bears identity, a `Runtime` never does. Nothing here imports torch.
"""

from lingraft.recipe.load import (
    Given,
    assignment,
    chosen_recipe,
    load_recipe,
    parse_recipe,
    recipe_values,
    recipe_yaml,
)
from lingraft.recipe.runtime import Runtime
from lingraft.recipe.schema import (
    EmbeddingSettings,
    Evaluation,
    Recipe,
    Replay,
    Text,
    VocabularySettings,
)

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
