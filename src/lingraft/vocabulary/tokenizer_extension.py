"""Extend a tokenizer: learn tokens from corpora, write the target tokenizer and certify it.

`extend_tokenizer` is the vocabulary stage of a run. The steps are: open the source, choose the
pre-tokenizer, count words, select tokens, build the splice, save the tokenizer and check the
certificate on the saved files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from lingraft.certificate import Certificate, Claim, Evidence, certify, write_certificate
from lingraft.corpus import Corpus
from lingraft.errors import RecipeError
from lingraft.pretokenizer.change import PRETOKENIZER, PretokenizerChange
from lingraft.progress import progress
from lingraft.splice import Splice
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.conversion_check import check_if_converted
from lingraft.tokenizer.edge_cases import code_texts, edge_case_texts
from lingraft.tokenizer.loaded_settings import with_loaded_settings
from lingraft.tokenizer.premiums import lost_text_warnings
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.tokenizer.sentencepiece_model import CONVERTED_FROM
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.build_splice import build_splice
from lingraft.vocabulary.extension_files import (
    summarize,
    write_curve,
    write_pretokenizer_change,
    write_samples,
    write_splice,
)
from lingraft.vocabulary.extension_warnings import (
    suggest_protection,
    warn_of_lost_characters,
)
from lingraft.vocabulary.learn_tokens import Extension, learn_tokens, select_protected
from lingraft.vocabulary.premium_balance import PREMIUMS, measure_premiums
from lingraft.vocabulary.text_normaliser import choose_normaliser
from lingraft.vocabulary.thin_evidence import enough_texts, warn_of_thin_evidence

# Held-out documents of each language on which a converted tokenizer is compared with SentencePiece.
COMPARED_DOCUMENTS = 200


@dataclass(frozen=True)
class ExtendedVocabulary:
    """Both tokenizers of an extension, the splice between them, and what was checked and changed.

    `target` is read from the saved files.
    """

    source: ModelTokenizer
    target: ModelTokenizer
    splice: Splice
    certificate: Certificate
    pretokenizer: PretokenizerChange


def extend_tokenizer(
    source_folder: Path,
    corpora: Sequence[Corpus],
    extension: Extension,
    draft: Draft,
    *,
    base: Corpus | None = None,
) -> ExtendedVocabulary:
    """Learn tokens from the corpora (one per language) and write the target tokenizer to a draft.

    Writes tokenizer/, splice.json, id_remap.json (if ids are dropped), certificate.json,
    samples.json, curve.json and pretokenizer.json, and premiums.json if premiums are balanced. The
    certificate checks the segmentation of `base`, which is base-language text. Raises
    `TokenizerError` for an unknown family, `CertificateError` if a claim fails, `RecipeError` for
    contradicting settings.
    """
    require_base_text(extension, base)
    source = open_source(source_folder, corpora, base, draft)
    learned = learn_tokens(source, corpora, extension, base, draft)
    selected, decision = learned.selected, learned.pretokenizer
    data, splice = build_splice(source.family, decision.family, selected, source_folder)
    normaliser = choose_normaliser(source, corpora, base)
    if normaliser is not None:
        data = normaliser.added_to(data)
        normaliser.report(draft)
    target_folder = draft.folder / "tokenizer"
    save_tokenizer(source, data, splice, target_folder, merges=not selected.whole_units)
    write_splice(splice, draft)
    # The certificate is checked on the tokenizer that is read back from the saved files.
    target = open_tokenizer(target_folder)
    evidence = Evidence(
        source,
        target,
        splice,
        by_rules=not selected.whole_units,
        target_train=partial(_train_texts, corpora),
        target_heldout=partial(_heldout_texts, corpora),
        base_text=partial(_heldout_texts, [base]) if base else None,
        protected_text=partial(_train_texts, [base]) if base and extension.protect else None,
        normal_form=normaliser.form if normaliser and normaliser.given else None,
    )
    others = [normaliser.claim()] if normaliser else []
    premiums = None
    if extension.balance is not None and len(corpora) > 1:
        parallel = extension.balance.parallel or {}
        lost = lost_text_warnings({"the tokenizer of the base": source}, parallel)
        for warning in (*extension.balance.warnings(corpora), *lost):
            draft.warn(warning)
        premiums = measure_premiums(extension.balance, corpora, source, target)
        premiums.write(draft.path(PREMIUMS))
        others.append(premiums.claim())
    certificate = _check_certificate(evidence, others, extension, draft)
    warn_of_thin_evidence(corpora, base, draft)
    if base and learned.words and not extension.protect:
        learn_protected = partial(select_protected, source, corpora, learned, extension, base)
        suggest_protection(certificate.claims, selected, learn_protected, base, draft)
    write_samples(source, target, corpora, draft.path("samples.json"))
    write_curve(learned.full, draft.path("curve.json"))
    change = replace(decision.change, reinitialised=len(splice.reinitialised))
    write_pretokenizer_change(change, draft.path(PRETOKENIZER))
    draft.notes |= summarize(source, change, selected, extension)
    draft.notes |= premiums.notes() if premiums else {}
    return ExtendedVocabulary(source, target, splice, certificate, change)


def require_base_text(extension: Extension, base: Corpus | None) -> None:
    """Raise `RecipeError` if base-language text is to be protected and there is none."""
    if extension.protect and base is None:
        msg = (
            "vocabulary.protect_replay: there is no base-language text to protect; add `replay` "
            "(with share: 0 it is not trained on), or set vocabulary.protect_replay: false"
        )
        raise RecipeError(msg)


def _all_corpora(corpora: Sequence[Corpus], base: Corpus | None) -> list[Corpus]:
    return [*corpora, base] if base else list(corpora)


def open_source(
    folder: Path, corpora: Sequence[Corpus], base: Corpus | None, draft: Draft
) -> ModelTokenizer:
    """Open the source tokenizer; a converted one is first compared with SentencePiece on text."""
    source = open_tokenizer(folder)
    if CONVERTED_FROM in source.config:
        texts: list[str] = []
        for corpus in _all_corpora(corpora, base):
            texts += islice(corpus.documents("heldout"), COMPARED_DOCUMENTS)
        if isinstance(source.family, Unigram):
            # Lines, not documents: SentencePiece sums scores in 32 bits and `tokenizers` in 64.
            # Over thousands of tokens that decides near ties differently.
            texts = list(chain.from_iterable(text.splitlines() for text in texts))
        check_if_converted(source, [*edge_case_texts(), *code_texts()], texts, warn=draft.warn)
    source = with_loaded_settings(source, draft.warn)
    # The marker is for this check only and must not be written to the target's configuration.
    config = {key: value for key, value in source.config.items() if key != CONVERTED_FROM}
    return replace(source, config=config)


def _train_texts(corpora: Sequence[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        yield from corpus.documents("train")


def _heldout_texts(corpora: Sequence[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        yield from enough_texts(corpus.documents("heldout"))


def _check_certificate(
    evidence: Evidence, others: Sequence[Claim], extension: Extension, draft: Draft
) -> Certificate:
    """Check all claims and write the certificate; raises `CertificateError` if one fails.

    `others` are claims that were checked already.
    """
    with progress("checking the certificate"):
        claims = [*certify(evidence), *others]
        certificate = write_certificate(
            claims, draft.path("certificate.json"), waived=extension.allow
        )
    warn_of_lost_characters(certificate.claims, evidence.source.family, draft)
    return certificate
