"""The tables and sentences of a diagnosis as strings, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.advice.diagnosis import (
    Diagnosis,
    LanguageFinding,
    Rank,
    TokenizerFindings,
    tokens_per_byte_after,
)
from lingraft.advice.glossary import units_of
from lingraft.advice.recommend import UNREADABLE
from lingraft.forecast.extrapolate import TARGETS
from lingraft.forecast.predict_fertility import FertilityCurve
from lingraft.formatting import factor, number, percent, size
from lingraft.tokenizer.premiums import REFERENCE

NOTHING = "–"


@dataclass(frozen=True)
class TextTable:
    """A table of strings; each of `rows` has a string for each column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def share(value: float) -> str:
    """Return a share as a percentage, and a dash for 0, so that the table shows what is present.

    >>> share(0.4237), share(0.0)
    ('42.4%', '–')
    """
    return percent(value) if value else NOTHING


def measures_table(tokenizer: TokenizerFindings) -> TextTable:
    """Return the measures of a tokenizer, a line for each language.

    The heading names the unit of the texts, or a column does if they have several.
    """
    units = units_of(tokenizer)
    has_several = len(units) > 1
    columns = (
        "language",
        *(("unit", "tokens/unit") if has_several else [unit.ratio for unit in units]),
        "whole" if has_several else f"whole {units[0]}s",
        "chars/token",
        "premium",
        "byte fallback",
        "one character",
        "partial character",
        "unknown",
        "lower bound",
        "repaired",
    )
    title = f"{tokenizer.name}: {tokenizer.family}, {tokenizer.size:,} tokens"
    lines = []
    for finding in tokenizer.findings:
        tag, *values = _measures_line(finding)
        lines.append((tag, *([finding.measures.unit] if has_several else []), *values))
    return TextTable(title, columns, tuple(lines))


def _measures_line(finding: LanguageFinding) -> tuple[str, ...]:
    measures = finding.measures
    tokens, lower_bound = number(measures.tokens_per_unit), number(measures.floor)
    repaired = NOTHING if finding.repaired_floor is None else number(finding.repaired_floor)
    premium = NOTHING if finding.premium is None else factor(finding.premium)
    kinds = map(share, (measures.fallback, measures.single, measures.torn, measures.unknown))
    lengths = (percent(measures.kept_whole), number(measures.characters_per_token))
    return (finding.language, tokens, *lengths, premium, *kinds, lower_bound, repaired)


def vocabulary_table(tokenizer: TokenizerFindings) -> TextTable:
    """Return further measures of the page: how the texts use the vocabulary."""
    columns = (
        "language",
        "frequent words whole",
        "bytes/token",
        "Rényi efficiency",
        "tokens in use",
        "10 times or more",
    )
    lines = []
    for finding in tokenizer.findings:
        measures = finding.measures
        lines.append(
            (
                finding.language,
                NOTHING if measures.frequent_kept is None else percent(measures.frequent_kept),
                number(measures.bytes_per_token),
                NOTHING if measures.efficiency is None else percent(measures.efficiency),
                f"{measures.tokens_in_use:,}",
                f"{measures.tokens_in_frequent_use:,}",
            )
        )
    return TextTable(f"{tokenizer.name}: use of the vocabulary", columns, tuple(lines))


def gini_sentence(tokenizer: TokenizerFindings) -> str:
    """Return how unequal the premiums are in a sentence; "" for fewer than two languages."""
    value, with_reference = tokenizer.gini(), tokenizer.gini(with_reference=True)
    if value is None or with_reference is None:
        return ""
    tags = ", ".join(tokenizer.premiums)
    return (
        f"Gini coefficient of the premiums: {value:.3f} over {tags}, {with_reference:.3f} with "
        f"{REFERENCE} (0: all need equally many tokens)"
    )


