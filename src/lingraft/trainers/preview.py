"""What a hand-over would build and write: the stages before training, and the sizes of its data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lingraft.formatting import number, size
from lingraft.pipeline import PlanRow, build_graph, plan
from lingraft.recipe import Recipe, Runtime
from lingraft.trainers.engine import Engine
from lingraft.trainers.manifest import DataKind
from lingraft.trainers.sequences import SequenceColumns

ID_BYTES = 4
"""Bytes of an id in `sequences`, and in `megatron` for a large vocabulary."""


@dataclass(frozen=True)
class Preview:
    """The stages before training, and a line about each part of the folder."""

    stages: list[PlanRow]
    lines: tuple[str, ...]


def preview(
    recipe: Recipe, runtime: Runtime, engine: Engine, data: Collection[DataKind]
) -> Preview:
    """Predict a hand-over; nothing is built."""
    graph = build_graph(recipe, for_plan=True)
    rows = plan(recipe, runtime, graph)
    packing = {node.title for node in graph.packing.values()}
    training = graph.training.title if graph.training else ""
    stages: list[PlanRow] = []
    for row in rows:
        if row.title == training:
            break
        stages.append(row)
    trained = next((row.amounts.get("tokens") for row in rows if row.title == training), None)
    packed = [row.amounts.get("tokens") for row in stages if row.title in packing]
    # `auto` is decided when the text is packed; the estimate assumes a mask.
    masked = recipe.training.may_mask_documents and not engine.mixes_documents
    columns = SequenceColumns(masked, engine.attention_mask)
    kinds = {*engine.data, *data}
    return Preview(stages, tuple(_lines(kinds, trained, packed, len(columns.names))))


def _lines(
    kinds: Collection[DataKind], trained: int | None, packed: list[int | None], columns: int
) -> Iterator[str]:
    unknown = "as much as the text needs"
    if "sequences" in kinds:
        amount = unknown if trained is None else _amount(trained, columns * ID_BYTES)
        yield f"data/sequences: {amount}"
    if "megatron" in kinds:
        known = [tokens for tokens in packed if tokens is not None]
        amount = _amount(sum(known), ID_BYTES) if len(known) == len(packed) else unknown
        yield f"data/megatron: {amount}"
    if "text" in kinds:
        yield "data/text: the documents of the budget as JSON lines"


def _amount(tokens: int, bytes_per_token: int) -> str:
    return f"about {number(tokens)} ids, {size(tokens * bytes_per_token)}"
