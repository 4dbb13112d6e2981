"""Diagnose tokenizers: measures, predicted fertility and a recommendation for each language.

A finding is for one tokenizer on one language. It has two predicted curves: with the base's
pre-tokenizer, and with a mark-aware one, which does not split words at combining marks. Nothing is
trained, and no weights are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lingraft.advice.measures import Measures, TextSample, measure, premium
from lingraft.advice.recommend import COMPARED, UNREADABLE, Recommendation, recommend, repair_saving
from lingraft.corpus.script_check import find_wrong_script
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint, predict_fertility
from lingraft.formatting import size
from lingraft.progress import progress
from lingraft.tokenizer import Family, ModelTokenizer
from lingraft.vocabulary.pretokenizer_choice import THRESHOLD, find_options

# The language that the premium is relative to.
REFERENCE = "en"
# A mark-aware pre-tokenizer is considered if it has less than this share of the pre-tokens.
_SAME_LOWER_BOUND = 0.99


@dataclass(frozen=True)
class LanguageFinding:
    """The diagnosis of one tokenizer on one language.

    Attributes:
        language: the language of the sample.
        measures: the counts of the sample.
        premium: the tokens of parallel sentences divided by those of English; `None` without them.
        keep: the curve with the base's pre-tokenizer; `None` if there is no prediction.
        repaired: the curve with a mark-aware one; `None` if it makes no difference.
        repaired_floor: the lower bound of tokens per word with a mark-aware pre-tokenizer.
        recommendation: whether to add tokens, and how many.
        unpredicted: the reason if there is no prediction.
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
        """Return the predicted point with `added` tokens; `None` if there is no prediction.

        The second value is whether `pretokenizer: auto` would choose the mark-aware one.
        """
        if self.keep is None:
            return None
        fixed = self.repaired if repair_saving(self.keep, self.repaired) > THRESHOLD else None
        return (fixed or self.keep).at(added), fixed is not None


@dataclass(frozen=True)
class TokenizerFindings:
    """The findings for one tokenizer, in the order of the samples; `size` is its tokens."""

    name: str
    family: str
    size: int
    findings: tuple[LanguageFinding, ...]


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
    """The findings for all tokenizers, the samples by language, and notes on the samples."""

    tokenizers: tuple[TokenizerFindings, ...]
    samples: Mapping[str, TextSample]
    notes: tuple[str, ...]
    seconds: float

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


def tokens_per_byte_after(finding: LanguageFinding, added: int = COMPARED) -> float | None:
    """Return the predicted tokens per byte with `added` tokens; `None` if not predicted."""
    after = finding.after(added)
    return finding.measures.tokens_per_byte * after[0].share if after else None


def diagnose(
    tokenizers: Mapping[str, ModelTokenizer],
    samples: Sequence[TextSample],
    parallel: Mapping[str, Sequence[str]] | None = None,
    *,
    learned_from: int | None = None,
) -> Diagnosis:
    """Diagnose each tokenizer (by name) on each sample.

    `parallel` has the same sentences by language, for the premium. `learned_from` is the bytes of
    text that tokens would be learned from, by default all text that a sample was drawn from.
    """
    started = time.monotonic()
    diagnosed = []
    for name, tokenizer in tokenizers.items():
        findings = [
            _diagnose_one(name, tokenizer, sample, parallel, learned_from) for sample in samples
        ]
        family = tokenizer.family.name
        diagnosed.append(TokenizerFindings(name, family, tokenizer.size, tuple(findings)))
    by_language = {sample.language: sample for sample in samples}
    seconds = time.monotonic() - started
    return Diagnosis(tuple(diagnosed), by_language, _notes(samples), seconds)


def _notes(samples: Sequence[TextSample]) -> tuple[str, ...]:
    notes: list[str] = []
    for sample in samples:
        wrong = find_wrong_script(sample.language, sample.documents)
        notes += [str(wrong)] if wrong else []
        if not sample.cut_short:
            continue
        notes.append(
            f"{sample.language}: the text is longer than {size(sample.given_bytes)}; only its "
            "first part was read, so later sources are not in the sample"
        )
    return tuple(notes)


def _diagnose_one(
    name: str,
    tokenizer: ModelTokenizer,
    sample: TextSample,
    parallel: Mapping[str, Sequence[str]] | None,
    learned_from: int | None,
) -> LanguageFinding:
    with progress(f"{name} on {sample.language}"):
        measures = measure(tokenizer, sample.documents)
        over_english = None
        if parallel and sample.language in parallel and sample.language != REFERENCE:
            over_english = premium(tokenizer, parallel, sample.language, REFERENCE)
        mark_aware, floor = _make_mark_aware(tokenizer, sample, measures)
        (keep, repaired), unpredicted = _predict_curves(
            tokenizer.family, mark_aware, sample, learned_from or sample.given_bytes
        )
    recommendation = recommend(measures, keep, repaired, over_english, floor)
    return LanguageFinding(
        sample.language,
        measures,
        over_english,
        keep,
        repaired,
        floor,
        recommendation,
        unpredicted,
    )


def _make_mark_aware(
    tokenizer: ModelTokenizer, sample: TextSample, measures: Measures
) -> tuple[Family | None, float | None]:
    """Return the family with a mark-aware pre-tokenizer and its lower bound of tokens per word.

    Both are `None` if the pre-tokenizer cannot be changed, or if this changes nothing here.
    """
    options = find_options(tokenizer.family, tokenizer.folder)
    if not options:
        return None, None
    # Without the base tokens that only the changed pre-tokenizer produces: their rows were never
    # trained, so they count as tokens to be added.
    mark_aware = options[0].trained
    units = mark_aware.units(sample.documents).total()
    if units >= _SAME_LOWER_BOUND * measures.units:
        return None, None
    return mark_aware, units / max(measures.words, 1)


def _predict_curves(
    keep: Family, mark_aware: Family | None, sample: TextSample, learned_from: int
) -> tuple[tuple[FertilityCurve | None, FertilityCurve | None], str]:
    """Return the curves `keep` and `repaired`, and the reason if there are none."""
    try:
        curves = predict_fertility(keep, mark_aware, sample.documents, learned_from)
    except NotImplementedError:
        return (None, None), f"tokens cannot be added to a {keep.name} tokenizer"
    if curves is None:
        return (None, None), "too little text for a prediction"
    return (curves[0], curves[1] if len(curves) > 1 else None), ""