def prediction_table(tokenizer: TokenizerFindings) -> TextTable:
    """Return the predictions with added tokens, a line for each language and pre-tokenizer."""
    columns = ("language", "pre-tokenizer", *map("+{:,}".format, TARGETS))
    lines, units = [], []
    for finding in tokenizer.findings:
        if finding.keep:
            text = size(finding.keep.learned_from)
            metric = finding.measures.unit.metric
            units.append(f"{finding.language}: {metric}, learned from {text}")
            lines.append(_prediction_line(finding, "unchanged", finding.keep))
        if finding.repaired:
            lines.append(_prediction_line(finding, finding.repair, finding.repaired))
    title = f"predicted with tokens added, reduction (95% interval); {', '.join(units)}"
    return TextTable(title, columns, tuple(lines))


def _prediction_line(
    finding: LanguageFinding, pretokenizer: str, curve: FertilityCurve
) -> tuple[str, ...]:
    now = finding.measures.tokens_per_unit
    cells = [finding.language, pretokenizer]
    for point in map(curve.at, TARGETS):
        # The bounds of a reduction are those of the share, inverted and so in the other order.
        interval = f"{factor(1 / point.high)} to {factor(1 / point.low)}"
        cells.append(f"{number(now * point.share)}  {factor(point.reduction)} ({interval})")
    return tuple(cells)


def comparison_table(diagnosis: Diagnosis, language: str) -> TextTable:
    """Return the tokenizers on one language, fewest tokens per byte first."""
    ranks = diagnosis.ranking(language)
    columns = (
        "tokenizer",
        "size",
        ranks[0].finding.measures.unit.ratio,
        "premium",
        "tokens/byte now",
        "tokens/byte +10,000",
        "95% interval",
        "pre-tokenizer",
        "",
    )
    lines = tuple(_comparison_line(rank, ranks) for rank in ranks)
    return TextTable(f"which base suits {language}", columns, lines)


def _comparison_line(rank: Rank, ranks: Sequence[Rank]) -> tuple[str, ...]:
    measures, after = rank.finding.measures, rank.finding.after()
    now = measures.tokens_per_byte
    later: tuple[str, ...] = (NOTHING, NOTHING, NOTHING)
    if after:
        point, repaired = after
        pretokenizer = rank.finding.repair if repaired else "unchanged"
        interval = f"{number(now * point.low)} to {number(now * point.high)}"
        later = (number(now * point.share), interval, pretokenizer)
    best = []
    if rank.best_now:
        best.append("best now")
    # The best prediction is marked only if its interval contains no other tokenizer's.
    if rank.best_after and not _rivals(rank, ranks):
        best.append("best after")
    remark = " and ".join(best)
    if measures.unknown > UNREADABLE:
        remark = f"{percent(measures.unknown)} unknown"
    return (
        rank.name,
        f"{rank.size:,}",
        number(measures.tokens_per_unit),
        NOTHING if rank.finding.premium is None else factor(rank.finding.premium),
        number(now),
        *later,
        remark,
    )


def verdict(diagnosis: Diagnosis, language: str) -> str:
    """Return a sentence that says which base suits a language."""
    ranks = diagnosis.ranking(language)
    now = next((rank for rank in ranks if rank.best_now), None)
    if now is None:
        return f"{language}: none of these tokenizers can represent the text"
    after = next((rank for rank in ranks if rank.best_after), None)
    text = f"{language}: {now.name} needs the fewest tokens now"
    if after is None:
        return text
    rivals = _rivals(after, ranks)
    if rivals:
        others = ", ".join(rivals)
        return (
            f"{text}; with 10,000 added tokens the intervals do not separate {after.name} from "
            f"{others}"
        )
    later = "it stays ahead" if after is now else f"{after.name} does"
    return f"{text}; {later} with 10,000 added tokens"


def _rivals(best: Rank, ranks: Sequence[Rank]) -> list[str]:
    """Return the tokenizers whose predicted value is within the interval of the best one."""
    point, _ = best.finding.after()  # type: ignore[misc]  # it is the best of those that have one
    now = best.finding.measures.tokens_per_byte
    rivals = []
    for rank in ranks:
        predicted = tokens_per_byte_after(rank.finding)
        if rank is best or predicted is None:
            continue
        if now * point.low <= predicted <= now * point.high:
            rivals.append(rank.name)
    return rivals
