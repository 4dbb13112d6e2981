"""The stages of a run and the inputs of each.

source, text in the target language, replay text: no inputs, the recipe names them
evaluation text check (where the recipe names such text): all texts
source check: source, all texts (no stage depends on a check)
vocabulary: source, all texts
embeddings: source, vocabulary (and target text, for initialisations that read text)
result check (one of the model of `embeddings`, one of the final model): source, vocabulary, model
packing (one of each text): source (for its context length), vocabulary, text
training: embeddings, packed texts, and all texts for the held-out curve
received (in place of training): embeddings, vocabulary; the files of another engine are settings
merged model (with `merge_back`): the model of training or received, embeddings, vocabulary, and
  all texts if there are several shares
chat vector: the model of the stage before, source, instruct model, vocabulary
scoring, tasks (one of each of the models of source, embeddings and the end): model, all texts
evaluation: those models, their scores and tasks, all texts, and the packed text
target text, mixed (of several targets, if an initialisation reads text): target texts
prediction: source, vocabulary, the target text (of a single target)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lingraft.corpus import identity_of, list_files, look_at, unread_identity_of
from lingraft.evaluation.tasks import ChosenTasks, choose_tasks
from lingraft.pipeline import stage_builders
from lingraft.pipeline.check_stages import result_check, source_check
from lingraft.pipeline.evaluation_stages import (
    EvaluationNodes,
    check_parallel,
    evaluation_nodes,
)
from lingraft.pipeline.evaluation_text import evaluation_text_check
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.received import ReceivedModel
from lingraft.pipeline.stage_builders import source_node, target_roles
from lingraft.pipeline.stage_node import StageNode, file_reading_node, stage_node
from lingraft.pipeline.training_stages import (
    merging_node,
    packed_inputs,
    packing_nodes,
    training_node,
)
from lingraft.recipe import Recipe, Text
from lingraft.vocabulary.auto_size import SIZES, AutoSize


def build_graph(
    recipe: Recipe,
    *,
    extends_only: bool = False,
    received: ReceivedModel | None = None,
    for_plan: bool = False,
) -> Graph:
    """Return the stages of a recipe; raises `LingraftError` if its model or text does not exist.

    Local text is opened first: an error in it must not wait for a model to be downloaded. With
    `extends_only`, the source need not be trainable: a model with quantised layers can be extended,
    but not trained. With `received`, a checkpoint of another engine takes the place of training.
    With `for_plan`, a large text that was not hashed yet is not read (`StageNode.unread`).
    """
    texts, replay = corpus_nodes(recipe, for_plan=for_plan)
    source = source_node("source model", recipe.model)
    if not extends_only:
        recipe.model.check_trainable()
    targets = tuple(texts.values())
    vocabulary = vocabulary_node(recipe, source, texts, replay)
    read = _text_of_inits(recipe, targets)
    embeddings = _embeddings(recipe, source, vocabulary, read)
    packing = packing_nodes(recipe, source, vocabulary, texts, replay)
    returned = received.node(recipe, embeddings) if received else None
    training = None
    if packing and not returned:
        training = training_node(recipe, embeddings, packing, texts, replay)
    merged = merging_node(recipe, training or returned, embeddings, texts, replay)
    trained = merged or training or returned
    instruct, chat_vector = _chat_vector(recipe, source, vocabulary, trained or embeddings)
    adapted = chat_vector or trained
    # The spliced model is measured to tell the effect of initialisation from that of training.
    models = {"source": source, "spliced": embeddings}
    if adapted:
        models["adapted"] = adapted
    measured = _evaluation(recipe, models, texts, replay, packing)
    return Graph(
        source=source,
        targets=targets,
        blend=read if len(targets) > 1 else None,
        replay=replay,
        # Text that is only extended with is not evaluated.
        evaluation_text=None if extends_only else evaluation_text_check(recipe, texts, replay),
        source_check=source_check(recipe, source, texts, replay),
        vocabulary=vocabulary,
        embeddings=embeddings,
        result_checks=_result_checks(recipe, source, vocabulary, embeddings, trained),
        packing=packing,
        training=training,
        received=returned,
        merged=merged,
        instruct=instruct,
        chat_vector=chat_vector,
        scoring=measured.scoring,
        tasks=measured.tasks,
        evaluation=measured.evaluation,
        prediction=_prediction(
            recipe,
            source=source,
            vocabulary=vocabulary,
            corpus=targets[0] if len(targets) == 1 else None,
        ),
    )


def corpus_nodes(
    recipe: Recipe, *, for_plan: bool = False
) -> tuple[dict[str, StageNode], StageNode | None]:
    """Return the stages that read text: those of the target languages by role, and replay.

    Raises `CorpusError` for local text that cannot be read.
    """
    targets = {}
    for role, text in zip(target_roles(recipe), recipe.targets, strict=True):
        targets[role] = _corpus(text, for_plan=for_plan)
    return targets, _corpus(recipe.replay, for_plan=for_plan) if recipe.replay else None


def choose_recipe_tasks(recipe: Recipe) -> ChosenTasks:
    """Return the task settings of a recipe, with `auto` replaced by tasks in its languages."""
    return choose_tasks(recipe.evaluation.tasks, [text.language for text in recipe.targets])


def _corpus(text: Text, *, for_plan: bool) -> StageNode:
    look_at(text.corpus, text.language)
    listing = list_files(text.corpus)
    unread = unread_identity_of(listing) if for_plan else None
    node = stage_node(
        f"text in {text.language}",
        "corpus",
        unread or identity_of(text.corpus, text.language, listing),
        partial(stage_builders.make_corpus, text, listing),
    )
    return replace(node, unread=unread is not None)


def _text_of_inits(recipe: Recipe, targets: tuple[StageNode, ...]) -> StageNode | None:
    """Return the target text that initialisations read; None if they read none.

    Most read none: other text then leaves the embeddings cached.
    """
    inits = recipe.embeddings
    if not (inits.input.needs_corpus or inits.output.needs_corpus):
        return None
    return _blend(recipe, targets) if len(targets) > 1 else targets[0]


def _blend(recipe: Recipe, targets: tuple[StageNode, ...]) -> StageNode:
    """Return the stage that mixes the texts of several target languages."""
    settings = {
        "temperature": recipe.vocabulary.temperature,
        "weights": [text.weight for text in recipe.targets],
    }
    inputs = dict(zip(target_roles(recipe), targets, strict=True))
    return stage_node("target text, mixed", "blend", settings, stage_builders.make_blend, **inputs)


def vocabulary_node(
    recipe: Recipe, source: StageNode, targets: dict[str, StageNode], replay: StageNode | None
) -> StageNode:
    """Return the stage that learns tokens and adds them to the tokenizer."""
    return file_reading_node(
        "vocabulary",
        "vocabulary",
        partial(_vocabulary_settings, recipe),
        stage_builders.make_vocabulary,
        source=source,
        replay=replay,
        **targets,
    )


def _vocabulary_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the vocabulary, with the hash of a file of parallel sentences."""
    settings = recipe.vocabulary.identity()
    # Missing sentences, or languages that the table does not have, are reported before any work.
    recipe.vocabulary.premium_balance([text.language for text in recipe.targets])
    if isinstance(recipe.vocabulary.size, AutoSize):
        settings["sizes"] = list(SIZES)  # the sizes that the rule compares decide the result
    if len(recipe.targets) > 1:
        settings["weights"] = [text.weight for text in recipe.targets]
    if any(text.cleaning and text.cleaning.normalise for text in recipe.targets):
        settings["normaliser"] = "by base text"  # keys of other recipes stay
    scripts = {tag: list(text.scripts) for tag, text in recipe.repaired.items() if text.scripts}
    if scripts and recipe.vocabulary.parallel_file:
        settings["parallel_scripts"] = scripts  # the same
    return settings


