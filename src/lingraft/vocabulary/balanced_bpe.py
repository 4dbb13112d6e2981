"""Continued BPE for several languages: each token goes to the language that needs most tokens.

The *premium* is here the number of tokens of a text for each unit of its content (see
`LanguageText`). It is proportional to the usual premium over English (Petrov et al. 2023). Each
step takes the language of the highest premium and makes the best candidate of its text a token,
which is merged in the text of every language. This greedily lowers the highest premium, as
parity-aware BPE does (Foroutan et al. 2025, arXiv 2508.04796). A candidate is the best one by the
tokens that it saves in the training text of its language; premiums are counted on the measured
text. Counts are compared within a language only, and savings are added up for the same content in
each language, so the amount of its text does not matter.

A language whose premium can hardly fall any more, for example because of the lower bound that the
pre-tokenizer sets, would take all further tokens for nothing. This is checked after every `WINDOW`
of its tokens: if they have lowered its premium by less than `MIN_GAIN`, the language *rests* until
every other language rests, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lingraft.vocabulary.base import LanguageText, SelectionRequest
from lingraft.vocabulary.bpe_learner import BPELearner, RankedTokens
from lingraft.vocabulary.language_shares import SCALE
from lingraft.vocabulary.word_counts import WordTable, cut_words

# Most single tokens save nothing in a few hundred sentences, 200 together do. At this rate,
# 10,000 more tokens would shorten the language by less than 5%.
WINDOW = 200
MIN_GAIN = 0.001


@dataclass
class LanguageProgress:
    """A language with its learner and the tokens that were chosen for it.

    Attributes:
        text: the texts of the language.
        learner: the words of the language with all tokens that were learned.
        chosen: the number of tokens that were chosen for this language.
        rested_at: the number of them when it first rested; `None` if it never did.
        finished: whether its text has no candidate as it is cut now.
    """

    text: LanguageText
    learner: BPELearner
    chosen: int = 0
    rested_at: int | None = None
    resting: bool = False
    finished: bool = False
    tokens_before_window: int = field(init=False)

    def __post_init__(self) -> None:
        """Start the first window."""
        self.tokens_before_window = self.learner.measured_tokens

    @property
    def premium(self) -> float:
        """The tokens of the measured text for each unit of its content."""
        return self.learner.measured_tokens / self.text.content

    @property
    def merged_last(self) -> bool:
        """Whether the last token of all occurs in the training text of this language."""
        learner = self.learner
        return learner.uses.get(learner.symbol_of[learner.learned.surfaces[-1]], 0) > 0

    def count_token(self) -> None:
        """Count a token that was chosen for this language; rest if the last ones saved little."""
        self.chosen += 1
        if self.chosen % WINDOW:
            return
        before, self.tokens_before_window = self.tokens_before_window, self.learner.measured_tokens
        if before - self.tokens_before_window < MIN_GAIN * before:
            self.resting = True
            if self.rested_at is None:
                self.rested_at = self.chosen


class BalancedLearner:
    """Learns tokens for several languages in turn, each from the words of its own text.

    Args:
        texts: the texts of the languages.
        words: the words of each language, and then the protected words if there are any.
        start: returns a learner of words.

    `learned` and `unused` are those of a `BPELearner` for all languages together. `tokens_before`
    and the savings are the tokens of text with the same content in each language, times a factor.
    """

    def __init__(
        self,
        texts: Sequence[LanguageText],
        words: Sequence[WordTable],
        start: Callable[[WordTable], BPELearner],
    ) -> None:
        self._learners = [start(table) for table in words]
        self.languages = list(map(LanguageProgress, texts, self._learners))
        self._guard = self._learners[-1] if len(words) > len(texts) else None
        self.learned = RankedTokens()
        self._weights = _weights(self.languages)
        tokens = [
            weight * table.tokens for weight, table in zip(self._weights, words, strict=False)
        ]
        self.tokens_before = round(sum(tokens))

    def run(self, size: int) -> Iterator[bytes]:
        """Learn up to `size` more tokens, and yield each."""
        target = len(self.learned.surfaces) + size
        while len(self.learned.surfaces) < target:
            language = self._next_language()
            if language is None:
                return
            surface = language.learner.pop_best()
            if surface is None:
                language.finished = True
                continue
            reason = self._find_objection(language.learner, surface)
            if reason:
                self._refuse(surface, reason)
                continue
            self._accept(surface)
            language.count_token()
            yield surface

    @property
    def unused(self) -> list[bytes]:
        """The new tokens that occur in the text of no language as it is cut now."""
        unused = set(self.learned.surfaces)
        for learner in self._learners:
            unused.intersection_update(learner.unused)
        return [surface for surface in self.learned.surfaces if surface in unused]

    @property
    def notes(self) -> dict[str, int]:
        """How many tokens were chosen for each language, and when a language first rested."""
        notes = {}
        for language in self.languages:
            notes[f"tokens chosen for {language.text.language}"] = language.chosen
            if language.rested_at is not None:
                name = f"tokens after which {language.text.language} could gain little"
                notes[name] = language.rested_at
        return notes

    def _next_language(self) -> LanguageProgress | None:
        """Return the language of the highest premium among those that can get tokens."""
        able = [language for language in self.languages if not language.finished]
        active = [language for language in able if not language.resting]
        if not active:
            # The tokens that are left go to the highest premium again, a window at a time.
            for language in able:
                language.resting = False
            active = able
        return max(active, key=lambda language: language.premium, default=None)

    def _find_objection(self, learner: BPELearner, surface: bytes) -> str:
        """Return why a candidate of a language cannot be a token, or an empty string."""
        reason = learner.find_objection(surface)
        if not reason and self._guard and self._guard.occurs_in_protected(surface):
            return "it would change protected text"
        return reason

    def _refuse(self, surface: bytes, reason: str) -> None:
        """Make a surface no candidate in any language."""
        self.learned.left_out[reason] += 1
        for learner in self._learners:
            learner.candidates.refuse(surface)

    def _accept(self, surface: bytes) -> None:
        """Make a surface a token in every language: all learners have the same new tokens."""
        for learner in self._learners:
            learner.accept(surface)
        saved = 0.0
        for language, weight in zip(self.languages, self._weights, strict=True):
            saved += weight * language.learner.learned.saved[-1]
            # Its symbols have new neighbours, which may be candidates.
            language.finished = language.finished and not language.merged_last
        self.learned.surfaces.append(surface)
        self.learned.saved.append(round(saved))


def _weights(languages: Sequence[LanguageProgress]) -> list[float]:
    """Return the weight of each language's training tokens, with which languages are added up.

    Weighted by it, a text has its premium times a common factor: the tokens of the same content.
    Without parallel sentences, this is 1 / content.
    """
    tokens = [language.learner.words.tokens for language in languages]
    premiums = [language.premium for language in languages]
    factor = SCALE * sum(tokens) / (sum(premiums) or 1)
    return [
        factor * premium / max(count, 1) for premium, count in zip(premiums, tokens, strict=True)
    ]


def cut_languages(request: SelectionRequest) -> list[WordTable]:
    """Cut the words of each language, and then the protected words if there are any."""
    family = request.family
    tables = [cut_words(family, text.counts, measured=text.measured) for text in request.balanced]
    if request.protected:
        tables.append(cut_words(family, Counter(), request.protected))
    return tables
