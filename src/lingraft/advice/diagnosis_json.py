"""The JSON of a diagnosis, format 1.

Names contain the units. Shares are from 0 to 1. An unknown value is null.

    {"format": 1, "seconds", "notes": [str],
     "tokenizers": [{"name", "family", "size", "gini_of_premiums", "gini_of_premiums_with_en",
      "languages": [
        {"language",
         "unit": "word" | "syllable" | "character",
         "text": {"documents", "bytes", "characters", "units", "words", "spaced_words", "unspaced",
                  "given_bytes"},
         "tokens", "tokens_per_unit", "tokens_per_word", "tokens_per_spaced_word",
         "tokens_per_byte", "bytes_per_token", "characters_per_token", "premium",
         "share_kept_whole", "share_frequent_words_kept_whole", "renyi_efficiency",
         "tokens_in_use", "tokens_in_frequent_use",
         "share_byte_fallback", "share_single_character", "share_torn_character", "share_unknown",
         "round_trip": {"documents", "changed", "lost_characters": {NAME: int}},
         "floor_tokens_per_unit", "floor_tokens_per_unit_repaired",
         "floor_tokens_per_word", "floor_tokens_per_word_repaired",
         "keep": CURVE | null, "repaired": CURVE | null, "repair": str, "unpredicted": str,
         "advice": {"action", "size", "headline", "reasons": [str], "warnings": [str]}}]}],
     "comparison": {LANGUAGE: [{"name", "size", "tokens_per_byte", "tokens_per_byte_after", "low",
                                "high", "added", "repaired", "best_now", "best_after"}]}}

    CURVE = {"learned_from_bytes", "train_bytes", "heldout_bytes", "tokens_found", "confidence",
             "points": [{"added", "share", "share_low", "share_high",
                         "reduction", "reduction_low", "reduction_high",
                         "tokens_per_unit", "tokens_per_unit_low", "tokens_per_unit_high",
                         "tokens_per_word", "tokens_per_word_low", "tokens_per_word_high",
                         "characters_per_token"}]}

`action` is one of those of `Recommendation`. `share` in a curve is relative to the tokens of the
text now, with the base's own pre-tokenizer. `tokens_found` is the number of tokens in the sample
that save anything. `repair` names the change of the pre-tokenizer. `floor` is the lower bound of
tokens per unit, and a torn character is an incomplete one. Where the unit is not "word", `unspaced`
is true, and words and the values per word are null. `share_kept_whole` is STRR on running text and
`share_frequent_words_kept_whole` that of the 1,000 most frequent words (`words_kept_whole`), the
`renyi_efficiency` that of `token_distribution`. Tokens in use are different tokens that occur in
the text, in frequent use those that occur 10 times or more. `comparison` exists for two or more
tokenizers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lingraft.advice.diagnosis import Diagnosis, LanguageFinding, Rank
from lingraft.advice.measures import Measures
from lingraft.advice.recommend import COMPARED
from lingraft.advice.text_sample import TextSample
from lingraft.forecast.extrapolate import CONFIDENCE
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint

FORMAT = 1


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain JSON."""
    tokenizers = []
    for tokenizer in diagnosis.tokenizers:
        languages = []
        for finding in tokenizer.findings:
            sample = diagnosis.samples[finding.language]
            languages.append(_finding(finding, sample))
        tokenizers.append(
            {
                "name": tokenizer.name,
                "family": tokenizer.family,
                "size": tokenizer.size,
                "gini_of_premiums": tokenizer.gini(),
                "gini_of_premiums_with_en": tokenizer.gini(with_reference=True),
                "languages": languages,
            }
        )
    content: dict[str, Any] = {
        "format": FORMAT,
        "seconds": round(diagnosis.seconds, 2),
        "notes": list(diagnosis.notes),
        "health": {tag: report.as_json() for tag, report in diagnosis.health.items()},
        "tokenizers": tokenizers,
    }
    if len(diagnosis.tokenizers) > 1:
        content["comparison"] = {}
        for language in diagnosis.samples:
            content["comparison"][language] = list(map(_rank, diagnosis.ranking(language)))
    return content


