"""Premiums of several target languages: what they are counted on, and their report.

With parallel sentences, the premium of a language is the number of tokens of its sentences. Without
them, it is the number of tokens of the training text for each byte of English that would say the
same, by a table (`text_lengths`). Afterwards the premiums of both tokenizers are measured with the
saved tokenizer: on the parallel sentences, or on held-out text with the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lingraft.certificate import Claim
from lingraft.corpus import Corpus
from lingraft.corpus.health import TextHealth
from lingraft.errors import RecipeError
from lingraft.formatting import factor, number
from lingraft.store import write_json
from lingraft.tokenizer import Family, ModelTokenizer
from lingraft.tokenizer.premiums import REFERENCE, gini
from lingraft.tokenizer.unknown_tokens import count_tokens
from lingraft.vocabulary.base import LanguageText
from lingraft.vocabulary.corpus_words import CorpusWords
from lingraft.vocabulary.text_lengths import relative_lengths

PREMIUMS = "premiums.json"


@dataclass(frozen=True)
class PremiumBalance:
    """What premiums are counted on.

    `parallel` has the same sentences by language, `REFERENCE` among them. If it is `None`, the
    table of text lengths is used.
    """

    parallel: Mapping[str, Sequence[str]] | None = None

    def check(self, languages: Sequence[str]) -> None:
        """Raise `RecipeError` if a language has neither sentences nor an entry of the table."""
        if self.parallel is None:
            relative_lengths(languages)
            return
        missing = [tag for tag in (*languages, REFERENCE) if not self.parallel.get(tag)]
        if missing:
            msg = f"parallel: no sentences in {', '.join(missing)}; give those of every language"
            raise RecipeError(msg)

    def warnings(self, corpora: Sequence[Corpus]) -> list[str]:
        """Return what the parallel sentences contain besides text in their languages.

        They may be in the scripts that the corpora of the languages declare.
        """
        scripts = {corpus.language: corpus.scripts for corpus in corpora}
        found: list[str] = []
        for language, sentences in (self.parallel or {}).items():
            health = TextHealth.of(language, sentences, scripts.get(language, ()))
            found += health.warnings("parallel sentences")
        return found

    def texts(self, family: Family, words: Sequence[CorpusWords]) -> tuple[LanguageText, ...]:
        """Return the texts of each language; raises `RecipeError` as `check` does."""
        languages = [text.language for text in words]
        self.check(languages)
        texts = []
        if self.parallel is not None:
            # The same sentences say the same, so that tokens can be compared as they are.
            for text in words:
                measured = family.units(self.parallel[text.language])
                texts.append(LanguageText(text.language, text.units, measured, 1.0))
            return tuple(texts)
        for text, length in zip(words, relative_lengths(languages), strict=True):
            content = text.bytes * text.kept_share / length
            texts.append(LanguageText(text.language, text.units, text.units, content))
        return tuple(texts)


@dataclass(frozen=True)
class LanguagePremium:
    """The premium of a language before and after, and the least one that is possible.

    The lower bound is one token for each pre-token of the extended tokenizer. With parallel
    sentences, values are relative to `REFERENCE` before the extension, else they are tokens per
    byte of English with the same content.
    """

    language: str
    before: float
    after: float
    lower_bound: float


@dataclass(frozen=True)
class Premiums:
    """The premiums of the target languages, and of the reference if there are its sentences."""

    measured_on: str
    languages: tuple[LanguagePremium, ...]
    reference: LanguagePremium | None

    def gini(self, *, after: bool, with_reference: bool = False) -> float:
        """Return the Gini coefficient over the target languages, or also over the reference."""
        measured = list(self.languages)
        if with_reference and self.reference:
            measured.append(self.reference)
        return gini([value.after if after else value.before for value in measured])

    def write(self, path: Path) -> None:
        """Write premiums.json."""
        ginis = {}
        for name, with_reference in (("gini", False), ("gini_with_reference", True)):
            if with_reference and not self.reference:
                continue
            ginis[name] = {
                "before": self.gini(after=False, with_reference=with_reference),
                "after": self.gini(after=True, with_reference=with_reference),
            }
        content = {**asdict(self), **ginis}
        write_json(path, content)

    def claim(self) -> Claim:
        """Return the claim that no target language needs more tokens than before."""
        longer = [value.language for value in self.languages if value.after > value.before]
        return Claim(
            "no target language longer",
            len(longer),
            len(self.languages),
            "languages",
            f"no language needs more tokens for the same content, on {self.measured_on}; Gini "
            f"coefficient of the premiums: {self._change(with_reference=False)}",
            fatal=False,
            exceptions=tuple(longer),
        )

    def notes(self) -> dict[str, str]:
        """Return the Gini coefficients and the premiums as notes of the stage."""
        tags = ", ".join(value.language for value in self.languages)
        notes = {f"Gini of premiums ({tags})": self._change(with_reference=False)}
        if self.reference:
            name = f"Gini of premiums with {REFERENCE}"
            notes[name] = self._change(with_reference=True)
        for value in self.languages:
            form = factor if self.reference else number
            notes[f"premium of {value.language}"] = (
                f"{form(value.before)} before, {form(value.after)} after, at least "
                f"{form(value.lower_bound)} with this pre-tokenizer"
            )
        notes["premiums measured on"] = self.measured_on
        return notes

    def _change(self, *, with_reference: bool) -> str:
        before = self.gini(after=False, with_reference=with_reference)
        after = self.gini(after=True, with_reference=with_reference)
        return f"{before:.3f} before, {after:.3f} after"


def measure_premiums(
    balance: PremiumBalance,
    corpora: Sequence[Corpus],
    source: ModelTokenizer,
    target: ModelTokenizer,
) -> Premiums:
    """Measure the premiums of both tokenizers in the languages of the corpora."""
    languages = [corpus.language for corpus in corpora]
    if balance.parallel is not None:
        english = _Lengths.of(balance.parallel[REFERENCE], source, target)
        measured = []
        for language in (*languages, REFERENCE):
            lengths = _Lengths.of(balance.parallel[language], source, target)
            measured.append(lengths.premium(language, english.before))
        on = f"{len(balance.parallel[REFERENCE]):,} parallel sentences"
        return Premiums(on, tuple(measured[:-1]), measured[-1])
    measured = []
    for corpus, length in zip(corpora, relative_lengths(languages), strict=True):
        documents = list(corpus.documents("heldout"))
        size = sum(len(text.encode()) for text in documents)
        lengths = _Lengths.of(documents, source, target)
        measured.append(lengths.premium(corpus.language, size / length))
    return Premiums("held-out text, with the table of text lengths", tuple(measured), None)


@dataclass(frozen=True)
class _Lengths:
    """The tokens of texts under both tokenizers, and the pre-tokens of the extended one.

    A lost character counts as one token.
    """

    before: int
    after: int
    units: int

    @classmethod
    def of(cls, texts: Sequence[str], source: ModelTokenizer, target: ModelTokenizer) -> _Lengths:
        return cls(
            sum(count_tokens(source, texts)),
            sum(count_tokens(target, texts)),
            target.family.units(texts).total(),
        )

    def premium(self, language: str, content: float) -> LanguagePremium:
        """Return the premium for texts with this content."""
        content = max(content, 1)
        return LanguagePremium(
            language, self.before / content, self.after / content, self.units / content
        )
