"""A model with its tokenizer and its scores, and the ids that count as added tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.checkpoint import Checkpoint, embedding_names, load_model
from lingraft.evaluation.score_model import ModelScores
from lingraft.pretokenizer import newly_reachable
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoredModel:
    """A model in a comparison: its tokenizer, its scores, and the model itself.

    `model` is a model folder, or a model of transformers that is in memory.
    """

    model: Any
    tokenizer: ModelTokenizer
    scored: ModelScores

    def load(self, device: str, dtype: str) -> Any:
        """Return the model; a folder is loaded, a model in memory stays where it is."""
        if isinstance(self.model, Path):
            return load_model(self.model, device, dtype)
        return self.model

    def input_rows(self) -> Tensor:
        """Return the input embedding, [rows, width]; that of a folder is mapped into memory."""
        if isinstance(self.model, Path):
            checkpoint = Checkpoint.open(self.model)
            return checkpoint.tensor(embedding_names(checkpoint).input[0])
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight.detach().cpu()


def added_ids(models: Mapping[str, ScoredModel]) -> dict[str, frozenset[int]]:
    """Return for each model the ids of the tokens that count as added to those of the first model.

    These are the tokens that the first model lacks, and those that it has but cannot produce
    (`newly_reachable`) if they occur in the scored text. Newly reachable tokens that do not occur
    belong to other languages, and no training text was chosen for them.
    """
    first = next(iter(models.values())).tokenizer
    known = first.vocabulary.ids
    added = {}
    for subject, model in models.items():
        new = set()
        for surface, token_id in model.tokenizer.vocabulary.ids.items():
            if surface not in known:
                new.add(token_id)
        reachable = _newly_reachable_ids(first, model.tokenizer)
        used: set[int] = set()
        # Sorting the ids of a long text takes time, so only if there is something to look up.
        if reachable:
            for score in model.scored.scores.values():
                used.update(np.unique(score.ids).tolist())
        added[subject] = frozenset(new | (reachable & used))
    return added


def _newly_reachable_ids(first: ModelTokenizer, other: ModelTokenizer) -> set[int]:
    """Return the ids in `other` of the tokens that `first` has but cannot produce."""
    # A tokenizer compared with itself has no newly reachable token.
    if first is other:
        return set()
    ids = other.vocabulary.ids
    reachable = newly_reachable(first.family, other.family)
    # A token may have another id in the other vocabulary, or be pruned there.
    found = set()
    for token_id in reachable:
        surface = first.vocabulary.surfaces[token_id]
        if surface in ids:
            found.add(ids[surface])
    return found
