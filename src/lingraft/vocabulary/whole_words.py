"""Whole words as tokens, without merges: the comparison that people reach for first."""

from __future__ import annotations

from typing import ClassVar

from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest


@SELECTIONS.register
class WholeWords(Selection):
    """Add the units (words with the space before them) that save most, looked up whole.

    They stand in the vocabulary without merges, and the model looks a unit up before it merges anything
    (`ignore_merges`). Added as "added tokens" instead, they would be cut out of the text before normalizer and
    pre-tokenizer see it: spaces get lost or doubled, and words are torn where an added token is part of them.
    """

    name: ClassVar[str] = "atomic"
    reference: ClassVar[str] = "the habit of tokenizer.add_tokens(words)"

    def select(self, request: SelectionRequest) -> Selected:
        """Return the units with the greatest saving: occurrences times the tokens that each costs now, less one."""
        family = request.family
        base = family.known_surfaces
        units = list(request.counts)
        cut = family.segment(units)
        before = sum(len(ids) * request.counts[unit] for unit, ids in zip(units, cut, strict=True))
        gains = {
            family.surface_of(unit): (len(ids) - 1) * request.counts[unit]
            for unit, ids in zip(units, cut, strict=True)
        }
        worth = [
            surface
            for surface, gain in gains.items()
            if gain > 1 and surface not in base and family.allows(surface)
        ]
        worth.sort(key=lambda surface: (-gains[surface], surface))
        chosen = worth[: request.size]
        return Selected(
            tuple(chosen), tuple(gains[surface] for surface in chosen), before, whole_units=True
        )


@SELECTIONS.register
class Nothing(Selection):
    """Add nothing: continued pretraining with the source's own tokenizer."""

    name: ClassVar[str] = "none"

    def select(self, request: SelectionRequest) -> Selected:
        """Return no tokens."""
        del request
        return Selected(())
