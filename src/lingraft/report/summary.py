"""The question of a run and its answer in words, made from the numbers and never beyond their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lingraft.formatting import (
    LARGE_FACTOR,
    joined,
    language_name,
    number,
    percent,
    signed_interval,
    size,
)
from lingraft.measurement import MetricChange, find_change
from lingraft.report.run_files import RunFiles


def question(run: RunFiles) -> str:
    """Return what the run was made to find out."""
    target = joined([language_name(tag) for tag in run.targets])
    doings = []
    if run.splice is not None and run.splice.new:
        doings.append(f"given {len(run.splice.new):,} tokens for {target}")
    if trained := training_bytes(run):
        doings.append(f"trained on {size(trained)} of text")
    given = f", {joined(doings)}," if doings else ""
    loses = f", and what does its {language_name(run.base)} lose" if run.base else ""
    return f"Does {run.record['source']}{given} read and predict {target} better{loses}?"


def training_bytes(run: RunFiles) -> int:
    """Return how many bytes the model was trained on, 0 without training."""
    return max((int(row.get("bytes", 0)) for row in run.training or ()), default=0)


def answer(run: RunFiles, table: Sequence[MetricChange]) -> list[str]:
    """Return the sentences of the answer."""
    return [
        _opened(sentence, str(run.record["source"]))
        for sentence in _sentences(run, table)
        if sentence
    ]


def _opened(sentence: str, source: str) -> str:
    """Begin a sentence with a capital, unless it begins with the name of a model."""
    described = source.startswith(("a model ", "random weights "))
    return (
        sentence[0].upper() + sentence[1:]
        if described or not sentence.startswith(source)
        else sentence
    )


def _sentences(run: RunFiles, table: Sequence[MetricChange]) -> Iterator[str]:
    for target in run.targets:
        yield _reading(
            find_change(table, "tokens per word", target)
            or find_change(table, "tokens per byte", target),
            str(run.record["source"]),
            language_name(target),
        )
        yield _prediction(find_change(table, "bits per byte", target), language_name(target))
    if run.base and run.base not in run.targets:
        yield _prediction(find_change(table, "bits per byte", run.base), language_name(run.base))
        yield _kept(
            find_change(table, "documents tokenised identically", run.base), language_name(run.base)
        )
    elif not run.base:
        yield "What it lost of its own language was not measured: the recipe names no replay text."
    for target in run.targets:
        yield _writing(find_change(table, "generation speed", target), language_name(target))
    yield _promises(run)


def _reading(one: MetricChange | None, source: str, target: str) -> str:
    if one is None or not one.factor or one.last is None:
        return f"How many tokens {source} needs for {target} was not measured."
    before, after = one.rows["source"], one.last
    numbers = f"{number(before.value)} before, {number(after.value)} after, {one.metric}"
    if one.verdict == "same":
        return f"{source} reads {target} in as many tokens as before ({number(after.value)} {one.metric})."
    if one.verdict == "unclear":
        said = f"{percent(round(abs(1 - one.factor), 3))} {'fewer' if one.factor < 1 else 'more'}"
        return (
            f"{source} needs {said} tokens for {target} on the held-out text ({numbers}); the intervals of the two "
            "over documents overlap."
        )
    bare = "" if one.verdict != "untold" else "; measured without an interval"
    if one.factor > 1:
        return (
            f"{source} needs {one.factor:.2f} times as many tokens for {target} ({numbers}{bare})."
        )
    times = 1 / one.factor
    fewer = f"{times:.2f} times" if times >= LARGE_FACTOR else percent(round(1 - one.factor, 3))
    return f"{source} reads {target} in {fewer} fewer tokens ({numbers}{bare})."


def _prediction(one: MetricChange | None, language: str) -> str:
    if one is None or one.factor is None or one.last is None:
        return f"How well it predicts {language} was not measured."
    before, after = one.rows["source"].value, one.last.value
    moved = f"from {number(before)} to {number(after)}"
    if one.verdict == "same":
        return f"Bits per byte on {language} stayed at {number(after)}."
    if one.verdict == "unclear":
        return f"On {language}, bits per byte went {moved}, which the intervals do not tell from no change."
    verb = "fell" if after < before else "rose"
    sure = (
        signed_interval(one.difference.value, one.difference.low, one.difference.high)
        if one.difference
        else ""
    )
    confidence = one.difference.confidence if one.difference and one.difference.confidence else None
    told = f"; {percent(confidence)} interval of the change: {sure}" if sure and confidence else ""
    told = "; without an interval" if one.verdict == "untold" else told
    return f"Bits per byte on {language} {verb} {moved} (lower is better{told})."


def _kept(one: MetricChange | None, language: str) -> str:
    if one is None or one.last is None:
        return ""
    said = "All" if one.last.value == 1 else f"{percent(one.last.value)} of"
    return f"{said} {one.last.n:,} {language} documents are cut into the same tokens as before."


def _writing(one: MetricChange | None, target: str) -> str:
    if one is None or one.factor is None or one.last is None:
        return ""
    return (
        f"It writes {target} at {one.factor:.2f} times the speed in bytes a second ({one.last.n} "
        f"prompt{'s' if one.last.n != 1 else ''} on this machine, without an interval)."
    )


def _promises(run: RunFiles) -> str:
    if run.claims is None:
        return "No certificate was written."
    promises = [claim for claim in run.claims if claim.get("fatal", True)]
    broken = [
        str(claim["name"]) for claim in promises if not (claim["holds"] and claim.get("of", 1))
    ]
    if not broken:
        return f"All {len(promises)} checked promises about the tokenizer hold."
    kept = len(promises) - len(broken)
    return f"{kept} of {len(promises)} checked promises about the tokenizer hold; not: {joined(broken)}."
