"""Recommend whether to add tokens, how many, and whether to repair the pre-tokenizer.

A repaired pre-tokenizer no longer splits words at combining marks, apostrophes or joiners.

- The size is that of the rule `marginal` of `vocabulary.size: auto`, on the predicted curve.
- No tokens are added if this size saves less than `MIN_SAVING`, or if the language needs at most
  `LOW_PREMIUM` times the tokens of English.
- The pre-tokenizer is repaired if this saves more than 10% of the tokens, minus the growth of the
  text before any token is added, as in `pretokenizer: auto`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.advice.measures import Measures
from lingraft.forecast.extrapolate import TARGETS
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint
from lingraft.formatting import factor, number, percent, size
from lingraft.pretokenizer.change import MARK_AWARE, Rewrite
from lingraft.vocabulary.auto_size import MIN_SAVING_SHARE, worthwhile_size
from lingraft.vocabulary.pretokenizer_choice import THRESHOLD

MIN_SAVING = 0.15
LOW_PREMIUM = 1.2
# Added tokens at which tokenizers and pre-tokenizers are compared.
COMPARED = 10_000
# More pre-tokens per word or syllable than this are a high lower bound and cause a warning. A
# character has at most one.
BINDING_FLOOR = 1.5
# Apostrophes between letters per word. English: 2%, Breton: 7%, Guarani: 15%.
MANY_APOSTROPHES = 0.05
# An interval wider than this share of its value is called wide.
WIDE_INTERVAL = 0.25
# The largest text that a prediction was compared with, 12 MB, as a multiple of its sample, 0.25 MB.
CHECKED_GROWTH = 48
# Unknown tokens lose text. The first share of them causes a warning, the second another base.
WARN_UNKNOWN = 0.001
UNREADABLE = 0.01


@dataclass(frozen=True)
class Recommendation:
    """What to do with a tokenizer in one language.

    Attributes:
        action: "extend", "repair and extend", "leave alone", "choose another base" (this one loses
            text) or "undecided" (too little text).
        size: how many tokens to add.
        reasons: sentences for the user.
        warnings: sentences about what makes the result uncertain or limits it.
    """

    action: str
    size: int
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The recommendation in a few words."""
        if self.action == "extend":
            return f"extend by {self.size:,} tokens"
        if self.action == "repair and extend":
            return f"repair the pre-tokenizer and extend by {self.size:,} tokens"
        return self.action


def recommended_size(curve: FertilityCurve) -> int:
    """Return the size that the rule `marginal` chooses on a predicted curve, as `auto` does."""
    sizes, shares = [0], [1.0]
    for point in curve.points:
        sizes.append(point.added)
        shares.append(point.share)
    return worthwhile_size(sizes, shares)


def repair_saving(keep: FertilityCurve, repaired: FertilityCurve | None) -> float:
    """Return the share of tokens that a repair saves at 10,000 added tokens, minus its growth.

    `pretokenizer: auto` decides by the same number. Without a repaired curve it is 0.
    """
    if repaired is None:
        return 0.0
    return 1 - repaired.at(COMPARED).share / keep.at(COMPARED).share - max(repaired.growth, 0.0)


def chosen_curve(keep: FertilityCurve, repaired: FertilityCurve | None) -> FertilityCurve:
    """Return the curve with the pre-tokenizer that `pretokenizer: auto` would choose."""
    return repaired if repaired and repair_saving(keep, repaired) > THRESHOLD else keep


def recommend(
    measures: Measures,
    keep: FertilityCurve | None,
    repaired: FertilityCurve | None,
    premium: float | None,
    repaired_floor: float | None,
    *,
    rewrite: Rewrite = MARK_AWARE,
    apostrophes: float = 0.0,
) -> Recommendation:
    """Return the recommendation with its reasons and warnings.

    `keep` and `repaired` are the curves of `LanguageFinding`, `rewrite` is the repair.
    `apostrophes` is the number of ASCII or typographic apostrophes between Latin letters per unit.
    """
    warnings = _warnings(measures, keep, repaired, repaired_floor, rewrite.name)
    warnings += _apostrophe_warnings(measures, apostrophes)
    if measures.unknown > UNREADABLE:
        reason = (
            f"{percent(measures.unknown)} of its tokens are unknown characters, which are lost, so "
            "the number of tokens means nothing"
        )
        return Recommendation("choose another base", 0, (reason,), warnings)
    low_premium = premium is not None and premium <= LOW_PREMIUM
    if keep is None:
        reason = "too little text for a prediction; give at least 20 lines and 20 kB"
        if not low_premium:
            return Recommendation("undecided", 0, (reason,), warnings)
        known = (
            (f"it already needs only {factor(premium)} the tokens of English",) if premium else ()
        )
        return Recommendation("leave alone", 0, (*known, reason), warnings)
    curve = chosen_curve(keep, repaired)
    repair = curve is not keep
    size = recommended_size(curve)
    saving = 1 - curve.at(size).share if size else 0.0
    if low_premium or saving < MIN_SAVING:
        against = _reasons_against(premium if low_premium else None, curve, size)
        return Recommendation("leave alone", 0, against, warnings)
    reasons = [_reason_gain(measures, curve.at(size), premium), _reason_size(curve, size)]
    if repair and repaired:
        reasons.append(_reason_repair(measures, keep, repaired, rewrite))
    reasons.append(
        f"in a recipe: vocabulary: {{size: {size}, pretokenizer: {'auto' if repair else 'keep'}}}"
    )
    return Recommendation(
        "repair and extend" if repair else "extend", size, tuple(reasons), warnings
    )


