"""Continued BPE: the default."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lingraft.families.unigram import Unigram
from lingraft.progress import progress
from lingraft.selection.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.selection.learner import Learner
from lingraft.selection.reach import cut_by_base
from lingraft.selection.unigram import continue_unigram
from lingraft.selection.words import cut_words


@SELECTIONS.register
class Continued(Selection):
    """Learn merges on top of the base tokenizer's own segmentation, the one that saves most tokens first."""

    name: ClassVar[str] = "continued"
    reference: ClassVar[str] = "continued BPE: Purason et al. 2025, arXiv 2512.03989; greedy rule: Sennrich et al. 2016"

    minimum_saving: int = Field(1, ge=1, description="a token must save this many tokens of the text; 2 leaves out "
                                                    "tokens that it would use once")
    maximum_bytes: int = Field(96, ge=2, description="longest token, in bytes of UTF-8")

    def select(self, request: SelectionRequest) -> Selected:
        """Return the tokens that the learner finds, with what each saved."""
        family = request.family

        def allowed(surface: bytes) -> bool:
            return (len(surface) <= self.maximum_bytes and surface not in request.excluded
                    and family.allows(surface))

        if isinstance(family, Unigram):
            return continue_unigram(request, allowed=allowed, minimum=self.minimum_saving)
        words = cut_words(family, request.counts, request.protected)
        learner = Learner(words, allowed=allowed, cut_alone=cut_by_base(family), minimum=self.minimum_saving)
        with progress("learning tokens", request.size) as advance:
            for _ in learner.run(request.size):
                advance(1)
        learned = learner.learned
        return Selected(tuple(learned.surfaces), tuple(learned.saved), words.tokens,
                        {f"left out: {reason}": count for reason, count in learned.left_out.items()})
