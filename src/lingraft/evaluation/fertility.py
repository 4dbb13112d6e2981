"""Fertility: into how many tokens a tokenizer cuts words, bytes and sentences, and how that compares with others.

Words and sentences are those of `words`; in scripts without spaces tokens per word say nothing, the row's note says so,
and characters per token is the number to read. The *normalised sequence length* (Dagan et al. 2024, arXiv 2402.01035)
is the tokens of a text over those of a reference tokenizer, the *premium* (Petrov et al. 2023, arXiv 2305.15425) the
tokens of sentences in a language over those of the same sentences in English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lingraft.evaluation.bootstrap import difference_row, ratio_row
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.words import is_unspaced, words_in
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from lingraft.evaluation.text_scores import TextScores

__all__ = [
    "fertility",
    "fertility_changes",
    "is_unspaced",
    "premium",
    "sequence_length",
    "words_in",
]

ENGLISH = "en"
NO_SPACES = "a script without spaces: read characters per token instead"


def fertility(
    scores: TextScores, language: str, subject: str, bootstrap: BootstrapSettings
) -> list[Measurement]:
    """Measure tokens per word, byte, sentence and document, and characters per token, with intervals over documents."""
    tokens, ones = scores.tokens, np.ones(len(scores.tokens))
    ratios = (
        (
            "tokens per word",
            "tokens/word",
            tokens,
            scores.words,
            NO_SPACES if scores.unspaced else "",
        ),
        ("tokens per byte", "tokens/byte", tokens, scores.bytes, ""),
        ("tokens per sentence", "tokens/sentence", tokens, scores.sentences, ""),
        ("tokens per document", "tokens/document", tokens, ones, ""),
        ("characters per token", "characters/token", scores.characters, tokens, ""),
    )
    rows = [
        ratio_row(
            metric,
            unit,
            top,
            bottom,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            note=remark,
        )
        for metric, unit, top, bottom, remark in ratios
    ]
    return [row for row in rows if row is not None]


def fertility_changes(
    scores: TextScores,
    reference: TextScores,
    language: str,
    subject: str,
    first: str,
    *,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure how tokens per word change from the reference, and how many documents keep their ids."""
    same = [
        float(np.array_equal(a, b))
        for a, b in zip(scores.documents(), reference.documents(), strict=True)
    ]
    rows = (
        difference_row(
            "tokens per word",
            "tokens/word",
            (scores.tokens, scores.words),
            (reference.tokens, reference.words),
            subject=subject,
            first=first,
            language=language,
            bootstrap=bootstrap,
        ),
        ratio_row(
            "documents tokenised identically",
            "share",
            same,
            [1] * len(same),
            subject=subject,
            language=language,
            bootstrap=bootstrap,
        ),
    )
    return [row for row in rows if row is not None]


def sequence_length(
    scores: TextScores,
    reference_tokens: Sequence[int],
    name: str,
    language: str,
    subject: str,
    *,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the normalised sequence length: tokens over those of a reference tokenizer, on the same documents."""
    row = ratio_row(
        "normalised sequence length",
        "ratio",
        scores.tokens,
        reference_tokens,
        subject=subject,
        language=language,
        bootstrap=bootstrap,
        note=f"tokens over those of {name}",
    )
    return [row] if row else []


def premium(
    tokenizer: ModelTokenizer,
    columns: Mapping[str, Sequence[str]],
    subject: str,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the premium of each language over English on parallel sentences, with intervals over sentences."""
    english = [len(ids) for ids in tokenizer.encode(columns[ENGLISH])]
    rows = [
        ratio_row(
            "premium over English",
            "ratio",
            [len(ids) for ids in tokenizer.encode(texts)],
            english,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            per="sentence",
            split="parallel",
        )
        for language, texts in columns.items()
        if language != ENGLISH
    ]
    return [row for row in rows if row is not None]
