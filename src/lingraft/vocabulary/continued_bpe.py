"""Continued BPE, the default method: learn more merges on top of the base tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.progress import progress
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.balanced_bpe import BalancedLearner, cut_languages
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.bpe_learner import Allowed, BPELearner
from lingraft.vocabulary.continued_unigram import continue_unigram
from lingraft.vocabulary.intermediate_tokens import find_intermediate_tokens
from lingraft.vocabulary.lost_text import without_lost_text
from lingraft.vocabulary.word_counts import WordTable, cut_by_base, cut_words


@SELECTIONS.register
class ContinuedBPE(Selection):
    """Learn merges on top of the base tokenizer's segmentation, those that save most tokens first.

    On a Unigram tokenizer the learned tokens are candidates, and the pieces that the extended
    tokenizer really needs are kept; `step_cost` has no effect there.
    """

    name: ClassVar[str] = "continued"
    reference: ClassVar[str] = (
        "continued BPE: Purason et al. 2025, arXiv 2512.03989; greedy rule: Sennrich et al. 2016"
    )

    balances: ClassVar[bool] = True
    is_predicted: ClassVar[bool] = True

    min_saving: int = Field(
        1,
        ge=1,
        description="tokens of the text that a new token must save; 2 leaves out tokens that are "
        "used once",
    )
    max_token_bytes: int = Field(
        96, ge=2, description="maximum length of a token in bytes of UTF-8"
    )
    step_cost: int = Field(
        10,
        ge=0,
        description="penalty for making earlier new tokens unused: with k such tokens, the saving "
        "of a candidate is divided by 1 + k x step_cost; 0: plain continued BPE",
    )

    def select(self, request: SelectionRequest) -> Selected:
        """Return the tokens that the learner finds, with what each saved."""
        family = request.family

        def allowed(surface: bytes) -> bool:
            return (
                len(surface) <= self.max_token_bytes
                and surface not in request.excluded
                and family.allows(surface)
            )

        if isinstance(family, Unigram):
            if request.balanced:
                msg = (
                    f"{request.where}: vocabulary.balance: premium needs a BPE tokenizer, and this "
                    "one is a Unigram, whose pieces are chosen all at once and not one after "
                    "another; set vocabulary.balance: size, and a temperature above 1"
                )
                raise RecipeError(msg)
            return continue_unigram(request, allowed=allowed, minimum=self.min_saving)
        request = without_lost_text(request)
        if request.balanced:
            return self._learn(request, cut_languages(request), allowed)
        return self._learn(request, [cut_words(family, request.counts, request.protected)], allowed)

    def _learn(
        self, request: SelectionRequest, words: Sequence[WordTable], allowed: Allowed
    ) -> Selected:
        """Learn tokens; start again without those that are not needed until all are."""
        cut_alone = cut_by_base(request.family)
        unneeded: set[bytes] = set()
        while True:
            start = partial(
                BPELearner,
                allowed=partial(_is_allowed, allowed, frozenset(unneeded)),
                cut_alone=cut_alone,
                minimum=self.min_saving,
                step_cost=self.step_cost,
            )
            learner: BPELearner | BalancedLearner
            if request.balanced:
                learner = BalancedLearner(request.balanced, words, start)
            else:
                learner = start(words[0])
            with progress("learning tokens", request.size) as advance:
                for _ in learner.run(request.size):
                    advance(1)
            learned = learner.learned
            intermediate = find_intermediate_tokens(learned.surfaces, learner.unused, cut_alone)
            if not intermediate.unneeded or not self.step_cost:
                break
            # A token whose later tokens were never built. Leaving it out frees its place for
            # another one, which changes all that follow.
            unneeded |= intermediate.unneeded
        tokens_before = sum(table.tokens for table in words)
        notes = {f"left out: {reason}": count for reason, count in learned.left_out.items()}
        if isinstance(learner, BalancedLearner):
            notes |= learner.notes
            tokens_before = learner.tokens_before
        return Selected(
            tuple(learned.surfaces),
            tuple(learned.saved),
            tokens_before,
            {**notes, **intermediate.notes},
        )


def _is_allowed(allowed: Allowed, unneeded: frozenset[bytes], surface: bytes) -> bool:
    return surface not in unneeded and allowed(surface)
