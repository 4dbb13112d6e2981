"""Diagnose tokenizers: measures, predicted fertility and a recommendation for each language.

A finding is for one tokenizer on one language. It has two predicted curves: with the base's
pre-tokenizer, and with a repaired one, which does not split words at combining marks, apostrophes
or joiners. Nothing is trained, and no weights are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import regex

from lingraft.advice.measures import Measures, measure, premium
from lingraft.advice.recommend import (
    COMPARED,
    UNREADABLE,
    Recommendation,
    chosen_curve,
    recommend,
)
from lingraft.advice.text_sample import TextSample
from lingraft.corpus.health import HealthReport, TextHealth
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint, predict_fertility
from lingraft.formatting import size
from lingraft.pretokenizer.change import MARK_AWARE
from lingraft.progress import progress
from lingraft.tokenizer import Family, ModelTokenizer
from lingraft.tokenizer.premiums import REFERENCE, gini, lost_text_warnings
from lingraft.vocabulary.pretokenizer_options import RewriteOption, find_options, keep_effective

# Without Breton c'h, which is repaired.
_LATIN_APOSTROPHE = regex.compile(r"(?<=\p{Latin})(?!(?<=[Cc]).[Hh])['’](?=\p{Latin})")


@dataclass(frozen=True)
class LanguageFinding:
    """The diagnosis of one tokenizer on one language.

    Attributes:
        language: the language of the sample.
        measures: the counts of the sample.
        premium: the tokens of parallel sentences divided by those of English; `None` without them.
        keep: the curve with the base's pre-tokenizer; `None` if there is no prediction.
        repaired: the curve with a repaired one; `None` if it makes no difference.
        repaired_floor: the lower bound of tokens per unit with a repaired pre-tokenizer.
        recommendation: whether to add tokens, and how many.
        unpredicted: the reason if there is no prediction.
        repair: the name of the repair, "" without one.
    """

    language: str
    measures: Measures
    premium: float | None
    keep: FertilityCurve | None
    repaired: FertilityCurve | None
    repaired_floor: float | None
    recommendation: Recommendation
    unpredicted: str = ""
    repair: str = ""

    @property
    def curve(self) -> FertilityCurve | None:
        """The curve that the recommendation is by; `None` if there is no prediction."""
        return chosen_curve(self.keep, self.repaired) if self.keep else None

    def after(self, added: int = COMPARED) -> tuple[FertilityPoint, bool] | None:
        """Return the predicted point with `added` tokens; `None` if there is no prediction.

        The second value is whether `pretokenizer: auto` would choose the repaired one.
        """
        curve = self.curve
        return (curve.at(added), curve is not self.keep) if curve else None


@dataclass(frozen=True)
class TokenizerFindings:
    """The findings for one tokenizer, in the order of the samples; `size` is its tokens."""

    name: str
    family: str
    size: int
    findings: tuple[LanguageFinding, ...]

    @property
    def premiums(self) -> dict[str, float]:
        """The premiums that are known, by language."""
        known = {}
        for finding in self.findings:
            if finding.premium is not None:
                known[finding.language] = finding.premium
        return known

    def gini(self, *, with_reference: bool = False) -> float | None:
        """Return the Gini coefficient of the premiums; `None` for fewer than two languages.

        With `REFERENCE`, its premium of 1 is one of them.
        """
        premiums = list(self.premiums.values())
        if len(premiums) < 2:
            return None
        return gini([*premiums, 1.0] if with_reference else premiums)


@dataclass(frozen=True)
class Rank:
    """A tokenizer in the comparison on one language.

    `best_now` is true for the one with the fewest tokens per byte, `best_after` for the one with
    the fewest after 10,000 tokens are added to each. A tokenizer that loses text, with more than
    `UNREADABLE` unknown tokens, is never best.
    """

    name: str
    size: int
    finding: LanguageFinding
    best_now: bool
    best_after: bool


@dataclass(frozen=True)
class Diagnosis:
    """The findings for all tokenizers, the samples by language, and notes on the samples.

    `health` says what is in the samples besides text in their languages, by language.
    """

    tokenizers: tuple[TokenizerFindings, ...]
    samples: Mapping[str, TextSample]
    notes: tuple[str, ...]
    seconds: float
    health: Mapping[str, HealthReport] = field(default_factory=dict)

    def finding(self, language: str, name: str | None = None) -> LanguageFinding:
        """Return the finding for a language, of the tokenizer with this name or of the first one.

        Raises `KeyError` if there is no such tokenizer or language.
        """
        for tokenizer in self.tokenizers:
            if name not in {None, tokenizer.name}:
                continue
            for finding in tokenizer.findings:
                if finding.language == language:
                    return finding
        raise KeyError((language, name))

    def ranking(self, language: str) -> list[Rank]:
        """Return the tokenizers on one language, fewest tokens per byte first."""
        candidates = []
        for tokenizer in self.tokenizers:
            for finding in tokenizer.findings:
                if finding.language != language:
                    continue
                candidates.append((tokenizer, finding))
        candidates.sort(key=lambda candidate: candidate[1].measures.tokens_per_byte)
        # Lost text has few tokens, so a tokenizer that loses text would seem to be the best one.
        usable, predicted = [], []
        for _, finding in candidates:
            if finding.measures.unknown <= UNREADABLE:
                usable.append(finding)
                after = tokens_per_byte_after(finding)
                if after is not None:
                    predicted.append(after)
        ranks = []
        for tokenizer, finding in candidates:
            best_now = finding in usable[:1]
            best_after = (
                bool(predicted)
                and finding in usable
                and tokens_per_byte_after(finding) == min(predicted)
            )
            ranks.append(Rank(tokenizer.name, tokenizer.size, finding, best_now, best_after))
        return ranks


def tokens_per_byte_after(finding: LanguageFinding) -> float | None:
    """Return the predicted tokens per byte with `COMPARED` tokens; `None` if not predicted."""
    after = finding.after(COMPARED)
    return finding.measures.tokens_per_byte * after[0].share if after else None


def diagnose(
    tokenizers: Mapping[str, ModelTokenizer],
    samples: Sequence[TextSample],
    parallel: Mapping[str, Sequence[str]] | None = None,
    *,
    learned_from: int | None = None,
    health: Mapping[str, HealthReport] | None = None,
) -> Diagnosis:
    """Diagnose each tokenizer (by name) on each sample.

    `health` has reports on the samples by language. `parallel` has the same sentences by language,
    for the premium. `learned_from` is the bytes of text that tokens would be learned from, by
    default all text that a sample was drawn from.
    """
    started = time.monotonic()
    diagnosed = []
    for name, tokenizer in tokenizers.items():
        options = find_options(tokenizer.family, tokenizer.folder)
        findings = []
        for sample in samples:
            with progress(f"{name} on {sample.language}"):
                finding = _diagnose_one(tokenizer, options, sample, parallel, learned_from)
            findings.append(finding)
        family = tokenizer.family.name
        diagnosed.append(TokenizerFindings(name, family, tokenizer.size, tuple(findings)))
    by_language = {sample.language: sample for sample in samples}
    seconds = time.monotonic() - started
    health = health or {}
    notes = sample_notes(samples, health)
    for language, sentences in (parallel or {}).items():
        notes += tuple(TextHealth.of(language, sentences).warnings("parallel sentences"))
    notes += tuple(lost_text_warnings(tokenizers, parallel or {}))
    return Diagnosis(tuple(diagnosed), by_language, notes, seconds, health)


def health_of_samples(samples: Sequence[TextSample]) -> dict[str, HealthReport]:
    """Return what is in each sample besides text in its language, by language."""
    return {sample.language: TextHealth.of(sample.language, sample.documents) for sample in samples}


def sample_notes(
    samples: Sequence[TextSample], health: Mapping[str, HealthReport]
) -> tuple[str, ...]:
    """Return the warnings of samples: their health, and text that was not read."""
    notes: list[str] = []
    for sample in samples:
        if sample.language in health:
            notes += health[sample.language].warnings()
        if not sample.cut_short:
            continue
        notes.append(
            f"{sample.language}: the text is longer than {size(sample.given_bytes)}; only its "
            "first part was read, so later sources are not in the sample"
        )
    return tuple(notes)


def _diagnose_one(
    tokenizer: ModelTokenizer,
    options: Sequence[RewriteOption],
    sample: TextSample,
    parallel: Mapping[str, Sequence[str]] | None,
    learned_from: int | None,
) -> LanguageFinding:
    measures = measure(tokenizer, sample.documents, sample.words)
    over_english = None
    if parallel and sample.language in parallel and sample.language != REFERENCE:
        over_english = premium(tokenizer, parallel, sample.language, REFERENCE)
    effective = keep_effective(tokenizer.family, options, sample.documents)
    changed, floor, rewrite = None, None, MARK_AWARE
    if effective:
        # Without the base tokens that only the changed pre-tokenizer produces: their rows were
        # never trained, so they count as tokens to be added.
        changed, rewrite = effective[-1].trained, effective[-1].rewrite
        floor = changed.units(sample.documents).total() / max(measures.units, 1)
    (keep, repaired), unpredicted = _predict_curves(
        tokenizer.family, changed, sample, learned_from or sample.given_bytes
    )
    apostrophes = sum(len(_LATIN_APOSTROPHE.findall(text)) for text in sample.documents)
    recommendation = recommend(
        measures,
        keep,
        repaired,
        over_english,
        floor,
        rewrite=rewrite,
        apostrophes=apostrophes / max(measures.units, 1),
    )
    return LanguageFinding(
        sample.language,
        measures,
        over_english,
        keep,
        repaired,
        floor,
        recommendation,
        unpredicted,
        rewrite.name if changed else "",
    )


def _predict_curves(
    keep: Family, changed: Family | None, sample: TextSample, learned_from: int
) -> tuple[tuple[FertilityCurve | None, FertilityCurve | None], str]:
    """Return the curves `keep` and `repaired`, and the reason if there are none."""
    try:
        curves = predict_fertility(keep, changed, sample.documents, learned_from)
    except NotImplementedError:
        return (None, None), f"tokens cannot be added to a {keep.name} tokenizer"
    if curves is None:
        return (None, None), "too little text for a prediction"
    return (curves[0], curves[1] if len(curves) > 1 else None), ""