def _embeddings(
    recipe: Recipe, source: StageNode, vocabulary: StageNode, target: StageNode | None
) -> StageNode:
    # Vectors, dictionaries and donor models are files that it reads.
    return file_reading_node(
        "embeddings",
        "embeddings",
        partial(_embedding_settings, recipe),
        stage_builders.make_embeddings,
        source=source,
        vocabulary=vocabulary,
        target=target,
    )


def _embedding_settings(recipe: Recipe) -> dict[str, Any]:
    inits = recipe.embeddings
    return {
        "input": inits.input.identity(),
        "output": inits.output.identity(),
        "seed": recipe.seed,
    }


def _result_checks(
    recipe: Recipe,
    source: StageNode,
    vocabulary: StageNode,
    embeddings: StageNode,
    trained: StageNode | None,
) -> tuple[StageNode, ...]:
    """Return the checks before and after training; a chat vector may rename special tokens."""
    first = result_check("result check", recipe, source, vocabulary, embeddings, rows=True)
    if trained is None:
        return (first,)
    # Training may change every row, so that rows are compared in the first check only.
    title = "trained result check"
    return first, result_check(title, recipe, source, vocabulary, trained, rows=False)


def _chat_vector(
    recipe: Recipe, source: StageNode, vocabulary: StageNode, adapted: StageNode
) -> tuple[StageNode | None, StageNode | None]:
    """Return the stage that fetches the instruct model, and the one that adds its chat vector."""
    settings = recipe.chat_vector
    if settings is None:
        return None, None
    instruct = source_node("instruct model", settings.instruct)
    settings.instruct.check_trainable()
    chat_vector = stage_node(
        "chat vector",
        "chat-vector",
        {"weight": settings.weight},
        stage_builders.make_chat_vector,
        adapted=adapted,
        source=source,
        instruct=instruct,
        vocabulary=vocabulary,
    )
    return instruct, chat_vector


def _evaluation(
    recipe: Recipe,
    models: Mapping[str, StageNode],
    targets: Mapping[str, StageNode],
    replay: StageNode | None,
    packing: Mapping[str, StageNode],
) -> EvaluationNodes:
    tasks = choose_recipe_tasks(recipe).settings
    check_parallel(recipe.evaluation, [text.language for text in recipe.texts])
    return evaluation_nodes(
        models,
        {**targets, "replay": replay} if replay else targets,
        recipe.evaluation.model_copy(update={"tasks": tasks}),
        seed=recipe.seed,
        packed=packed_inputs(recipe, packing),
        separator=recipe.training.packing.separator,
        repaired=recipe.repaired,
        part=stage_builders.reported_part(recipe),
    )


def _prediction(recipe: Recipe, **inputs: StageNode | None) -> StageNode:
    """Return the stage that predicts tokens per byte, if there is one target, before training.

    The trainer predicts the end of training itself.
    """
    settings = {
        "heldout_bytes": int(recipe.evaluation.heldout_bytes),
        "language": recipe.target.language,
    }
    part = stage_builders.reported_part(recipe)
    if part != "all":
        settings["part"] = part
    return stage_node(
        "prediction", "prediction", settings, stage_builders.make_prediction, **inputs
    )
