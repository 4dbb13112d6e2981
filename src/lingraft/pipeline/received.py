"""A model that another engine trained, as the stage that takes the place of training.

`lingraft.trainers` checks such a checkpoint and builds the output of the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lingraft.pipeline.stage_node import Make, StageNode, stage_node
from lingraft.recipe import Recipe

FINDINGS = "findings"
"""The note of the stage that lists the faults of the checkpoint, as plain JSON."""

ROW_STRATEGIES = frozenset({"rows", "embeddings"})
"""The strategies that train nothing but rows of the vocabulary."""


@dataclass(frozen=True)
class ReceivedModel:
    """A checkpoint of another engine.

    - `digests`: the hash of each of its files; they are the identity of the stage.
    - `make`: builds the output of the stage.
    - `record`: what run.json says of it (folder, digest, engine).
    """

    digests: Mapping[str, str]
    make: Make
    record: Mapping[str, Any]

    @property
    def described(self) -> str:
        """The training in a few words, for the first line of a run."""
        return f"trained elsewhere ({self.record['engine'] or 'engine not known'})"

    def node(self, recipe: Recipe, embeddings: StageNode) -> StageNode:
        """Return the stage that checks the checkpoint and writes it as a model of the run."""
        settings = {
            "files": dict(self.digests),
            "separator": recipe.training.packing.separator,
            "frozen_body": trains_rows_only(recipe),
        }
        return stage_node(
            "received model",
            "received",
            settings,
            self.make,
            model=embeddings,
            vocabulary=embeddings.inputs["vocabulary"],
        )


def trains_rows_only(recipe: Recipe) -> bool:
    """Say whether a recipe trains nothing but rows of the vocabulary."""
    names = {next(iter(phase.strategy.chosen())) for phase in recipe.training.phases}
    return bool(names) and names <= ROW_STRATEGIES
