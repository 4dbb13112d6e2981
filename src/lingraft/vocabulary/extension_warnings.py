"""Warnings of an extension: lost characters, too few tokens, changed base-language text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lingraft.certificate import BASE_LOSS, Claim
from lingraft.certificate.text_claims import BASE_IDENTICAL
from lingraft.corpus import Corpus
from lingraft.display_text import UNKNOWN_LANGUAGE
from lingraft.errors import RecipeError
from lingraft.store import Draft
from lingraft.tokenizer import Family
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.auto_size import AutoSize
from lingraft.vocabulary.base import Selected, Selection
from lingraft.vocabulary.intermediate_tokens import INTERMEDIATE

# Warn if fewer than this share of the requested tokens was found.
MIN_FOUND_SHARE = 0.9
# Suggest protection if more than this share of base-language documents is tokenised differently.
MAX_CHANGED_SHARE = 0.02


def warn_of_lost_characters(claims: Iterable[Claim], family: Family, draft: Draft) -> None:
    """Warn of characters in the target text that the base tokenizer itself cannot represent."""
    effect = "new merges of a BPE do not bring them back"
    if isinstance(family, Unigram):
        effect = (
            "new tokens bring back characters without a piece, but not characters that the "
            "normalizer removes"
        )
    for claim in claims:
        if claim.name == BASE_LOSS and claim.value:
            draft.warn(
                f"source tokenizer: {claim.detail}; {effect}; choose another base if these matter"
            )


def check_number_found(
    selected: Selected,
    size: int | AutoSize,
    method: Selection,
    corpora: Sequence[Corpus],
    draft: Draft,
) -> None:
    """Warn if clearly fewer tokens were found, or can be removed, than requested.

    Raises `RecipeError` if a number was requested and no token was found or can be removed.
    """
    found = len(selected.surfaces)
    if isinstance(size, AutoSize):
        if not found:
            draft.warn(
                "vocabulary: size auto adds 0 tokens because no number of tokens pays for itself; "
                "set vocabulary.size to a number to add tokens anyway"
            )
        return
    if method.removes:
        _check_number_removed(len(selected.dropped), size, draft)
        size = len(selected.dropped) if method.adds else 0
    if found >= MIN_FOUND_SHARE * size:
        return
    reason = _why_few(selected, corpora)
    if not found:
        msg = (
            f"vocabulary: 0 of {size:,} tokens can be added, {reason}; give more text, or set "
            "vocabulary.size: 0"
        )
        raise RecipeError(msg)
    draft.warn(
        f"vocabulary: {found:,} of {size:,} tokens were added ({found / size:.0%}), {reason}; give "
        f"more text, or set vocabulary.size: {found}"
    )


def _check_number_removed(removed: int, size: int, draft: Draft) -> None:
    """Warn if clearly fewer tokens can be removed than requested, raise `RecipeError` for none."""
    kept = "special tokens, bytes, single characters, white space and tokens of protected text stay"
    if not removed:
        msg = f"vocabulary: 0 of {size:,} tokens can be removed: {kept}; choose another method"
        raise RecipeError(msg)
    if removed < MIN_FOUND_SHARE * size:
        draft.warn(
            f"vocabulary: {removed:,} of {size:,} tokens were removed ({removed / size:.1%}): "
            f"{kept}; set vocabulary.size: {removed}"
        )


def _why_few(selected: Selected, corpora: Sequence[Corpus]) -> str:
    """Return the size of the training text, and the candidates that were left out."""
    documents = size = 0
    for corpus in corpora:
        counts = corpus.counts("train")
        documents += counts.documents
        size += counts.bytes
    reason = (
        f"because the training text ({documents:,} documents, {size:,} bytes) holds no others that "
        "save enough tokens (min_saving, step_cost)"
    )
    for note, count in selected.notes.items():
        # Intermediate tokens are among those that were added: they are not a reason.
        if count and not note.startswith(INTERMEDIATE):
            reason += f"; {note}: {count:,}"
    return reason


def suggest_protection(
    claims: Sequence[Claim],
    free: Selected,
    select_protected: Callable[[], Selected],
    base: Corpus,
    draft: Draft,
) -> None:
    """If much base-language text changes, warn with the cost of protecting it.

    The cost is measured: `select_protected` learns the tokens again with protection.
    """
    changed = next(claim for claim in claims if claim.name == BASE_IDENTICAL)
    if changed.value > MAX_CHANGED_SHARE * changed.of:
        cost = cost_of_protecting(free, select_protected())
        draft.warn(_changed_base_text(changed, base.language, cost))


def cost_of_protecting(free: Selected, protected: Selected) -> float | None:
    """Return the share by which the target text grows if base-language text is protected.

    Returns `None` if the method does not report what each token saves.

    >>> free, protected = Selected((b"ab",), (60,), 100), Selected((b"c",), (50,), 100)
    >>> cost_of_protecting(free, protected)
    0.25
    """
    if not free.saved or not protected.saved:
        return None
    tokens_free = free.tokens_before - sum(free.saved)
    tokens_protected = protected.tokens_before - sum(protected.saved)
    return tokens_protected / tokens_free - 1 if tokens_free else None


def _changed_base_text(changed: Claim, language: str, cost: float | None) -> str:
    """Return the warning that base-language text is tokenised differently."""
    price = "at a cost that this method cannot predict"
    if cost is not None:
        price = f"for {cost:.1%} more tokens in the target text"
    place = "of the base language" if language == UNKNOWN_LANGUAGE else f"in {language}"
    return (
        f"vocabulary: {changed.value:,} of {changed.of:,} held-out texts {place} "
        f"({changed.value / changed.of:.1%}) are tokenised differently than before; "
        f"vocabulary.protect_replay: true keeps all training text {place} as it was, {price}"
    )
