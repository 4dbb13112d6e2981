"""The inputs of an extension in a temporary folder, and the steps that a run makes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from lingraft.certificate import Certificate
from lingraft.corpus import Corpus, CorpusSettings
from lingraft.errors import RecipeError, named_errors
from lingraft.library.extension_results import LearnedTokens, TokenizerExtension
from lingraft.library.given_texts import (
    Texts,
    build_corpora,
    given_texts,
    only_corpus,
    read_sentences,
)
from lingraft.library.given_tokenizer import (
    TokenizerLike,
    name_of,
    write_given_tokenizer,
)
from lingraft.library.tokenizer_splice import TokenizerSplice
from lingraft.library.work_folder import RESULT, SOURCE, WorkFolder
from lingraft.pipeline.check_stages import (
    SOURCE_BROKEN,
    certify_kept_tokens,
    certify_source_folder,
)
from lingraft.recipe.vocabulary_settings import VocabularySettings
from lingraft.store import WARNINGS, Draft
from lingraft.tokenizer.json_format import merges_of
from lingraft.tokenizer.loaded_settings import load_auto_tokenizer
from lingraft.vocabulary import ExtendedVocabulary, Extension
from lingraft.vocabulary.build_splice import extend_family, new_ids, spell_new
from lingraft.vocabulary.learn_tokens import LearnedVocabulary
from lingraft.vocabulary.learn_tokens import learn_tokens as learn_vocabulary
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.vocabulary.tokenizer_extension import extend_tokenizer as extend_folder
from lingraft.vocabulary.tokenizer_extension import open_source, require_base_text
from lingraft.workers import Workers

AllTexts: TypeAlias = Texts | Mapping[str, Texts]
"""Texts in one language, or a mapping from language tags to texts."""


@dataclass(frozen=True)
class PreparedExtension:
    """The inputs of an extension in a temporary folder: source tokenizer and corpora."""

    files: WorkFolder
    name: str
    corpora: Sequence[Corpus]
    base: Corpus | None
    settings: Extension
    draft: Draft

    @classmethod
    def of(
        cls,
        tokenizer: TokenizerLike,
        texts: AllTexts,
        settings: VocabularySettings,
        *,
        base_texts: AllTexts | None,
        language: str | None,
        parallel: Mapping[str, Sequence[str]] | None,
        workers: int,
        text_settings: Mapping[str, Any] | None,
    ) -> Self:
        """Write the inputs into a temporary folder."""
        if settings.protect_replay and base_texts is None:
            msg = (
                "protect_replay: there is no base-language text to protect; give `base_texts`, "
                "or leave out protect_replay"
            )
            raise RecipeError(msg)
        files = WorkFolder()
        (files.path / RESULT).mkdir()
        draft = Draft(files.path / RESULT)
        write_given_tokenizer(tokenizer, files.path, warn=draft.warn)
        given = given_texts(texts, language=language, settings=text_settings or {})
        corpora = build_corpora(given, files.path, draft.warn)
        base = None
        if base_texts is not None:
            given_base = given_texts(base_texts, "base_texts", settings=text_settings or {})
            built = build_corpora(given_base, files.path, draft.warn, "base_texts")
            base = only_corpus(built, "base_texts")
            given += given_base
        languages = [corpus.language for corpus in corpora]
        repaired = {text.language: text.corpus for text in given if text.corpus.cleaning}
        balance = settings.premium_balance(languages, repaired)
        if parallel is not None:
            balance = _given_balance(settings, languages, parallel, repaired)
        extension = settings.extension(balance=balance, workers=Workers(workers))
        return cls(files, name_of(tokenizer), corpora, base, extension, draft)

    @property
    def model(self) -> Path:
        """The folder of the source tokenizer, converted if necessary."""
        return self.files.path / SOURCE

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far."""
        return tuple(self.draft.notes.get(WARNINGS, ()))

    def extend(self) -> TokenizerExtension:
        """Extend the tokenizer, and check it as a run does: before, and on what was written."""
        with named_errors(self.files.path, self.name):
            made, certificate = self._extend()
        extended = load_auto_tokenizer(made.target.folder)
        return TokenizerExtension(
            extended,
            TokenizerSplice.of(made.splice, made.source, made.target, self.files),
            certificate,
            made.pretokenizer,
            self.warnings,
            {name: value for name, value in self.draft.notes.items() if name != WARNINGS},
            files=self.files,
        )

    def _extend(self) -> tuple[ExtendedVocabulary, Certificate]:
        before = certify_source_folder(self.model, self._all_corpora)
        Certificate(tuple(before), self.settings.allow).check(SOURCE_BROKEN)
        made = extend_folder(self.model, self.corpora, self.settings, self.draft, base=self.base)
        after = certify_kept_tokens(self.model, made.target.folder, made.splice)
        certificate = Certificate((*before, *made.certificate.claims, after), self.settings.allow)
        certificate.check()
        return made, certificate

    def learn(self) -> LearnedTokens:
        """Learn tokens; nothing is written or checked."""
        require_base_text(self.settings, self.base)
        with named_errors(self.files.path, self.name):
            source = open_source(self.model, self.corpora, self.base, self.draft)
            learned = learn_vocabulary(source, self.corpora, self.settings, self.base, self.draft)
        family, selected = learned.pretokenizer.family, learned.selected
        return LearnedTokens(
            tuple(spell_new(source.family, selected, new_ids(family, selected))),
            selected.saved,
            selected.tokens_before,
            _new_merges(learned),
            learned.pretokenizer.change,
            self.warnings,
        )

    @property
    def _all_corpora(self) -> list[Corpus]:
        return [*self.corpora, *([self.base] if self.base else [])]


def _given_balance(
    settings: VocabularySettings,
    languages: Sequence[str],
    parallel: Mapping[str, Sequence[str]],
    repaired: Mapping[str, CorpusSettings],
) -> PremiumBalance | None:
    """Return what premiums are counted on if sentences are given; `None` for one language."""
    if settings.balance == "size" or settings.parallel_file is not None:
        msg = "parallel: is read by balance='premium' only, and in place of a parallel_file"
        raise RecipeError(msg)
    sentences = read_sentences(parallel, languages, repaired)
    return PremiumBalance(sentences) if len(languages) > 1 else None


def _new_merges(learned: LearnedVocabulary) -> tuple[tuple[str, str], ...]:
    """Return the merges of the new tokens, as tokenizer.json spells them."""
    family = learned.pretokenizer.family
    known = set(merges_of(family.data))
    extended = merges_of(extend_family(family, learned.selected))
    return tuple(pair for pair in extended if pair not in known)
