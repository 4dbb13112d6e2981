"""Diagnose tokenizers: measures, predicted fertility and a recommendation for each language."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lingraft.advice.measures import Measures, TextSample, measure, premium
from lingraft.advice.recommend import COMPARED, UNREADABLE, Recommendation, recommend, repair_saving
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint, predict_fertility
from lingraft.formatting import size
from lingraft.progress import progress
from lingraft.tokenizer import Family, ModelTokenizer
from lingraft.vocabulary.pretokenizer_choice import THRESHOLD, find_options

REFERENCE = "en"
_SAME_FLOOR = 0.99


@dataclass(frozen=True)
class LanguageFinding:
    """One tokenizer on one language.

    `keep` and `repaired` are the curves with the base's pre-tokenizer and with a mark-aware one.
    They are `None` where there is too little text or a repair changes nothing; `unpredicted` gives
    the reason.
    """

    language: str
    measures: Measures
    premium: float | None
    keep: FertilityCurve | None
    repaired: FertilityCurve | None
    repaired_floor: float | None
    recommendation: Recommendation
    unpredicted: str = ""

    def after(self, added: int = COMPARED) -> tuple[FertilityPoint, bool] | None:
        """Return the point at a size, and whether `auto` would repair the pre-tokenizer."""
        if self.keep is None:
            return None
        fixed = self.repaired if repair_saving(self.keep, self.repaired) > THRESHOLD else None
        return (fixed or self.keep).at(added), fixed is not None


@dataclass(frozen=True)
class TokenizerFindings:
    """One tokenizer on every language."""

    name: str
    family: str
    size: int
    findings: tuple[LanguageFinding, ...]


@dataclass(frozen=True)
class Rank:
    """The fewest tokens on one language: `best_now`, and `best_after` 10,000 more tokens.

    A tokenizer that loses text, with many unknown characters, is never best.
    """

    name: str
    size: int
    finding: LanguageFinding
    best_now: bool
    best_after: bool


@dataclass(frozen=True)
class Diagnosis:
    """The findings for all tokenizers, the samples by language, and notes on them."""

    tokenizers: tuple[TokenizerFindings, ...]
    samples: Mapping[str, TextSample]
    notes: tuple[str, ...]
    seconds: float

    def ranking(self, language: str) -> list[Rank]:
        """Return the tokenizers on one language, fewest tokens per byte first."""
        rows = [
            (of, finding)
            for of in self.tokenizers
            for finding in of.findings
            if finding.language == language
        ]
        rows.sort(key=lambda row: row[1].measures.tokens_per_byte)
        usable = [finding for _, finding in rows if finding.measures.unknown <= UNREADABLE]
        later = [value for value in map(tokens_per_byte_after, usable) if value is not None]
        return [
            Rank(
                of.name,
                of.size,
                finding,
                best_now=finding in usable[:1],
                best_after=bool(later)
                and finding in usable
                and tokens_per_byte_after(finding) == min(later),
            )
            for of, finding in rows
        ]


def tokens_per_byte_after(finding: LanguageFinding, added: int = COMPARED) -> float | None:
    """Return the predicted tokens per byte with so many added."""
    after = finding.after(added)
    return finding.measures.tokens_per_byte * after[0].share if after else None


def diagnose(
    tokenizers: Mapping[str, ModelTokenizer],
    samples: Sequence[TextSample],
    parallel: Mapping[str, Sequence[str]] | None = None,
    *,
    learned_from: int | None = None,
) -> Diagnosis:
    """Diagnose each tokenizer on each sample.

    `learned_from` is how much text tokens would be learned from, in bytes; by default what each
    sample was drawn from.
    """
    started = time.monotonic()
    found = tuple(
        TokenizerFindings(
            name,
            tokenizer.family.name,
            tokenizer.size,
            tuple(_finding(name, tokenizer, sample, parallel, learned_from) for sample in samples),
        )
        for name, tokenizer in tokenizers.items()
    )
    by_language = {sample.language: sample for sample in samples}
    return Diagnosis(found, by_language, _notes(samples), time.monotonic() - started)


def _notes(samples: Sequence[TextSample]) -> tuple[str, ...]:
    return tuple(
        f"{sample.language}: the text is longer than {size(sample.given_bytes)}; only its first "
        "part was read, so later sources are not in the sample"
        for sample in samples
        if sample.cut_short
    )


def _finding(
    name: str,
    tokenizer: ModelTokenizer,
    sample: TextSample,
    parallel: Mapping[str, Sequence[str]] | None,
    learned_from: int | None,
) -> LanguageFinding:
    with progress(f"{name} on {sample.language}"):
        measures = measure(tokenizer, sample.documents)
        over = None
        if parallel and sample.language in parallel and sample.language != REFERENCE:
            over = premium(tokenizer, parallel, sample.language, REFERENCE)
        fixed, floor = _repair(tokenizer, sample, measures)
        curves, why = _curves(tokenizer.family, fixed, sample, learned_from or sample.given_bytes)
    keep, repaired = curves
    recommendation = recommend(measures, keep, repaired, over, floor)
    return LanguageFinding(
        sample.language, measures, over, keep, repaired, floor, recommendation, why
    )


def _repair(
    tokenizer: ModelTokenizer, sample: TextSample, measures: Measures
) -> tuple[Family | None, float | None]:
    """Return the family with a mark-aware pre-tokenizer and its floor, where it is lower here.

    It has no base tokens that its own pre-tokenizer never produces: their rows were never trained.
    """
    found = find_options(tokenizer.family, tokenizer.folder)
    if not found:
        return None, None
    fixed = found[0].trained
    units = fixed.units(sample.documents).total()
    return (
        (fixed, units / max(measures.words, 1))
        if units < _SAME_FLOOR * measures.units
        else (None, None)
    )


def _curves(
    keep: Family, fixed: Family | None, sample: TextSample, learned_from: int
) -> tuple[tuple[FertilityCurve | None, FertilityCurve | None], str]:
    try:
        curves = predict_fertility(keep, fixed, sample.documents, learned_from)
    except NotImplementedError:
        return (None, None), f"tokens cannot be added to a {keep.name} tokenizer"
    if curves is None:
        return (None, None), "too little text for a prediction"
    return (curves[0], curves[1] if len(curves) > 1 else None), ""
