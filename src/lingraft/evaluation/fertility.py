"""Fertility: the number of tokens per word, byte and sentence, compared between tokenizers.

In scripts without spaces, syllables or characters take the place of words (`text_units`), and the
metric has their name: "tokens per character". The *normalised sequence length* (Dagan et al. 2024,
arXiv 2402.01035) is the number of tokens of a text, divided by that of a reference tokenizer. The
*premium* (Petrov et al. 2023, arXiv 2305.15425) is the number of tokens of sentences in a language,
divided by that of the same sentences in English.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lingraft.evaluation.bootstrap import (
    measure_difference,
    measure_ratio,
    percentiles,
    resampled_ratios,
)
from lingraft.evaluation.config import BootstrapSettings
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.premiums import REFERENCE, gini
from lingraft.tokenizer.unknown_tokens import count_tokens

if TYPE_CHECKING:
    from lingraft.evaluation.text_scores import TextScores


def fertility(
    scores: TextScores, language: str, subject: str, bootstrap: BootstrapSettings
) -> list[Measurement]:
    """Measure tokens per text unit, byte, sentence and document, and characters per token."""
    # A ratio with 1 per document as denominator is the mean per document.
    tokens, documents = scores.tokens, np.ones(len(scores.tokens))
    unit = scores.unit
    ratios = (
        (unit.metric, unit.ratio, tokens, scores.units, unit.note),
        ("tokens per byte", "tokens/byte", tokens, scores.bytes, ""),
        ("tokens per sentence", "tokens/sentence", tokens, scores.sentences, ""),
        ("tokens per document", "tokens/document", tokens, documents, ""),
        ("characters per token", "characters/token", scores.characters, tokens, ""),
    )
    measurements: list[Measurement] = []
    for metric, ratio, top, bottom, note in ratios:
        measurements += measure_ratio(
            metric,
            ratio,
            top,
            bottom,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            note=note,
        )
    return measurements


def fertility_changes(
    scores: TextScores,
    reference: TextScores,
    language: str,
    subject: str,
    first: str,
    *,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the change in tokens per unit, and the share of documents with unchanged ids.

    `first` is the subject of the reference.
    """
    same = []
    for ids, reference_ids in zip(scores.documents(), reference.documents(), strict=True):
        same.append(float(np.array_equal(ids, reference_ids)))
    return [
        *measure_difference(
            scores.unit.metric,
            scores.unit.ratio,
            (scores.tokens, scores.units),
            (reference.tokens, reference.units),
            subject=subject,
            first=first,
            language=language,
            bootstrap=bootstrap,
        ),
        *measure_ratio(
            "documents tokenised identically",
            "share",
            same,
            [1] * len(same),
            subject=subject,
            language=language,
            bootstrap=bootstrap,
        ),
    ]


def sequence_length(
    scores: TextScores,
    reference_tokens: Sequence[int],
    name: str,
    language: str,
    subject: str,
    *,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the normalised sequence length: tokens over those of a reference tokenizer.

    `reference_tokens` are its numbers of tokens by document, and `name` is its name for the note.
    """
    return measure_ratio(
        "normalised sequence length",
        "ratio",
        scores.tokens,
        reference_tokens,
        subject=subject,
        language=language,
        bootstrap=bootstrap,
        note=f"tokens over those of {name}",
    )


def premium(
    tokenizer: ModelTokenizer,
    columns: Mapping[str, Sequence[str]],
    subject: str,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the premium of each language over English, with intervals over parallel sentences.

    `columns` holds the same sentences by language tag, with `en` among them. With two or more other
    languages, the Gini coefficients of their premiums follow. A lost character counts as one token.
    """
    english = count_tokens(tokenizer, columns[REFERENCE])
    tokens: dict[str, list[int]] = {}
    measurements: list[Measurement] = []
    for language, texts in columns.items():
        if language == REFERENCE:
            continue
        tokens[language] = count_tokens(tokenizer, texts)
        measurements += measure_ratio(
            "premium over English",
            "ratio",
            tokens[language],
            english,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            per="sentence",
            split="parallel",
        )
    if len(tokens) > 1:
        measurements += _gini_of_premiums(tokens, english, subject, bootstrap)
    return measurements


def _gini_of_premiums(
    tokens: Mapping[str, Sequence[int]],
    english: Sequence[int],
    subject: str,
    bootstrap: BootstrapSettings,
) -> Iterator[Measurement]:
    """Yield the Gini coefficient of the premiums, without and with that of English, which is 1.

    `tokens` and `english` are numbers of tokens by sentence. All languages share the resamples.
    """
    premiums, resampled = [], []
    for counts in tokens.values():
        premiums.append(sum(counts) / max(sum(english), 1))
        resampled.append(resampled_ratios(counts, english, bootstrap))
    tags = ", ".join(tokens)
    for metric, extra, note in (
        ("Gini of premiums", [], f"over {tags}"),
        ("Gini of premiums with English", [1.0], f"over {tags} and {REFERENCE}"),
    ):
        ginis = [gini([*values, *extra]) for values in zip(*resampled, strict=True)]
        interval = percentiles(np.array(ginis), bootstrap)
        low, high = interval or (None, None)
        yield Measurement(
            metric,
            subject,
            gini([*premiums, *extra]),
            "Gini",
            split="parallel",
            n=len(english),
            per="sentence",
            low=low,
            high=high,
            confidence=bootstrap.confidence if interval else None,
            note=note,
        )
