"""How each stage output is built: thin callers that open the inputs of a stage and fill its draft.

Outputs hold: source, embeddings and training a `model/` folder; corpus its parquet files; vocabulary `tokenizer/`,
splice.json, certificate.json and samples.json; packing rows of tokens; training also training.jsonl; prediction
prediction.json. The stages that measure are in `scoring`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.bases import Base, BuildContext
from lingraft.bases.folder import read_config
from lingraft.bases.tokenizer_files import complete_tokenizer, context_of
from lingraft.checkpoint.config_files import COMPANIONS, copy_matching
from lingraft.corpus import Corpus, build_corpus, first_documents
from lingraft.corpus.corpus import blend_corpora
from lingraft.forecast.loss_forecast import read_log
from lingraft.forecast.run_predictions import PREDICTION, AddedTokens, TrainingLog, predict_run
from lingraft.measurement import read_measurements, select
from lingraft.pipeline.stage_node import StageContext
from lingraft.recipe import Text
from lingraft.recipe.old_names import current_log
from lingraft.splice import Splice
from lingraft.store import Manifest
from lingraft.vocabulary import AutoSize, ServingCost
from lingraft.vocabulary.language_shares import shares

CURVE_BYTES = 20_000
"""Held-out text behind each point of the training curve: enough to see its course, little beside the training."""

BESIDE_WEIGHTS = (
    *COMPANIONS,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.jinja",
    "generation_config.json",
)
"""What a trained model folder takes over from the spliced one as it is."""


def make_source(context: StageContext) -> None:
    """Fetch, link or make the source model."""
    make_model(context.recipe.model, context)


def make_chat_vector(context: StageContext) -> None:
    """Add what an instruct model has beyond its base to the adapted base."""
    from lingraft.checkpoint.chat_vector import add_chat_vector

    folders = {role: context.folders[role] / "model" for role in ("adapted", "source", "instruct")}
    chosen = context.recipe.chat_vector
    if chosen is not None:
        context.draft.note(
            add_chat_vector(
                folders["adapted"],
                folders["source"],
                folders["instruct"],
                read_splice(context.folders["vocabulary"]),
                weight=chosen.weight,
                output=context.draft.folder / "model",
            )
        )
        warn_if_not_servable(context)


def make_instruct(context: StageContext) -> None:
    """Fetch or link the instruct model of a chat vector."""
    if context.recipe.chat_vector is not None:
        make_model(context.recipe.chat_vector.instruct, context)


def make_model(base: Base, context: StageContext) -> None:
    """Fetch, link or make a model, and see that it can be extended and that its tokenizer fits it."""
    from lingraft.checkpoint import Checkpoint, embedding_names
    from lingraft.checkpoint.weight_checks import check_finite

    execution = replace(
        context.execution, trackers=()
    )  # they watch the training of the run, not that of its base
    bench = BuildContext(context.draft, context.scratch_dir, execution)
    base.materialise(bench)
    tokenizer = complete_tokenizer(bench.folder, warn=context.draft.warn)
    checkpoint = Checkpoint.open(bench.folder)
    check_finite(
        checkpoint, embedding_names(checkpoint).all
    )  # what cannot be extended is refused before text is read
    config = read_config(bench.folder)
    context.draft.notes.update(
        tokens=tokenizer.size,
        parameters=Checkpoint.open(bench.folder).parameters,
        architecture=config["model_type"],
        context=context_of(config),
    )


def make_corpus(text: Text, context: StageContext) -> None:
    """Read, clean and split the text of one language."""
    build_corpus(text.corpus, text.language, context.draft)


def make_vocabulary(context: StageContext) -> None:
    """Learn tokens and splice them into the tokenizer."""
    from lingraft.vocabulary import Extension, extend_tokenizer

    chosen, source = context.recipe.vocabulary, context.folders["source"] / "model"
    replay = Corpus.open(context.folders["replay"]) if "replay" in context.folders else None
    by_cost = isinstance(chosen.size, AutoSize) and chosen.size.rule == "serving"
    extension = Extension(
        chosen.method,
        chosen.size,
        chosen.pretokenizer,
        protect=chosen.protect_replay,
        allow=chosen.allow,
        temperature=chosen.temperature,
        weights=tuple(text.weight for text in context.recipe.targets),
        serving=serving_cost(source) if by_cost else None,
        workers=context.runtime.workers,
    )
    extend_tokenizer(source, _targets(context), extension, context.draft, base=replay)


def make_blend(context: StageContext) -> None:
    """Mix the texts of several target languages."""
    corpora = _targets(context)
    sizes = [corpus.counts("train").bytes for corpus in corpora]
    weights = [text.weight for text in context.recipe.targets]
    blend_corpora(
        corpora, shares(sizes, context.recipe.vocabulary.temperature, weights), context.draft
    )


def _targets(context: StageContext) -> list[Corpus]:
    """Return the corpora of the target languages, in the order of the recipe."""
    roles = [f"target{i}" if i else "target" for i in range(len(context.recipe.targets))]
    return [Corpus.open(context.folders[role]) for role in roles]


def serving_cost(folder: Path) -> ServingCost:
    """Return the FLOPs of a token in a model: 2 for each parameter that it is multiplied with."""
    from lingraft.checkpoint import Checkpoint, embedding_names

    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    body = checkpoint.parameters - names.rows * names.width * (1 if names.tied else 2)
    return ServingCost(body=2.0 * body, head_per_row=2.0 * names.width, rows=names.rows)


def make_embeddings(context: StageContext) -> None:
    """Give the new tokens rows."""
    from lingraft.checkpoint import resize_embeddings

    chosen = context.recipe.embeddings
    corpus = Corpus.open(context.folders["target"]) if "target" in context.folders else None
    notes = resize_embeddings(
        context.folders["source"] / "model",
        context.folders["vocabulary"] / "tokenizer",
        read_splice(context.folders["vocabulary"]),
        input_init=chosen.input,
        output_init=chosen.output,
        output=context.draft.folder / "model",
        corpus=corpus,
        seed=context.recipe.seed,
        device=context.execution.device,
        scratch_dir=context.scratch_dir,
    )
    context.draft.note(notes)
    warn_if_not_servable(context)


def make_packing(context: StageContext) -> None:
    """Tokenise the train text of one language into rows."""
    from lingraft.packing.blocks import pack_corpus
    from lingraft.tokenizer import open_tokenizer
    from lingraft.tokenizer.chat_template import chat_template_of
    from lingraft.tokenizer.separators import separators_of

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
    from lingraft.packing.blocks import Blocks
    from lingraft.tokenizer import open_tokenizer
    from lingraft.training.trainer import TrainingText, train

    model, replay = context.folders["model"] / "model", context.recipe.replay
    replayed = Blocks.open(context.folders["replayed"]) if "replayed" in context.folders else None
    text = TrainingText(
        Blocks.open(context.folders["packed"]),
        replayed,
        replay.portion if replay and replayed else 0.0,
    )
    tokenizer = replace(open_tokenizer(model), separator=context.recipe.training.packing.separator)
    documents = {
        language: list(first_documents(corpus.documents("heldout"), CURVE_BYTES))
        for language, corpus in heldout_of(context).items()
    }

    def measure(trained: Any) -> dict[str, float]:
        from lingraft.evaluation import bits_per_byte

        return {
            language: bits_per_byte(trained, tokenizer, texts).bits_per_byte
            for language, texts in documents.items()
        }

    added = [token.id for token in read_splice(context.folders["vocabulary"]).added]
    notes = train(
        model,
        text,
        context.recipe.training,
        output=context.draft.folder,
        scratch_dir=context.scratch_dir,
        added=added,
        seed=context.recipe.seed,
        execution=context.execution,
        heldout=measure,
        trunks=context.trunks,
    )
    context.draft.note(notes)
    if (
        trained := context.draft.folder / "model"
    ).is_dir():  # of several processes, the first one writes the model
        copy_matching(model, trained, BESIDE_WEIGHTS)
        warn_if_not_servable(context)


def make_prediction(context: StageContext) -> None:
    """Predict tokens per byte, bits per byte and training time from what is known before each."""
    from lingraft.tokenizer import open_tokenizer

    recipe, tokens, log, spliced = context.recipe, None, [], None
    if "corpus" in context.folders:
        notes = Manifest.read(context.folders["vocabulary"]).notes
        tokens = AddedTokens(
            open_tokenizer(context.folders["source"] / "model"),
            Corpus.open(context.folders["corpus"]),
            int(recipe.evaluation.heldout_bytes),
            notes.get("added", 0),
            repairs=bool(notes.get("pre-tokenizer repaired")),
        )
    if "training" in context.folders:
        log = current_log(read_log(context.folders["training"] / "training.jsonl"))
        rows = read_measurements(context.folders["evaluation"] / "measurements.parquet")
        before = select(
            rows, metric="bits per byte", subject="spliced", language=recipe.target.language
        )
        spliced = before[0].value if before else None
    content = predict_run(tokens, TrainingLog(log, recipe.target.language, spliced))
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    context.draft.path(PREDICTION).write_text(text, encoding="utf-8")


def warn_if_not_servable(context: StageContext) -> None:
    """Warn of whatever would keep a model that was made from being served as it is."""
    from lingraft.checkpoint.vllm_check import vllm_faults

    for fault in vllm_faults(context.draft.folder / "model"):
        context.draft.warn(fault)


def heldout_of(context: StageContext) -> dict[str, Corpus]:
    """Return the corpora that are measured on, by language, the targets' first."""
    corpora = [
        *_targets(context),
        *([Corpus.open(context.folders["replay"])] if "replay" in context.folders else []),
    ]
    return {corpus.language: corpus for corpus in corpora}


def read_splice(folder: Path) -> Splice:
    """Read the splice of a vocabulary output."""
    return Splice.from_json(json.loads((folder / "splice.json").read_text(encoding="utf-8")))
