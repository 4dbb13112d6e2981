"""Two baselines: whole words as tokens without merges, and no new tokens at all."""

from __future__ import annotations

from typing import ClassVar

from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest


@SELECTIONS.register
class WholeWords(Selection):
    """Add the units (words with the space before them) that save most tokens, without merges.

    The model looks up a whole unit before it merges anything (`ignore_merges`). The units are
    entries of the vocabulary, not "added tokens". Added tokens are cut out of the text before the
    normalizer and the pre-tokenizer run: spaces would be lost or doubled, and a longer word would
    be split where it contains one of them.
    """

    name: ClassVar[str] = "atomic"
    reference: ClassVar[str] = "the common practice of tokenizer.add_tokens(words)"

    def select(self, request: SelectionRequest) -> Selected:
        """Return the units with the greatest saving: (base tokens - 1) x occurrences."""
        family = request.family
        tokens_before = 0
        savings: dict[bytes, int] = {}
        units = list(request.counts)
        for unit, ids in zip(units, family.segment(units), strict=True):
            count = request.counts[unit]
            tokens_before += len(ids) * count
            savings[family.surface_of(unit)] = (len(ids) - 1) * count
        candidates = []
        for surface, saving in savings.items():
            # A saving of one token in the whole text does not repay an embedding row.
            if saving > 1 and surface not in family.known_surfaces and family.allows(surface):
                candidates.append(surface)
        candidates.sort(key=lambda surface: (-savings[surface], surface))
        surfaces = tuple(candidates[: request.size])
        saved = tuple(savings[surface] for surface in surfaces)
        return Selected(surfaces, saved, tokens_before, whole_units=True)


@SELECTIONS.register
class Nothing(Selection):
    """Add no tokens: continued pretraining with the source tokenizer."""

    name: ClassVar[str] = "none"
    is_predicted: ClassVar[bool] = True

    def select(self, request: SelectionRequest) -> Selected:
        """Return no tokens."""
        del request
        return Selected(())
