"""Numbers and rows as people read them: the same strings on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.diagnosis.advice import UNREADABLE, reading
from lingraft.diagnosis.diagnosis import Diagnosis, Finding, Rank, TokenizerFindings
from lingraft.forecast.extrapolate import TARGETS
from lingraft.forecast.predict_fertility import FertilityCurve

NOTHING = "–"


@dataclass(frozen=True)
class Grid:
    """A table: a heading, names of columns, rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def share(value: float) -> str:
    """Write a share.

    >>> share(0.4237), share(0.0), share(0.00004)
    ('42.4%', '–', '<0.1%')
    """
    return NOTHING if value == 0 else "<0.1%" if value < 0.0005 else f"{value:.1%}"


def now_grid(of: TokenizerFindings) -> Grid:
    """What the tokenizer does today, a language a row."""
    columns = ("language", "tokens/word", "bytes/token", "chars/token", "premium", "byte fallback", "one character",
               "torn", "unknown", "floor", "floor repaired")
    return Grid(f"{of.name}: {of.family}, {of.size:,} tokens", columns, tuple(_now(finding) for finding in of.findings))


def _now(finding: Finding) -> tuple[str, ...]:
    measures = finding.measures
    words = NOTHING if measures.unspaced else f"{measures.tokens_per_word:.2f}"
    floor = NOTHING if measures.unspaced else f"{measures.floor:.2f}"
    mended = NOTHING if measures.unspaced or finding.repaired_floor is None else f"{finding.repaired_floor:.2f}"
    over = NOTHING if finding.premium is None else f"{finding.premium:.2f}x"
    kinds = map(share, (measures.fallback, measures.single, measures.torn, measures.unknown))
    lengths = (f"{measures.bytes_per_token:.2f}", f"{measures.characters_per_token:.2f}")
    return (finding.language, words, *lengths, over, *kinds, floor, mended)


def prediction_grid(of: TokenizerFindings) -> Grid:
    """What adding tokens would give, a language and pre-tokenizer a row."""
    columns = ("language", "pre-tokenizer", *(f"+{size:,}" for size in TARGETS))
    rows = [_prediction(finding, name, curve) for finding in of.findings
            for name, curve in (("as it is", finding.keep), ("repaired", finding.repaired)) if curve]
    units = ", ".join(f"{finding.language}: {reading(finding.measures)[0]}, learned from "
                      f"{finding.keep.learned_from / 1e6:.1f} MB" for finding in of.findings if finding.keep)
    return Grid(f"predicted with tokens added, reduction (95% interval); {units}", columns, tuple(rows))


def _prediction(finding: Finding, name: str, curve: FertilityCurve) -> tuple[str, ...]:
    _, read = reading(finding.measures)
    return (finding.language, name,
            *(f"{read(point.share):.2f}  {point.reduction:.2f}x ({1 / point.high:.2f}–{1 / point.low:.2f})"
              for point in map(curve.at, TARGETS)))


def comparison_grid(diagnosis: Diagnosis, language: str) -> Grid:
    """Which base suits a language, fewest tokens per byte first."""
    columns = ("tokenizer", "size", "tokens/word", "premium", "tokens/byte now", "tokens/byte +10,000", "95% interval",
               "pre-tokenizer", "")
    ranks = diagnosis.ranking(language)
    return Grid(f"which base suits {language}", columns, tuple(_rank(rank, ranks) for rank in ranks))


def _rank(rank: Rank, ranks: Sequence[Rank]) -> tuple[str, ...]:
    measures, after = rank.finding.measures, rank.finding.after()
    now = measures.tokens_per_byte
    later: tuple[str, ...] = (NOTHING, NOTHING, NOTHING)
    if after:
        point, fixed = after
        interval = f"{now * point.low:.4f}–{now * point.high:.4f}"
        later = (f"{now * point.share:.4f}", interval, "repaired" if fixed else "as it is")
    best = (("best now", rank.best_now), ("best after", rank.best_after and not _rivals(rank, ranks)))
    marks = " and ".join(name for name, holds in best if holds)
    marks = f"{measures.unknown:.0%} unknown" if measures.unknown > UNREADABLE else marks
    return (rank.name, f"{rank.size:,}", NOTHING if measures.unspaced else f"{measures.tokens_per_word:.2f}",
            NOTHING if rank.finding.premium is None else f"{rank.finding.premium:.2f}x", f"{now:.4f}", *later, marks)


def verdict(diagnosis: Diagnosis, language: str) -> str:
    """Say which base suits a language, in a sentence."""
    ranks = diagnosis.ranking(language)
    now = next((rank for rank in ranks if rank.best_now), None)
    if now is None:
        return f"{language}: none of these can write the text"
    after = next((rank for rank in ranks if rank.best_after), None)
    text = f"{language}: {now.name} needs the fewest tokens now"
    if after is None:
        return text
    rivals = _rivals(after, ranks)
    if rivals:
        return f"{text}; with 10,000 added {after.name} is not told apart from {', '.join(rivals)}: one interval"
    return f"{text}; {'it stays ahead' if after is now else f'{after.name} does'} with 10,000 added"


def _rivals(best: Rank, ranks: Sequence[Rank]) -> list[str]:
    """Return the tokenizers whose prediction lies within the interval of the best one's."""
    point, _ = best.finding.after()  # type: ignore[misc]  # it is the best of those that have one
    low, high = (best.finding.measures.tokens_per_byte * bound for bound in (point.low, point.high))
    return [rank.name for rank in ranks if rank is not best and (near := rank.finding.after())
            and low <= rank.finding.measures.tokens_per_byte * near[0].share <= high]
