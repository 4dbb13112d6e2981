"""The stages of a run as a graph, by their roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

from lingraft.pipeline.stage_node import StageNode


@dataclass(frozen=True)
class Graph:
    """Every stage of a run by its role; iteration yields them in the order in which they run.

    `received` is there in place of `training` if another engine trained the model.
    """

    source: StageNode
    targets: tuple[StageNode, ...]
    blend: StageNode | None
    replay: StageNode | None
    evaluation_text: StageNode | None
    source_check: StageNode
    vocabulary: StageNode
    embeddings: StageNode
    result_checks: tuple[StageNode, ...]
    packing: Mapping[str, StageNode]
    training: StageNode | None
    received: StageNode | None
    merged: StageNode | None
    instruct: StageNode | None
    chat_vector: StageNode | None
    scoring: tuple[StageNode, ...]
    tasks: tuple[StageNode, ...]
    evaluation: StageNode
    prediction: StageNode

    @property
    def final(self) -> StageNode:
        """The stage whose model the run keeps."""
        trained = self.merged or self.training or self.received
        return self.chat_vector or trained or self.embeddings

    @property
    def model_nodes(self) -> tuple[StageNode, ...]:
        """The stages up to the final model, without those that measure or predict."""
        measuring = (*self.scoring, *self.tasks, self.evaluation, self.prediction)
        return tuple(node for node in self if node not in measuring)

    def before(self, end: StageNode | None) -> list[StageNode]:
        """Return the stages that run before `end`."""
        return list(takewhile(lambda node: node is not end, self))

    def __iter__(self) -> Iterator[StageNode]:
        nodes = (
            self.source,
            *self.targets,
            self.blend,
            self.replay,
            self.evaluation_text,
            self.source_check,
            self.vocabulary,
            self.embeddings,
            # The first check runs before training, so that a broken model costs no training time.
            *self.result_checks[:1],
            # Before training, which its predictions speak of.
            self.prediction,
            # Received before text is packed, so that a checkpoint is refused early.
            self.received,
            *self.packing.values(),
            self.training,
            self.merged,
            self.instruct,
            self.chat_vector,
            *self.result_checks[1:],
            *self.scoring,
            *self.tasks,
            self.evaluation,
        )
        return (node for node in nodes if node is not None)
