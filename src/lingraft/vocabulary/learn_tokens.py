"""Learn tokens from corpora: choose the pre-tokenizer, count words, select, apply the size rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.corpus import Corpus, first_documents
from lingraft.errors import RecipeError
from lingraft.store import Draft
from lingraft.tokenizer import Family, ModelTokenizer
from lingraft.vocabulary.auto_size import AutoSize, ServingCost
from lingraft.vocabulary.base import LanguageText, Selected, Selection, SelectionRequest
from lingraft.vocabulary.build_splice import protect_text
from lingraft.vocabulary.corpus_words import (
    MAX_WORDS,
    CorpusWords,
    count_words,
    report_left_out,
    report_special_tokens,
)
from lingraft.vocabulary.extension_warnings import check_number_found
from lingraft.vocabulary.language_shares import mix_counts
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.vocabulary.pretokenizer_choice import (
    SAMPLE_BYTES,
    PretokenizerDecision,
    choose_pretokenizer,
    keep_pretokenizer,
)
from lingraft.vocabulary.unchanged_text import unchanged_text
from lingraft.vocabulary.whole_words import Nothing
from lingraft.workers import HERE, Workers


@dataclass(frozen=True)
class Extension:
    """How to extend a vocabulary.

    Attributes:
        selection: the method that selects tokens.
        size: the number of tokens, or the rule that finds it.
        pretokenizer: the rule or the name, see `choose_pretokenizer`.
        protect: whether to leave out tokens that would change base-language text.
        temperature: evens out the shares of several languages if it is above 1.
        weights: one weight for each language.
        balance: how the premiums of several languages are made equal; `None` if their amounts of
            text, with temperature and weights, decide which tokens are learned.
        allow: names of claims that may fail.
        serving: the cost that the rule `serving` of `AutoSize` minimises.
        workers: the processes that count words. They do not change the result.
    """

    selection: Selection
    size: int | AutoSize = 10_000
    pretokenizer: str = "auto"
    protect: bool = False
    temperature: float = 1.0
    weights: tuple[float, ...] | None = None
    balance: PremiumBalance | None = None
    allow: tuple[str, ...] = ()
    serving: ServingCost | None = None
    workers: Workers = HERE

    @property
    def max_size(self) -> int:
        """The maximum number of tokens to add."""
        return self.size.max_size if isinstance(self.size, AutoSize) else self.size

    @property
    def requested(self) -> int | str:
        """The number of tokens, or the name of the rule that finds it."""
        return f"auto ({self.size.rule})" if isinstance(self.size, AutoSize) else self.size


@dataclass(frozen=True)
class LearnedVocabulary:
    """What was learned from the corpora: `selected` is the part of `full` that is added."""

    where: Path
    pretokenizer: PretokenizerDecision
    words: Sequence[CorpusWords]
    full: Selected
    selected: Selected


def learn_tokens(
    source: ModelTokenizer,
    corpora: Sequence[Corpus],
    extension: Extension,
    base: Corpus | None,
    draft: Draft,
) -> LearnedVocabulary:
    """Choose the pre-tokenizer, count the words of the corpora and select tokens."""
    if not extension.max_size or isinstance(extension.selection, Nothing):
        decision = keep_pretokenizer(source.family, "nothing is added")
        return LearnedVocabulary(source.folder, decision, (), Selected(()), Selected(()))
    decision = _choose_pretokenizer(source, corpora, extension, base)
    words = []
    for corpus in corpora:
        words.append(count_words(decision.family, corpus, extension.workers, MAX_WORDS))
        report_left_out(words[-1], draft)
    full, selected = _select(decision.family, words, extension, base, source.folder)
    report_special_tokens(words, draft)
    check_number_found(selected, extension.size, extension.selection, corpora, draft)
    return LearnedVocabulary(source.folder, decision, words, full, selected)


def _choose_pretokenizer(
    source: ModelTokenizer, corpora: Sequence[Corpus], extension: Extension, base: Corpus | None
) -> PretokenizerDecision:
    return choose_pretokenizer(
        source.family,
        extension.pretokenizer,
        texts=_sample_texts(corpora),
        base=unchanged_text(base, corpora, protect=extension.protect),
        selection=extension.selection,
        size=extension.max_size,
        where=source.folder,
    )


def _sample_texts(corpora: Sequence[Corpus]) -> Iterator[str]:
    """Yield the first documents of each corpus, the same number of bytes from each."""
    for corpus in corpora:
        yield from first_documents(corpus.documents("train"), SAMPLE_BYTES // len(corpora))


def _select(
    family: Family,
    words: Sequence[CorpusWords],
    extension: Extension,
    base: Corpus | None,
    where: Path,
) -> tuple[Selected, Selected]:
    """Return all tokens that were learned, and those of them that the size rule keeps."""
    units, sizes = [], []
    for corpus_words in words:
        units.append(corpus_words.units)
        sizes.append(corpus_words.bytes)
    counts = mix_counts(units, sizes, extension.temperature, extension.weights)
    # Counting base-language text takes time, so it is done only if something needs it.
    base_counts: Counter[str] = Counter()
    if base is not None and (extension.protect or extension.selection.needs_base):
        base_counts = count_words(family, base, extension.workers).units
    protected = frozenset(base_counts) if extension.protect else frozenset()
    balanced: tuple[LanguageText, ...] = ()
    if extension.balance is not None and len(words) > 1:
        balanced = extension.balance.texts(family, words)
    request = SelectionRequest(
        family,
        counts,
        extension.max_size,
        protected,
        base_counts,
        where=where,
        balanced=balanced,
    )
    full = protect_text(family, extension.selection.select(request), protected)
    if not isinstance(extension.size, AutoSize):
        return full, full
    if (full.surfaces and not full.saved) or full.dropped:
        msg = (
            "vocabulary.size: auto needs the saving of each token, which the method "
            f"{extension.selection.name} does not report; set a number"
        )
        raise RecipeError(msg)
    return full, full.first(extension.size.choose(full, extension.serving))


def select_protected(
    source: ModelTokenizer,
    corpora: Sequence[Corpus],
    learned: LearnedVocabulary,
    extension: Extension,
    base: Corpus,
) -> Selected:
    """Select tokens again, with base-language text protected, if need be by the old regex."""
    protecting, words = replace(extension, protect=True), learned.words
    decision = learned.pretokenizer
    if decision.change.changed:
        decision = _choose_pretokenizer(source, corpora, protecting, base)
    if decision.change.rewrite != learned.pretokenizer.change.rewrite:
        family, workers = decision.family, extension.workers
        words = [count_words(family, corpus, workers, MAX_WORDS) for corpus in corpora]
    _, selected = _select(decision.family, words, protecting, base, learned.where)
    return selected
