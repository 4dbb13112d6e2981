"""The functions that build stage outputs: each opens the inputs of a stage and fills its draft.

Source, embeddings, training, merged model and chat vector write a folder `model/`; training also
writes training.jsonl. Corpus writes parquet files, vocabulary writes `tokenizer/`, splice.json,
certificate.json and samples.json, packing writes blocks of tokens, and prediction writes
prediction.json. `training_builders` has the stages of training, `evaluation_builders` those that
measure, `check_stages` those that check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lingraft.bases import Base, BuildContext
from lingraft.bases.folder import read_config
from lingraft.bases.tokenizer_files import complete_tokenizer
from lingraft.checkpoint import Checkpoint, embedding_names, resize_embeddings
from lingraft.checkpoint.config_files import context_of
from lingraft.checkpoint.weight_checks import check_finite
from lingraft.corpus import Corpus, Listing, build_corpus
from lingraft.corpus.blend import blend_corpora
from lingraft.errors import named_errors
from lingraft.evaluation.config import HeldoutPart
from lingraft.forecast.heldout_tokens import DEFAULT_METHOD
from lingraft.forecast.prediction import PREDICTION
from lingraft.forecast.run_predictions import AddedTokens, predict_before_training
from lingraft.pipeline.model_shape import Shape
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.recipe import Recipe, Text
from lingraft.splice import Splice
from lingraft.store import Manifest, write_json
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary import ContinuedBPE, extend_tokenizer
from lingraft.vocabulary.language_shares import compute_shares


def source_node(title: str, base: Base) -> StageNode:
    """Return the node of a stage that fetches, links or trains a model."""
    node = stage_node(title, "source", base.identity(), partial(make_model, base))
    return replace(node, read_again=base.identity) if base.reads_files else node


def make_model(base: Base, context: StageContext) -> None:
    """Fetch, link or train a model; check that it can be extended and fits its tokenizer."""
    # Trackers record the training of the run, not the training of its source model.
    execution = replace(context.execution, trackers=())
    build = BuildContext(context.draft, context.scratch_dir, execution)
    base.materialise(build)
    # The draft is gone when the error is read, so it names the user's files.
    with named_errors(build.folder, context.draft.notes["from"]):
        tokenizer = complete_tokenizer(build.folder, warn=context.draft.warn)
        checkpoint = Checkpoint.open(build.folder)
        # A model that cannot be extended is refused here, before hours of text are read.
        check_finite(checkpoint, embedding_names(checkpoint).all)
    config = read_config(build.folder)
    context.draft.notes.update(
        tokens=tokenizer.size,
        parameters=checkpoint.parameters,
        architecture=config["model_type"],
        context=context_of(config),
    )


def make_chat_vector(context: StageContext) -> None:
    """Add (instruct model - its base) to the adapted model."""
    from lingraft.checkpoint.chat_vector import add_chat_vector

    settings = context.recipe.chat_vector
    if settings is None:
        return
    notes = add_chat_vector(
        context.folders["adapted"] / "model",
        context.folders["source"] / "model",
        context.folders["instruct"] / "model",
        Splice.read(context.folders["vocabulary"]),
        weight=settings.weight,
        output=context.draft.folder / "model",
    )
    context.draft.note(notes)
    warn_if_not_servable(context)


def make_corpus(text: Text, listing: Listing, context: StageContext) -> None:
    """Read, clean and split the listed files of the text of one language."""
    build_corpus(text.corpus, text.language, context.draft, listing)


def make_vocabulary(context: StageContext) -> None:
    """Learn tokens and add them to the tokenizer."""
    settings, source = context.recipe.vocabulary, context.folders["source"] / "model"
    replay = Corpus.open(context.folders["replay"]) if "replay" in context.folders else None
    languages = [text.language for text in context.recipe.targets]
    extension = settings.extension(
        balance=settings.premium_balance(languages, context.recipe.repaired),
        weights=tuple(text.weight for text in context.recipe.targets),
        serving=Shape.of(source).serving if settings.weighs_serving_cost else None,
        workers=context.runtime.workers,
    )
    extend_tokenizer(source, _targets(context), extension, context.draft, base=replay)


def make_blend(context: StageContext) -> None:
    """Mix the texts of several target languages, for initialisations that read text."""
    corpora = _targets(context)
    sizes = [corpus.counts("train").bytes for corpus in corpora]
    blend_corpora(corpora, target_shares(context.recipe, sizes), context.draft)


def _targets(context: StageContext) -> list[Corpus]:
    """Return the corpora of the target languages, in the order of the recipe."""
    return [Corpus.open(context.folders[role]) for role in target_roles(context.recipe)]


def target_roles(recipe: Recipe) -> list[str]:
    """Return the input role of each target language: target, target1, target2 and so on."""
    return [f"target{index}" if index else "target" for index in range(len(recipe.targets))]


def make_embeddings(context: StageContext) -> None:
    """Add embedding rows for the new tokens."""
    inits = context.recipe.embeddings
    corpus = Corpus.open(context.folders["target"]) if "target" in context.folders else None
    notes = resize_embeddings(
        context.folders["source"] / "model",
        context.folders["vocabulary"] / "tokenizer",
        Splice.read(context.folders["vocabulary"]),
        input_init=inits.input,
        output_init=inits.output,
        output=context.draft.folder / "model",
        corpus=corpus,
        seed=context.recipe.seed,
        device=context.execution.device,
        scratch_dir=context.scratch_dir,
    )
    # What a token costs: a study compares it, with the experts that the token goes through alone.
    for name, folder in (
        ("multiplied", context.draft.folder / "model"),
        ("multiplied_before", context.folders["source"] / "model"),
    ):
        notes[name] = Shape.of(folder).multiplied
    context.draft.note(notes)
    warn_if_not_servable(context)


def reported_part(recipe: Recipe) -> HeldoutPart:
    """Return the held-out documents that a run reports on: those that chose nothing."""
    return "reported" if recipe.training.chooses else recipe.evaluation.heldout_part


def target_shares(recipe: Recipe, sizes: Sequence[int]) -> list[float]:
    """Return the share of each target language in training, given the bytes of each text."""
    weights = [text.weight for text in recipe.targets]
    return compute_shares(sizes, recipe.vocabulary.temperature, weights)


def make_prediction(context: StageContext) -> None:
    """Predict tokens per byte, before training.

    Of the vocabulary stage only the number of added tokens and the pre-tokenizer are read.
    """
    recipe, tokens, reason = context.recipe, None, ""
    method = recipe.vocabulary.method
    if not method.is_predicted and recipe.vocabulary.size:
        # The curve of continued merges predicts 15.5% too few tokens for `append` in Turkish.
        reason = f"known for vocabulary.method: continued only, not for {method.name}"
    elif "corpus" not in context.folders:
        reason = "known for one target language only, not for several"
    else:
        notes = Manifest.read(context.folders["vocabulary"]).notes
        target = open_tokenizer(context.folders["vocabulary"] / "tokenizer")
        tokens = AddedTokens(
            open_tokenizer(context.folders["source"] / "model"),
            Corpus.open(context.folders["corpus"]),
            int(recipe.evaluation.heldout_bytes),
            notes.get("added", 0),
            target.family.data.get("pre_tokenizer"),
            reported_part(recipe),
            # Without tokens (`none`) there is nothing to learn with other settings.
            method if isinstance(method, ContinuedBPE) else DEFAULT_METHOD,
        )
    write_json(context.draft.path(PREDICTION), predict_before_training(tokens, reason))


def warn_if_not_servable(context: StageContext) -> None:
    """Warn of everything in the model folder that vLLM does not support."""
    from lingraft.checkpoint.vllm_check import vllm_faults

    for fault in vllm_faults(context.draft.folder / "model"):
        context.draft.warn(fault)


def heldout_of(context: StageContext) -> dict[str, Corpus]:
    """Return the corpora whose held-out text is measured, by language, the targets first."""
    corpora = _targets(context)
    if "replay" in context.folders:
        corpora.append(Corpus.open(context.folders["replay"]))
    return {corpus.language: corpus for corpus in corpora}
