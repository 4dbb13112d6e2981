"""A model that another engine trained, as the stage that takes the place of training.

`lingraft.trainers` checks such a checkpoint and builds the output of the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lingraft.pipeline.stage_node import Make, StageNode, stage_node
from lingraft.recipe import Recipe

FINDINGS = "findings"
"""The note of the stage that lists the faults of the checkpoint, as plain JSON."""

Frozen = Literal["nothing", "body", "body and base rows"]
"""What a recipe does not train."""


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
            "frozen": frozen_part(recipe),
        }
        return stage_node(
            "received model",
            "received",
            settings,
            self.make,
            model=embeddings,
            vocabulary=embeddings.inputs["vocabulary"],
        )


def frozen_part(recipe: Recipe) -> Frozen:
    """Return what no phase of a recipe trains."""
    names = {next(iter(phase.strategy.chosen())) for phase in recipe.training.phases}
    if names == {"rows"}:
        return "body and base rows"
    return "body" if names and names <= {"rows", "embeddings"} else "nothing"
