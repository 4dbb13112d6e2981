"""What a plan says besides numbers: the source, texts, pre-tokenizer, balance, exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.formatting import join_words
from lingraft.pipeline.export_limits import (
    describe_options,
    why_no_adapter,
    why_no_gguf,
    why_no_gguf_architecture,
)
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.source_summary import source_statement
from lingraft.pipeline.stage_node import StageNode
from lingraft.pipeline.stage_warnings import stage_warnings
from lingraft.pipeline.tables import pretokenizer_line
from lingraft.pipeline.text_summary import health_lines, text_lines
from lingraft.recipe import Recipe, Runtime, Text, recipe_values
from lingraft.store import Store
from lingraft.training import TrainingPlan


def describe_pretokenizer_plan(recipe: Recipe, runtime: Runtime, graph: Graph) -> str:
    """Return in one line what happens to the pre-tokenizer, as far as the plan knows it."""
    store = Store(runtime.store)
    if graph.vocabulary.is_cached(store):
        return pretokenizer_line(store.folder(graph.vocabulary.stage))
    mode = recipe.vocabulary.pretokenizer
    if recipe.vocabulary.adds_nothing:
        return "pre-tokenizer: stays the base's (nothing is added)"
    if mode == "auto":
        folder = _source_tokenizer(recipe, graph, store)
        return (
            "pre-tokenizer: auto decides in the stage vocabulary, on the target's text"
            f"{describe_options(folder) if folder else ''}; a changed one loads in transformers, "
            "tokenizers and vLLM, in llama.cpp only where that knows it by name"
        )
    effects = {
        "keep": "stays the base's",
        "repair": "is made mark-aware or letter-aware, whichever cuts the text into fewer parts",
        "named": "becomes a mark-aware one that llama.cpp has built in",
    }
    effect = effects.get(mode, f"becomes {mode}, which llama.cpp has built in")
    return f"pre-tokenizer: {effect} ({mode}: the recipe says so)"


def unused_settings(recipe: Recipe) -> list[str]:
    """Return a warning for each setting that has no effect in this recipe."""
    unused = [
        f"evaluation.tasks.{name} has no effect without tasks; name some, or remove it"
        for name in recipe.evaluation.tasks.unused
    ]
    if len(recipe.targets) == 1:
        settings = recipe.vocabulary
        of_several = {
            "vocabulary.balance: premium": settings.balance == "premium",
            f"vocabulary.temperature: {settings.temperature:g}": settings.temperature != 1,
            f"target.weight: {recipe.target.weight:g}": recipe.target.weight != 1,
        }
        for setting, is_set in of_several.items():
            if is_set:
                unused.append(f"{setting} has no effect with one target language; remove it")
    if recipe.replay and recipe.replay.weight != 1:
        unused.append(
            f"replay.weight: {recipe.replay.weight:g} has no effect; remove it (replay.share says "
            "how much is replayed)"
        )
    return unused


def describe_balance_plan(recipe: Recipe) -> str:
    """Return in one line how tokens are divided among several target languages.

    "" if there is nothing to say.
    """
    languages = [text.language for text in recipe.targets]
    settings = recipe.vocabulary
    if recipe.vocabulary.adds_nothing:
        return ""
    if len(languages) < 2:
        return ""
    if settings.balance == "size":
        power = settings.temperature
        size = "its amount of text" if power == 1 else f"(its amount of text)^(1/{power:g})"
        return (
            f"tokens of each language: in proportion to {size}; "
            "vocabulary.balance: premium makes all languages need equally many for the same content"
        )
    balance = settings.premium_balance(languages)
    on = "the training text, with the table of text lengths"
    if balance and balance.parallel:
        sentences = len(next(iter(balance.parallel.values())))
        on = f"{sentences:,} parallel sentences of {settings.parallel_file}"
    return (
        f"tokens of each language: until the premiums of {join_words(languages)} are equal on {on}"
    )


def _source_tokenizer(recipe: Recipe, graph: Graph, store: Store) -> Path | None:
    """Return the folder with the source tokenizer, `None` if nothing of it is here yet."""
    if graph.source.is_cached(store):
        return store.folder(graph.source.stage) / "model"
    return recipe.model.tokenizer_folder()


def describe_limits(recipe: Recipe, runtime: Runtime, graph: Graph) -> list[str]:
    """Return what `lingraft export` will refuse for the result, one line each, where known."""
    lines = []
    if reason := why_no_adapter(recipe_values(recipe)):
        lines.append(f"no PEFT adapter later: {reason}")
    store = Store(runtime.store)
    folder, mode = _source_tokenizer(recipe, graph, store), recipe.vocabulary.pretokenizer
    if recipe.vocabulary.adds_nothing:
        mode = "keep"
    extended = None
    if graph.vocabulary.is_cached(store):  # the pre-tokenizer is decided already
        extended = store.folder(graph.vocabulary.stage) / "tokenizer"
    if folder and (
        reason := why_no_gguf_architecture(folder) or why_no_gguf(folder, mode, extended)
    ):
        unless = reason.startswith(("if auto", "unless auto"))
        lines.append(f"no GGUF file later{' ' if unless else ': '}{reason}")
    return lines


def source_notes(recipe: Recipe, node: StageNode, store: Store) -> tuple[str, ...]:
    """Return lines about the source; none if its files are not on this machine yet."""
    folder = recipe.model.tokenizer_folder()
    if node.is_cached(store):
        folder = store.folder(node.stage) / "model"
    if folder is None:
        return ()
    statement = source_statement(recipe, folder)
    warnings = [f"warning: {warning}" for warning in statement.warnings]
    return (*statement.lines, *_mask_lines(recipe.training), *warnings)


def _mask_lines(training: TrainingPlan) -> list[str]:
    if not training.phases or not training.may_mask_documents:
        return []
    line = "attention stays within documents"
    if not training.requires_document_mask:
        line += " if the model and the text allow it; training checks this and reports it"
    return [f"{line} (training.document_attention_mask)"]


def text_notes(node: StageNode, text: Text, store: Store) -> tuple[str, ...]:
    """Return lines about a text and warnings of what is in it."""
    if node.is_cached(store):
        warnings = stage_warnings("corpus", store.folder(node.stage)).lines
        health = [f"warning: {warning}" for warning in warnings]
    else:
        health = health_lines(text)
    unread = []
    if node.unread:
        amount = node.stage.settings["unread"]
        unread.append(
            f"text in {text.language}: {amount} were not read before, so the plan does not "
            "know which stages are cached; a run hashes them first"
        )
    return (*text_lines(text), *unread, *health)


def normaliser_notes(recipe: Recipe, notes: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what happens to the normaliser of the tokenizer, if the text is normalised.

    `notes` are those of the stage vocabulary, `None` if it is not cached.
    """
    if not any(text.cleaning and text.cleaning.normalise for text in recipe.targets):
        return ()
    if notes:
        return (f"normaliser: {notes['normaliser']}",)
    if recipe.replay is None:
        return ("normaliser: the tokenizer keeps its own, as there is no base-language text",)
    condition = "if this leaves base-language text as it is"
    return (f"normaliser: the stage vocabulary gives the tokenizer that of the text {condition}",)
