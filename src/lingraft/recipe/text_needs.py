"""How much text of a preset a recipe needs, where the recipe sets no limit.

A preset may have hundreds of gigabytes of text in a language. The recipe needs enough for its
training budget, for learning the vocabulary, and for held-out text. A budget in epochs sets no
size; then `DEFAULT_LIMIT` is read, and an epoch is a pass over it. An extension, which trains and
measures nothing, needs text to learn from and a sample for the certificate. The cells of a study
read the same text: as much as the cell that needs most of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ByteSize

from lingraft.corpus import Limit
from lingraft.corpus.presets import DEFAULT_LIMIT
from lingraft.recipe.schema import Recipe
from lingraft.recipe.text_settings import Text
from lingraft.training.batch_rule import BATCH

BYTES_PER_TOKEN = 8
"""More than an adapted tokenizer's token has on average: 4 to 7 bytes in most languages."""

MARGIN = 1.1
"""For what is read but not trained on: held-out text and duplicates."""

BYTES_PER_DOCUMENT = 10_000
"""Twice the mean document of fineweb-2 in most languages."""

LEARNING_BYTES_PER_TOKEN = 2_000
"""Bytes of text from which a token is learned; with less, rare tokens depend on single texts."""

BYTES_IF_UNUSED = 1_000_000
"""Read where nothing is trained on or held out, so that a few documents fit."""

SAMPLE_BYTES = 5_000_000
"""Bytes of each language for an extension, of which a part is held out for its certificate."""


@dataclass(frozen=True)
class PresetBytes:
    """How many bytes are read of a preset that has no limit, by the role of its text."""

    target: int
    replay: int


def preset_bytes(recipe: Recipe, *, trains: bool = True) -> PresetBytes:
    """Return how much of its presets a recipe needs.

    Without `trains`, the recipe is for an extension, and training and measuring need no text.
    """
    size = recipe.vocabulary.size
    learning = LEARNING_BYTES_PER_TOKEN * (size if isinstance(size, int) else size.max_size)
    target = replay = SAMPLE_BYTES
    measured = 0
    if trains:
        target, replay = training_bytes(recipe)
        measured = recipe.evaluation.heldout_bytes
    held_out = [_held_out_bytes(text, measured) for text in recipe.targets]
    of_replay = _held_out_bytes(recipe.replay, measured) if recipe.replay else 0
    return PresetBytes(max(target, learning, *held_out), max(replay, of_replay))


def largest(needs: Iterable[PresetBytes]) -> PresetBytes:
    """Return the amounts that are enough for each of several recipes.

    >>> largest([PresetBytes(5, 1), PresetBytes(3, 2)])
    PresetBytes(target=5, replay=2)
    """
    needs = list(needs)
    return PresetBytes(max(one.target for one in needs), max(one.replay for one in needs))


def resolve_presets(recipe: Recipe, needs: PresetBytes) -> Recipe:
    """Return the recipe with the hub data sets that its presets mean, each with a limit."""
    targets = [_resolve(text, needs.target) for text in recipe.targets]
    texts = {
        "target": targets[0],
        "extra_targets": tuple(targets[1:]),
        "replay": recipe.replay and _resolve(recipe.replay, needs.replay),
    }
    return recipe.model_copy(update=texts)


def training_bytes(recipe: Recipe) -> tuple[int, int]:
    """Return the bytes of target text and of replay text that training reads, at most."""
    portion = recipe.replay.portion if recipe.replay else 0.0
    target = replay = 0.0
    for phase in recipe.training.phases:
        unit, amount = phase.budget.amount
        share = phase.share_replayed(portion)
        if unit == "steps":
            # The default batch of the largest models: the size of the model is not known yet.
            unit, amount = "tokens", amount * (phase.batch_tokens or max(BATCH))
        size = {
            "tokens": amount * BYTES_PER_TOKEN * (1 - share),  # tokens include replay
            "bytes": amount * MARGIN,
            "documents": amount * BYTES_PER_DOCUMENT,
            "epochs": DEFAULT_LIMIT,
        }[unit]
        # Another pass reads the same text; other budgets continue where the phase before stopped.
        target = max(target, size) if unit == "epochs" else target + size
        replay += size * share / (1 - share)
    return math.ceil(target), math.ceil(replay)


def _held_out_bytes(text: Text, measured: int) -> int:
    """Return how much is read so that the held-out share of it is what is measured."""
    return math.ceil(measured / text.share) if text.share else 0


def _resolve(text: Text, needed: int) -> Text:
    return text.resolve(text.language, Limit(bytes=ByteSize(needed or BYTES_IF_UNUSED)))
