"""The stages that pack the text of training, train the model, and mix earlier weights into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingraft.pipeline import training_builders
from lingraft.pipeline.evaluation_stages import scoring_settings
from lingraft.pipeline.stage_builders import target_roles
from lingraft.pipeline.stage_node import StageNode, stage_node
from lingraft.pipeline.training_builders import packed_roles
from lingraft.recipe import Recipe, Text


def packing_nodes(
    recipe: Recipe,
    source: StageNode,
    vocabulary: StageNode,
    texts: Mapping[str, StageNode],
    replay: StageNode | None,
) -> dict[str, StageNode]:
    """Return the stages that pack the text of each language, by role.

    There are none if nothing is trained. The role of a packed target text is that of the text.
    """
    if not recipe.training.phases:
        return {}
    nodes = {}
    for text, (role, corpus) in zip(recipe.targets, texts.items(), strict=True):
        nodes[role] = _packing(recipe, text, source, vocabulary, corpus)
    if replay is not None and recipe.replay is not None and reads_replay(recipe):
        nodes["replay"] = _packing(recipe, recipe.replay, source, vocabulary, replay)
    return nodes


def packed_inputs(recipe: Recipe, packing: Mapping[str, StageNode]) -> dict[str, StageNode]:
    """Return the stages that pack the target texts, by their roles as inputs; none without."""
    if not packing:
        return {}
    roles = zip(packed_roles(recipe), target_roles(recipe), strict=True)
    return {packed: packing[role] for packed, role in roles}


def training_inputs(recipe: Recipe, packing: Mapping[str, StageNode]) -> dict[str, StageNode]:
    """Return the stages that pack the text of training, by their roles as inputs."""
    inputs = packed_inputs(recipe, packing)
    return inputs | ({"replayed": packing["replay"]} if "replay" in packing else {})


def reads_replay(recipe: Recipe) -> bool:
    """Say whether any phase of training reads replay text."""
    if recipe.replay is None:
        return False
    for phase in recipe.training.phases:
        if phase.strategy.reads_replay or phase.share_replayed(recipe.replay.portion):
            return True
    return False


def _packing(
    recipe: Recipe, text: Text, source: StageNode, vocabulary: StageNode, corpus: StageNode
) -> StageNode:
    return stage_node(
        f"packing {text.language}",
        "packing",
        recipe.training.packing.model_dump(mode="json"),
        training_builders.make_packing,
        source=source,
        vocabulary=vocabulary,
        corpus=corpus,
    )


def training_node(
    recipe: Recipe,
    embeddings: StageNode,
    packing: Mapping[str, StageNode],
    targets: Mapping[str, StageNode],
    replay: StageNode | None,
) -> StageNode:
    """Return the stage that trains the model on the packed texts."""
    plan = recipe.training.without_merging()
    settings = {
        **plan.model_dump(mode="json", exclude={"packing"}),
        "seed": recipe.seed,
        "replay": recipe.replay.portion if recipe.replay else 0.0,
        "tables": [phase.tables() for phase in plan.phases],
        "max_epochs": [text.max_epochs for text in recipe.texts],
    }
    if len(recipe.targets) > 1:
        settings["temperature"] = recipe.vocabulary.temperature
        settings["weights"] = [text.weight for text in recipe.targets]
    # The curve depends on held-out text, but another evaluation must not train again:
    # `stage_warnings` names the difference.
    return stage_node(
        "training",
        "training",
        settings,
        training_builders.make_training,
        model=embeddings,
        source=embeddings.inputs["source"],  # the probes of the curve have its words
        vocabulary=embeddings.inputs["vocabulary"],
        **training_inputs(recipe, packing),
        replay=replay,
        **targets,
    )


def merging_node(
    recipe: Recipe,
    trained: StageNode | None,
    embeddings: StageNode,
    targets: Mapping[str, StageNode],
    replay: StageNode | None,
) -> StageNode | None:
    """Return the stage that mixes weights from before training into the trained model, if any."""
    plan = recipe.training
    if trained is None or not plan.merge_back:
        return None
    settings: dict[str, Any] = {"shares": list(plan.merge_back), "seed": recipe.seed}
    texts: dict[str, StageNode | None] = {}
    if plan.chooses:
        settings["heldout"] = scoring_settings(recipe.evaluation)
        texts = {**targets, "replay": replay}
    return stage_node(
        "merged model",
        "merge-back",
        settings,
        training_builders.make_merged,
        trained=trained,
        model=embeddings,
        vocabulary=embeddings.inputs["vocabulary"],
        **texts,
    )
