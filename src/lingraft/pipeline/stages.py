"""The stages of a run and what each depends on.

source, text in the target language, text for replay: what a recipe names
source check: source, both texts (what transformers reads of it; nothing depends on it)
vocabulary: source, both texts
embeddings: source, vocabulary
result check (of the model of embeddings, and of the one that is kept): source, vocabulary, the model
packing (each text): vocabulary, text, and the source for its context
training: embeddings, packed texts, and both texts for the held-out curve
chat vector: the model of training (or embeddings), source, instruct, vocabulary
scoring, tasks (each of the models of source and embeddings, and the one that is kept): the model, both texts
evaluation: those models, their scores and tasks, both texts, and the packed text
prediction: source, vocabulary, the target's text (of a single target), training, evaluation
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from lingraft.corpus import identity_of
from lingraft.pipeline import check_stages, evaluation_stages, stage_builders
from lingraft.pipeline.stage_node import StageNode, stage_node
from lingraft.recipe import Recipe, Text


@dataclass(frozen=True)
class Graph:
    """Every node of a run by its role."""

    source: StageNode
    targets: tuple[StageNode, ...]
    target: StageNode
    replay: StageNode | None
    source_check: StageNode
    vocabulary: StageNode
    embeddings: StageNode
    result_checks: tuple[StageNode, ...]
    packing: dict[str, StageNode]
    training: StageNode | None
    instruct: StageNode | None
    chat_vector: StageNode | None
    scoring: tuple[StageNode, ...]
    tasks: tuple[StageNode, ...]
    evaluation: StageNode
    prediction: StageNode

    @property
    def final(self) -> StageNode:
        """The node whose model the run keeps."""
        return self.chat_vector or self.training or self.embeddings

    @property
    def model_nodes(self) -> tuple[StageNode, ...]:
        """The nodes up to the model that the run keeps, without those that measure or predict."""
        measuring = (*self.scoring, *self.tasks, self.evaluation, self.prediction)
        return tuple(one for one in self if one not in measuring)

    def __iter__(self) -> Iterator[StageNode]:
        blend = self.target if len(self.targets) > 1 else None
        nodes = (
            self.source,
            *self.targets,
            blend,
            self.replay,
            self.source_check,
            self.vocabulary,
            self.embeddings,
            *self.result_checks[:1],
            *self.packing.values(),
            self.training,
            self.instruct,
            self.chat_vector,
            *self.result_checks[1:],
            *self.scoring,
            *self.tasks,
            self.evaluation,
            self.prediction,
        )
        return (one for one in nodes if one is not None)


def build_graph(recipe: Recipe, *, extends_only: bool = False) -> Graph:
    """Return the nodes of a recipe; raises `LingraftError` where model or text are not there.

    A graph that `extends_only` is not trained or scored, which quantised layers would not allow.
    """
    source = stage_node(
        "source model",
        "source",
        recipe.model.identity(),
        stage_builders.make_source,
    )
    if not extends_only:
        recipe.model.check_trainable()
    each, replay = corpus_nodes(recipe)
    targets = tuple(each.values())
    target = _blend(recipe, targets) if len(targets) > 1 else targets[0]
    vocabulary = vocabulary_node(recipe, source, each, replay)
    inits = recipe.embeddings
    reads_text = inits.input.needs_corpus or inits.output.needs_corpus
    embeddings = stage_node(
        "embeddings",
        "embeddings",
        {"input": inits.input.identity(), "output": inits.output.identity(), "seed": recipe.seed},
        stage_builders.make_embeddings,
        source=source,
        vocabulary=vocabulary,
        target=target if reads_text else None,
    )
    packing, training = {}, None
    if recipe.training.phases:
        packing = {
            role: _packing(recipe, role, source, vocabulary, corpus)
            for role, corpus in (("target", target), ("replay", replay))
            if corpus is not None and (role == "target" or replays(recipe))
        }
        training = _training(recipe, embeddings, packing, each, replay)
    instruct, chat_vector = _chat_vector(recipe, source, vocabulary, training or embeddings)
    adapted = chat_vector or training
    models = {"source": source, "spliced": embeddings, **({"adapted": adapted} if adapted else {})}
    texts = {**each, **({"replay": replay} if replay else {})}
    measured = evaluation_stages.evaluation_nodes(
        models,
        texts,
        recipe.evaluation,
        seed=recipe.seed,
        packed=packing.get("target"),
        separator=recipe.training.packing.separator,
    )
    checks = [
        check_stages.result_check("result check", recipe, source, vocabulary, embeddings, rows=True)
    ]
    if adapted:
        checks.append(
            check_stages.result_check(
                "trained result check", recipe, source, vocabulary, adapted, rows=False
            )
        )
    source_check = check_stages.source_check(recipe, source, each, replay)
    prediction = _prediction(
        recipe,
        source=source,
        vocabulary=vocabulary,
        training=training,
        corpus=target if len(targets) == 1 else None,
        evaluation=measured.evaluation if training else None,
    )
    return Graph(
        source,
        targets,
        target,
        replay,
        source_check,
        vocabulary,
        embeddings,
        tuple(checks),
        packing,
        training,
        instruct,
        chat_vector,
        measured.scoring,
        measured.tasks,
        measured.evaluation,
        prediction,
    )


def _prediction(recipe: Recipe, **inputs: StageNode | None) -> StageNode:
    """Return the node that writes prediction.json.

    Tokens per byte are predicted for a single target, the end of training where there is one.
    """
    settings = {
        "heldout_bytes": int(recipe.evaluation.heldout_bytes),
        "language": recipe.target.language,
    }
    return stage_node(
        "prediction",
        "prediction",
        settings,
        stage_builders.make_prediction,
        **inputs,
    )


def _chat_vector(
    recipe: Recipe, source: StageNode, vocabulary: StageNode, adapted: StageNode
) -> tuple[StageNode | None, StageNode | None]:
    """Return the node that fetches the instruct model, and the one that adds what it has beyond the base."""
    chosen = recipe.chat_vector
    if chosen is None:
        return None, None
    instruct = stage_node(
        "instruct model",
        "source",
        chosen.instruct.identity(),
        stage_builders.make_instruct,
    )
    chosen.instruct.check_trainable()
    return instruct, stage_node(
        "chat vector",
        "chat-vector",
        {"weight": chosen.weight},
        stage_builders.make_chat_vector,
        adapted=adapted,
        source=source,
        instruct=instruct,
        vocabulary=vocabulary,
    )


def corpus_nodes(recipe: Recipe) -> tuple[dict[str, StageNode], StageNode | None]:
    """Return the nodes that read text: those of the target languages by role, and that of replay."""
    each = {f"target{i}" if i else "target": _corpus(text) for i, text in enumerate(recipe.targets)}
    return each, _corpus(recipe.replay) if recipe.replay else None


def vocabulary_node(
    recipe: Recipe, source: StageNode, targets: dict[str, StageNode], replay: StageNode | None
) -> StageNode:
    """Return the node that learns tokens and splices them in."""
    chosen = recipe.vocabulary.model_dump(mode="json")
    if len(targets) > 1:
        chosen["weights"] = [text.weight for text in recipe.targets]
    return stage_node(
        "vocabulary",
        "vocabulary",
        chosen,
        stage_builders.make_vocabulary,
        source=source,
        replay=replay,
        **targets,
    )


def replays(recipe: Recipe) -> bool:
    """Say whether any phase mixes replayed text into training."""
    if recipe.replay is None:
        return False
    shares = [phase.replay_share for phase in recipe.training.phases]
    return any(recipe.replay.portion if share is None else share for share in shares)


def _corpus(text: Text) -> StageNode:
    return stage_node(
        f"text in {text.language}",
        "corpus",
        identity_of(text.corpus, text.language),
        partial(stage_builders.make_corpus, text),
    )


def _blend(recipe: Recipe, targets: tuple[StageNode, ...]) -> StageNode:
    """Mix the texts of several target languages for what reads them as one: training, and rows made from text."""
    settings = {
        "temperature": recipe.vocabulary.temperature,
        "weights": [text.weight for text in recipe.targets],
    }
    return stage_node(
        "target text, mixed",
        "blend",
        settings,
        stage_builders.make_blend,
        **{f"target{i}" if i else "target": one for i, one in enumerate(targets)},
    )


def _packing(
    recipe: Recipe, role: str, source: StageNode, vocabulary: StageNode, corpus: StageNode
) -> StageNode:
    texts = recipe.targets if role == "target" or recipe.replay is None else (recipe.replay,)
    language = ", ".join(text.language for text in texts)
    return stage_node(
        f"packing {language}",
        "packing",
        recipe.training.packing.model_dump(mode="json"),
        stage_builders.make_packing,
        source=source,
        vocabulary=vocabulary,
        corpus=corpus,
    )


def _training(
    recipe: Recipe,
    embeddings: StageNode,
    packing: dict[str, StageNode],
    each: dict[str, StageNode],
    replay: StageNode | None,
) -> StageNode:
    plan = recipe.training
    settings = {
        **plan.model_dump(mode="json", exclude={"packing"}),
        "seed": recipe.seed,
        "replay": recipe.replay.portion if recipe.replay else 0.0,
        "tables": [phase.tables() for phase in plan.phases],
    }
    return stage_node(
        "training",
        "training",
        settings,
        stage_builders.make_training,
        model=embeddings,
        vocabulary=embeddings.inputs["vocabulary"],
        packed=packing["target"],
        replayed=packing.get("replay"),
        replay=replay,
        **each,
    )
