"""From a recipe to trials: the same recipe with one init and one seed, trained for a few steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from lingraft.errors import RecipeError
from lingraft.inits import INITS, EmbeddingInit
from lingraft.recipe import Recipe
from lingraft.recipe.schema import EmbeddingSettings, Evaluation
from lingraft.training import Budget, Phase

INITS_BY_DEFAULT = "calibrated,mean,random"


@dataclass(frozen=True)
class Probe:
    """What is probed: inits, used for both matrices, `steps` of training with each, and how many seeds."""

    inits: tuple[EmbeddingInit, ...]
    steps: int = 50
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.seeds < 1:
            msg = f"a probe takes at least one step and one seed, got --steps {self.steps} --seeds {self.seeds}"
            raise RecipeError(msg)


@dataclass(frozen=True)
class Trial:
    """One short training."""

    init: str
    seed: int
    recipe: Recipe


def inits_of(written: str) -> tuple[EmbeddingInit, ...]:
    """Read inits as a command line has them; raises `RecipeError` for an unknown one, or fewer than two.

    >>> [label_of(init) for init in inits_of("mean, {mean: {weights: first}}")]
    ['mean', 'mean {"weights": "first"}']
    """
    try:
        values = yaml.safe_load(f"[{written}]")
        inits = tuple(INITS.parse(value) for value in values)
    except (yaml.YAMLError, ValueError) as error:
        msg = f"--inits {written!r}: {' '.join(str(error).split())[:200]}; write mean,calibrated or {{focus: {{...}}}}"
        raise RecipeError(msg) from error
    labels = [label_of(init) for init in inits]
    if len(set(labels)) < max(2, len(labels)):
        msg = f"--inits {written!r}: a probe compares two or more different inits; known: {', '.join(INITS.names())}"
        raise RecipeError(msg)
    return inits


def label_of(init: EmbeddingInit) -> str:
    """Return what tables call an init: its name, and the settings that are not at their defaults."""
    changed = init.model_dump(mode="json", exclude_defaults=True)
    return f"{init.name} {json.dumps(changed, ensure_ascii=False)}" if changed else init.name


def trials_of(recipe: Recipe, probe: Probe) -> list[Trial]:
    """Return every trial, a seed after another.

    Each trains by the first phase of the recipe, for so many steps; only held-out text is scored.
    """
    first = (*recipe.training.phases, Phase())[0]
    phase = first.model_copy(update={"budget": Budget(steps=probe.steps)})
    training = recipe.training.model_copy(update={"phases": (phase,), "merge_back": (), "heldout_points": 0})
    asked = recipe.evaluation
    evaluation = Evaluation(heldout_bytes=asked.heldout_bytes, context=asked.context, stride=asked.stride,
                            bootstrap=asked.bootstrap, generation=None)
    shared = recipe.model_copy(update={"training": training, "evaluation": evaluation})
    return [Trial(label_of(init), seed, shared.model_copy(update={
                "seed": seed, "embeddings": EmbeddingSettings(input=init, output=init)}))
            for seed in seeds_of(recipe, probe) for init in probe.inits]


def seeds_of(recipe: Recipe, probe: Probe) -> Sequence[int]:
    """Return the recipe's own seed and those after it."""
    return range(recipe.seed, recipe.seed + probe.seeds)
