"""The functions that pack the text of training, train the model, and mix earlier weights in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lingraft.bases.folder import read_config
from lingraft.checkpoint.config_files import COMPANION_FILES, context_of
from lingraft.corpus import Corpus
from lingraft.evaluation.config import HeldoutPart
from lingraft.evaluation.in_context_probes import InContextMeasure, InContextProbes
from lingraft.evaluation.score_model import HeldoutMeasure, heldout_documents
from lingraft.formatting import percent
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_corpus
from lingraft.pipeline.evaluation_stages import (
    CURVE_LEVEL,
    CURVE_SETTINGS,
    PART,
    curve_settings,
)
from lingraft.pipeline.stage_builders import (
    heldout_of,
    reported_part,
    target_shares,
    warn_if_not_servable,
)
from lingraft.pipeline.stage_node import StageContext
from lingraft.progress import say
from lingraft.recipe import Recipe
from lingraft.splice import Splice
from lingraft.store import copy_matching, digest
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.tokenizer.separators import separators_of

if TYPE_CHECKING:
    from lingraft.training.phase_steps import TrainingText


def make_packing(context: StageContext) -> None:
    """Tokenise the training text of one language into blocks."""
    source, settings = context.folders["source"] / "model", context.recipe.training.packing
    tokenizer = open_tokenizer(source)
    pack_corpus(
        Corpus.open(context.folders["corpus"]),
        open_tokenizer(context.folders["vocabulary"] / "tokenizer"),
        settings,
        context.draft,
        context=context_of(read_config(source)),
        workers=context.runtime.workers,
        scratch_dir=context.scratch_dir,
        separators=separators_of(tokenizer, settings.separator),
        template=chat_template_of(tokenizer),
    )


def make_training(context: StageContext) -> None:
    """Continue pretraining on the packed text."""
    from lingraft.training.train import train

    model = context.folders["model"] / "model"
    plan = context.recipe.training.without_merging()
    if context.recipe.training.chooses:
        # Fails before the training if the held-out text has too few documents to split.
        _heldout_measure(context, model, "chosen on")
    measure = curve_digest(context.recipe)
    added = [token.id for token in Splice.read(context.folders["vocabulary"]).added]
    notes = train(
        model,
        training_text(context.recipe, context.folders),
        plan,
        output=context.draft.folder,
        scratch_dir=context.scratch_dir,
        added=added,
        seed=context.recipe.seed,
        execution=context.execution,
        heldout=_heldout_measure(context, model, reported_part(context.recipe))
        if plan.heldout_points
        else None,
        in_context=_in_context_measure(context, model) if plan.heldout_points else None,
        curve=measure,
        prefix_dir=context.prefix_dir / measure,
    )
    context.draft.note(notes)
    if plan.heldout_points:
        settings = context.recipe.evaluation
        level = settings.bootstrap.confidence
        measured = {**curve_settings(settings), PART: reported_part(context.recipe)}
        context.draft.note({CURVE_SETTINGS: measured, CURVE_LEVEL: level})
    trained = context.draft.folder / "model"
    if trained.is_dir():  # of several processes, only the first writes the model
        copy_matching(model, trained, COMPANION_FILES)
        warn_if_not_servable(context)


def make_merged(context: StageContext) -> None:
    """Mix weights from before training into the trained ones."""
    from lingraft.training.merge_back import MergeSettings, merge_models

    plan, before = context.recipe.training, context.folders["model"] / "model"
    trained, merged = context.folders["trained"] / "model", context.draft.folder / "model"
    settings = MergeSettings(
        plan.merge_back,
        tuple(token.id for token in Splice.read(context.folders["vocabulary"]).added),
        _heldout_measure(context, before, "chosen on") if plan.chooses else None,
        context.recipe.seed,
    )
    notes = merge_models(trained, before, merged, settings, context.execution.device)
    tried = [f"{one['share']:g}: {fmean(one['heldout'].values()):.4f}" for one in notes["tried"]]
    measured = f"; bits per byte of each share: {', '.join(tried)}" if tried else ""
    say(f"merged model: {percent(notes['share'])} of the weights before training{measured}")
    context.draft.note(notes)
    copy_matching(trained, merged, COMPANION_FILES)
    warn_if_not_servable(context)


def _heldout_measure(context: StageContext, folder: Path, part: HeldoutPart) -> HeldoutMeasure:
    """Return the function that measures held-out text during training, as the evaluation does."""
    settings = context.recipe.evaluation
    documents = {}
    for language, corpus in heldout_of(context).items():
        documents[language] = heldout_documents(corpus, settings.heldout_bytes, part)
    # No gain decides on a share of `merge_back`.
    source = open_tokenizer(context.folders["source"] / "model") if part != "chosen on" else None
    return HeldoutMeasure(_curve_tokenizer(context, folder), documents, settings, source)


def _in_context_measure(context: StageContext, folder: Path) -> InContextMeasure | None:
    """Return the function that measures the probes during training, as the evaluation does."""
    settings = context.recipe.evaluation
    source = open_tokenizer(context.folders["source"] / "model")
    probes = InContextProbes.of(source, settings.in_context)
    if not probes.texts:
        return None
    return InContextMeasure(_curve_tokenizer(context, folder), probes, settings)


def _curve_tokenizer(context: StageContext, folder: Path) -> ModelTokenizer:
    """Return the tokenizer that the points of the held-out curve are measured with."""
    return replace(open_tokenizer(folder), separator=context.recipe.training.packing.separator)


def packed_roles(recipe: Recipe) -> list[str]:
    """Return the input role of each packed target text: packed, packed1, packed2 and so on."""
    return [f"packed{index}" if index else "packed" for index in range(len(recipe.targets))]


def training_text(recipe: Recipe, folders: Mapping[str, Path]) -> TrainingText:
    """Open the packed texts of a training, and return them with their shares.

    `folders` are those of `packed_roles`, and `replayed` if text is replayed.
    """
    from lingraft.training.phase_steps import TextSource, TrainingText

    packed = [Blocks.open(folders[role]) for role in packed_roles(recipe)]
    shares = target_shares(recipe, [blocks.summary.bytes for blocks in packed])
    targets = []
    for text, blocks, share in zip(recipe.targets, packed, shares, strict=True):
        targets.append(TextSource(blocks, text.language, share, text.max_epochs))
    replay = None
    if "replayed" in folders and recipe.replay is not None:
        text = recipe.replay
        blocks = Blocks.open(folders["replayed"])
        replay = TextSource(blocks, text.language, text.portion, text.max_epochs)
    return TrainingText(tuple(targets), replay, keeps_epochs_apart=True)


def curve_digest(recipe: Recipe) -> str:
    """Return a digest of what the held-out curve is measured on and how.

    A shared prefix and a stopped run have points of the curve, and all of a curve is one measure.
    """
    return digest([curve_settings(recipe.evaluation), reported_part(recipe)])[:8]