def _finding(finding: LanguageFinding, sample: TextSample) -> dict[str, Any]:
    measures, advice = finding.measures, finding.recommendation
    return {
        "language": finding.language,
        "unit": measures.unit,
        "text": _text(measures, sample),
        "tokens": measures.tokens,
        "tokens_per_unit": measures.tokens_per_unit,
        "tokens_per_word": measures.tokens_per_word,
        "tokens_per_spaced_word": measures.tokens_per_spaced_word,
        "tokens_per_byte": measures.tokens_per_byte,
        "bytes_per_token": measures.bytes_per_token,
        "characters_per_token": measures.characters_per_token,
        "premium": finding.premium,
        "share_kept_whole": measures.kept_whole,
        "share_frequent_words_kept_whole": measures.frequent_kept,
        "renyi_efficiency": measures.efficiency,
        "tokens_in_use": measures.tokens_in_use,
        "tokens_in_frequent_use": measures.tokens_in_frequent_use,
        "share_byte_fallback": measures.fallback,
        "share_single_character": measures.single,
        "share_torn_character": measures.torn,
        "share_unknown": measures.unknown,
        "round_trip": {
            "documents": measures.round_trip.documents,
            "changed": measures.round_trip.changed,
            "lost_characters": measures.round_trip.most_lost(20),
        },
        "floor_tokens_per_unit": measures.floor,
        "floor_tokens_per_unit_repaired": finding.repaired_floor,
        "floor_tokens_per_word": measures.per_word(measures.floor),
        "floor_tokens_per_word_repaired": measures.per_word(finding.repaired_floor),
        "keep": _curve(finding.keep, measures),
        "repaired": _curve(finding.repaired, measures),
        "repair": finding.repair,
        "unpredicted": finding.unpredicted,
        "advice": {
            **dataclasses.asdict(advice),
            "headline": advice.headline,
            "reasons": list(advice.reasons),
            "warnings": list(advice.warnings),
        },
    }


def _text(measures: Measures, sample: TextSample) -> dict[str, Any]:
    return {
        "documents": measures.documents,
        "bytes": measures.bytes,
        "characters": measures.characters,
        "units": measures.units,
        "words": measures.words,
        "spaced_words": measures.spaced_words,
        "unspaced": measures.words is None,
        "given_bytes": sample.given_bytes,
    }


def _curve(curve: FertilityCurve | None, measures: Measures) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "learned_from_bytes": curve.learned_from,
        "train_bytes": curve.train_bytes,
        "heldout_bytes": curve.heldout_bytes,
        "tokens_found": curve.found,
        "confidence": CONFIDENCE,
        "points": [_point(point, measures) for point in curve.points],
    }


def _point(point: FertilityPoint, measures: Measures) -> dict[str, float | None]:
    now = measures.tokens_per_unit
    middle, low, high = now * point.share, now * point.low, now * point.high
    return {
        "added": point.added,
        "share": point.share,
        "share_low": point.low,
        "share_high": point.high,
        "reduction": point.reduction,
        "reduction_low": 1 / point.high,
        "reduction_high": 1 / point.low,
        "tokens_per_unit": middle,
        "tokens_per_unit_low": low,
        "tokens_per_unit_high": high,
        "tokens_per_word": measures.per_word(middle),
        "tokens_per_word_low": measures.per_word(low),
        "tokens_per_word_high": measures.per_word(high),
        "characters_per_token": measures.characters_per_token / point.share,
    }


def _rank(rank: Rank) -> dict[str, Any]:
    now = rank.finding.measures.tokens_per_byte
    record: dict[str, Any] = {
        "name": rank.name,
        "size": rank.size,
        "tokens_per_byte": now,
        "tokens_per_byte_after": None,
        "low": None,
        "high": None,
        "added": COMPARED,
        "repaired": None,
        "best_now": rank.best_now,
        "best_after": rank.best_after,
    }
    after = rank.finding.after()
    if after:
        point, repaired = after
        record |= {
            "tokens_per_byte_after": now * point.share,
            "low": now * point.low,
            "high": now * point.high,
            "repaired": repaired,
        }
    return record
