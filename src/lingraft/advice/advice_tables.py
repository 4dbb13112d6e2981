"""The output of `lingraft advise`: tables for the terminal, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.table import Table

from lingraft import formatting
from lingraft.advice.advise import Advice, BaseAdvice
from lingraft.advice.base_ranking import RANDOM_BITS, BaseRanking
from lingraft.advice.choose import PredictedEnds
from lingraft.forecast.base_comparison import MIN_NEAR, NEAR
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.vocabulary.auto_size import MARGINAL

NO_WEIGHTS = "unknown: no weights"


def advice_json(advice: Advice) -> dict[str, Any]:
    """Return an advice as plain JSON; its names are the fields of `Advice`."""
    bases = []
    for base in advice.bases:
        content = asdict(base)
        if base.cost:
            # `asdict` leaves out properties.
            content["cost"] |= {
                "hours": base.cost.hours,
                "gpu_hours": base.cost.gpu_hours,
                "fits": base.cost.fits,
                "fits_recomputed": base.cost.fits_recomputed,
            }
        bases.append(content)
    return {
        "language": advice.language,
        "warnings": list(advice.warnings),
        "bases": bases,
        "ranking": asdict(advice.ranking) if advice.ranking else None,
        "predicted": asdict(advice.predicted) if advice.predicted else None,
    }


def advice_tables(advice: Advice) -> list[Table]:
    """Return the tables for the terminal: a line for each question, a column for each base.

    A second table has the ranking if there are several bases.
    """
    table = Table(
        pad_edge=False, box=None, title=f"adapting to {advice.language}", title_justify="left"
    )
    table.add_column("question")
    columns = []
    for base in advice.bases:
        table.add_column(base.name)
        columns.append(_answers(base))
    without_weights: list[str] = []
    for question in columns[0]:
        answers = [column[question] for column in columns]
        if set(answers) == {NO_WEIGHTS}:
            without_weights.append(question)
        else:
            table.add_row(question, *answers)
    if without_weights:
        # One line for all of them: alone, each would have the same answer in every column.
        table.caption = f"{NO_WEIGHTS} for: {'; '.join(without_weights)}"
        table.caption_justify = "left"
    if advice.ranking is None:
        return [table]
    ranking = Table(pad_edge=False, box=None, show_header=False)
    ranking.add_column()
    ranking.add_row(f"by {advice.ranking.measure}: {', '.join(advice.ranking.order)}")
    ranking.add_row(f"shown by the intervals: {_shown(advice.ranking)}")
    if losing := advice.ranking.losing_text:
        names = [f"{name} ({formatting.percent(share)} unknown)" for name, share in losing.items()]
        ranking.add_row(f"not compared, because the tokenizer loses text: {', '.join(names)}")
    for line in predicted_lines(advice.predicted) if advice.predicted else ():
        ranking.add_row(line)
    return [table, ranking]


def _shown(ranking: BaseRanking) -> str:
    """Return which bases are better by the intervals."""
    if ranking.few_documents is not None:
        return (
            f"nothing, because {ranking.few_documents} documents are too few (at least "
            f"{MIN_DOCUMENTS})"
        )
    pairs = [f"{better} better than {worse}" for better, worse in ranking.carried]
    return "; ".join(pairs) or "no order"


def predicted_lines(predicted: PredictedEnds) -> Iterator[str]:
    """Yield how far apart the bases end, and how such predictions were checked."""
    first, *others = predicted.ends
    ends = [f"{first.name} lowest"]
    for end in others:
        change, low, high = (
            f"{100 * (ratio - 1):+.0f}%" for ratio in (end.ratio, end.low, end.high)
        )
        ends.append(f"{end.name} {change} ({low} to {high})")
    text = f"{formatting.size(predicted.text_bytes)} of text"
    yield f"bits per byte after training on {text}, predicted from those now: {', '.join(ends)}"
    checked = predicted.validation
    size = formatting.model_size(predicted.largest)
    seeds = formatting.counted(predicted.seeds, "seed")
    error, equal = map(formatting.percent, (checked.error, predicted.error_of_equal))
    yield (
        f"checked on {checked.bases} bases of at most {size} parameters in {checked.texts} "
        f"languages ({text}, {predicted.added_tokens:,} added tokens, {seeds}), each predicted "
        f"from the others: Kendall's tau of the order {checked.tau:.2f} (1 is right, 0 is chance); "
        f"mean error {error}, or {equal} if all are predicted to end equal; "
        f"{checked.coverage:.0%} within their 95% interval; the base predicted to be lowest ends "
        f"{checked.regret:.3f} bits per byte above the lowest"
    )
    yield (
        "not checked: larger bases, and more text, which --probe measures; that bits per byte "
        "predict best was chosen on most of these bases"
    )
    outside = [end.name for end in predicted.ends if end.is_outside]
    if outside:
        yield (
            f"weakly supported: {', '.join(outside)} (fewer than {MIN_NEAR} of the measured bases "
            f"have bits per byte within a factor of {NEAR} of its own)"
        )


def _answers(base: BaseAdvice) -> dict[str, str]:
    """Return the answers for a base, by question."""
    return {
        "recommendation": base.headline,
        **_size_answers(base),
        **_quality_answers(base),
        **_cost_answers(base),
    }


def _unknown(base: BaseAdvice) -> str:
    """Return why a number is unknown that needs the weights, or also a size."""
    return NO_WEIGHTS if base.shape is None else f"unknown: {base.unpredicted}"


def _size_answers(base: BaseAdvice) -> dict[str, str]:
    size = base.size
    added, fertility = f"unknown: {base.unpredicted}", formatting.number(base.now[0])
    cheaper = best = _unknown(base)
    if size:
        added = f"0 ({'; '.join(base.reasons)})"
        if size.size:
            added = f"{size.size:,} (rule {size.rule}: beyond it, {MARGINAL})"
        if size.cheapest is not None:
            equal = f"{size.least:,} to {size.most:,} are equally cheap"
            best = f"{size.cheapest:,} tokens (rule serving; {equal})"
        fertility += f" -> {formatting.with_interval(*size.tokens)}"
        if base.gain:
            tax = formatting.factor(size.tax)
            cheaper = f"{formatting.factor(base.gain)} (each token costs {tax})"
    return {
        "tokens to add": added,
        "tokens per byte, now and after": fertility,
        "a byte is cheaper to serve by": cheaper,
        "a byte is cheapest to serve with": best,
    }


def _quality_answers(base: BaseAdvice) -> dict[str, str]:
    now = base_language = after = _unknown(base)
    if base.target_bits:
        now = formatting.with_interval(*base.target_bits)
        base_language = "not requested"
    if base.base_bits:
        base_language = formatting.with_interval(*base.base_bits)
    if base.end:
        after = formatting.with_interval(base.end.value, base.end.low, base.end.high)
        if base.target_bits and base.target_bits[0] > RANDOM_BITS:
            after += ", uncertain: the base predicts this text worse than random bytes"
    elif base.shape and base.size:
        after = "not probed"
    return {
        "bits per byte now": now,
        "bits per byte, base language": base_language,
        f"after {formatting.size(base.budget)}": after,
    }


def _cost_answers(base: BaseAdvice) -> dict[str, str]:
    training = gpu_hours = memory = disk = _unknown(base)
    if cost := base.cost:
        training = f"{cost.tokens:,} tokens, {formatting.flops(cost.flops)} FLOPs"
        memory = f"{formatting.size(cost.memory_per_device)}{_fit(cost.fits)}"
        memory += f"; {formatting.size(cost.memory_recomputed)}{_fit(cost.fits_recomputed)}"
        # As a training does by itself where the first number does not fit (`training.step_memory`).
        memory += " with recomputed activations (a third more hours)"
        disk = formatting.size(cost.disk)
        gpu_hours = "give --gpus"
        if cost.gpus and cost.gpu_hours is not None and cost.hours is not None:
            gpu_hours = (
                f"{formatting.number(cost.gpu_hours)} on {cost.gpus.count} {cost.gpus.kind}, "
                f"{formatting.number(cost.hours)} h"
            )
    return {
        "training": training,
        "GPU-hours": gpu_hours,
        "memory per device": memory,
        "disk": disk,
    }


def _fit(fits: bool | None) -> str:  # noqa: FBT001 - it is the value
    if fits is None:
        return ""
    return ", fits" if fits else ", does NOT fit"