def _reason_gain(measures: Measures, point: FertilityPoint, premium: float | None) -> str:
    now, metric = measures.tokens_per_unit, measures.unit.metric
    text = (
        f"{point.added:,} tokens reduce {number(now)} {metric} to {number(now * point.share)} "
        f"({factor(point.reduction)} fewer tokens; 95% interval {factor(1 / point.high)} to "
        f"{factor(1 / point.low)})"
    )
    if premium:
        after = factor(premium * point.share)
        text += f", and the premium over English from {factor(premium)} to about {after}"
    return text


def _reason_size(curve: FertilityCurve, size: int) -> str:
    if size == curve.points[-1].added:
        return (
            f"rule marginal: every thousand tokens up to {size:,}, the largest size in the "
            f"prediction, saves "
            f"{percent(MIN_SAVING_SHARE)} or more of the remaining tokens"
        )
    text = (
        f"rule marginal: beyond {size:,}, another thousand tokens save less than "
        f"{percent(MIN_SAVING_SHARE)} of the remaining tokens"
    )
    next_size = next(point.added for point in curve.points if point.added > size)
    if next_size > curve.found:
        text += f" (this sample has only {curve.found:,} tokens that save anything)"
    return text


def _reason_repair(
    measures: Measures, keep: FertilityCurve, repaired: FertilityCurve, rewrite: Rewrite
) -> str:
    now, metric = measures.tokens_per_unit, measures.unit.metric
    kept, fixed = now * keep.at(COMPARED).share, now * repaired.at(COMPARED).share
    split, inside = ("words", " inside words") if measures.words else ("the text", "")
    return (
        f"the pre-tokenizer splits {split} at {rewrite.splits}: with {COMPARED:,} tokens it needs "
        f"{number(kept)} {metric}, a {rewrite.name} one {number(fixed)} "
        f"({percent(repair_saving(keep, repaired))} fewer tokens; text without "
        f"{rewrite.splits}{inside} keeps its ids)"
    )


def _reasons_against(premium: float | None, curve: FertilityCurve, size: int) -> tuple[str, ...]:
    reasons = []
    if premium is not None:
        reasons.append(
            f"it needs only {factor(premium)} the tokens of English (no tokens are added up to "
            f"{LOW_PREMIUM:g}x)"
        )
    point = curve.at(size) if size else curve.points[0]
    saving = 1 - point.share
    if saving < MIN_SAVING:
        reasons.append(
            f"{point.added:,} tokens would save {percent(saving)} (no tokens are added under "
            f"{percent(MIN_SAVING)}), and each thousand beyond that less than "
            f"{percent(MIN_SAVING_SHARE)}"
        )
    else:
        reasons.append(
            f"{point.added:,} tokens would still save {percent(saving)}, if that is worth training"
        )
    return tuple(reasons)


def _warnings(
    measures: Measures,
    keep: FertilityCurve | None,
    repaired: FertilityCurve | None,
    repaired_floor: float | None,
    repair: str,
) -> tuple[str, ...]:
    warnings = []
    saving = repair_saving(keep, repaired) if keep else 0.0
    if keep and (measures.floor > BINDING_FLOOR or saving > THRESHOLD):
        floor = f"{_describe_floor(measures)}, a lower bound that added tokens cannot cross"
        if repaired_floor is None:
            warnings.append(f"{floor}; no repair is known")
        elif saving > THRESHOLD:
            lowered = number(repaired_floor)
            warnings.append(f"{floor}; with a {repair} pre-tokenizer it is {lowered}")
        else:
            warnings.append(
                f"{floor}; pretokenizer: repair lowers it to {number(repaired_floor)} ({repair}), "
                f"but saves less than the {percent(THRESHOLD)} that auto requires"
            )
    wide = _wide_sizes(keep) if keep else []
    if keep and wide:
        warnings.append(
            f"the intervals are wide at {', '.join(wide)}: the sample has only {keep.found:,} "
            "tokens that save anything; give more text"
        )
    if keep and keep.learned_from > CHECKED_GROWTH * keep.train_bytes:
        warnings.append(
            f"the tokens would be learned from {size(keep.learned_from)}, "
            f"{keep.learned_from / keep.train_bytes:,.0f} times the sample; predictions were "
            f"checked up to {CHECKED_GROWTH} times, so take a larger sample"
        )
    if measures.unknown > WARN_UNKNOWN:
        warnings.append(
            f"{percent(measures.unknown)} of the tokens are unknown characters, which this "
            "tokenizer loses"
        )
    if measures.round_trip.changed:
        warnings.append(f"the tokenizer itself loses text: {measures.round_trip}")
    return tuple(warnings)


def _apostrophe_warnings(measures: Measures, apostrophes: float) -> tuple[str, ...]:
    if apostrophes <= MANY_APOSTROPHES or measures.floor <= BINDING_FLOOR:
        return ()
    warning = (
        f"{percent(apostrophes)} of the {measures.unit}s hold ' or ’ between Latin letters, where "
        "no repair is possible: English contractions have the same context; the letters ʻ (U+02BB) "
        "and ʼ (U+02BC) are not split"
    )
    return (warning,)


def _describe_floor(measures: Measures) -> str:
    """Return how a pre-tokenizer splits a text, with the parts per unit."""
    # A part holds several characters: "0.3 parts" of one would be a riddle.
    if measures.floor < 1:
        parts = f"{number(measures.floor)} parts per {measures.unit}"
        return f"the pre-tokenizer splits the text into {parts}"
    return f"the pre-tokenizer splits a {measures.unit} into {number(measures.floor)} parts"


def _wide_sizes(curve: FertilityCurve) -> list[str]:
    """Return the sizes, as text, with an interval that is called wide."""
    wide = []
    for point in map(curve.at, TARGETS):
        width = point.high - point.low
        if width > WIDE_INTERVAL * point.share:
            wide.append(f"+{point.added:,}")
    return wide
