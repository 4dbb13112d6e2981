"""Numbers of a study by what its runs share, and their differences over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, stdev

from lingraft.report.study_files import StudyFiles
from lingraft.report.study_numbers import BITS, ValueKey
from lingraft.studies.statistics import CONFIDENCE, EQUIVALENCE_LEVEL, Difference, better_value

Pair = tuple[tuple[str, ...], int]
"""What two compared runs share: the values of the other axes, and the seed."""

MARGIN = 0.01
"""Bits per byte below which a difference counts as none."""

ENGLISH = ("bits per byte", "adapted", "replay")
ENGLISH_BEFORE = ("bits per byte", "source", "replay")


def values_of(study: StudyFiles, axis: str, key: ValueKey) -> dict[str, dict[Pair, float]]:
    """Return a number by value of an axis, and by the pair that its cell belongs to."""
    labels = {cell["name"]: cell["labels"] for cell in study.record["cells"]}
    values: dict[str, dict[Pair, float]] = {}
    for row in study.rows:
        if (row["metric"], row["subject"], row["role"] or "") == key:
            others = {name: str(label) for name, label in labels[row["cell"]].items()}
            label = others.pop(axis)
            values.setdefault(label, {})[tuple(others.values()), row["seed"]] = row["value"]
    return values


def difference(first: Mapping[Pair, float], second: Mapping[Pair, float]) -> Difference | None:
    """Return `second` minus `first`, over the seeds that have a pair in every context.

    A context is the values of the other axes, such as a language.
    """
    by_seed: dict[int, dict[tuple[str, ...], float]] = {}
    for others, seed in first.keys() & second.keys():
        by_seed.setdefault(seed, {})[others] = second[others, seed] - first[others, seed]
    # A mean over some of the languages is no mean over all: failed runs leave seeds out.
    contexts = {others for of_seed in by_seed.values() for others in of_seed}
    means = [fmean(of_seed.values()) for of_seed in by_seed.values() if of_seed.keys() == contexts]
    if not means:
        return None
    spread = stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None
    compared = ("", "first", "second")
    return Difference(*compared, {}, *BITS, fmean(means), len(means), spread, margin=MARGIN)


def shown(found: Difference | None) -> str:
    """Format a difference with its interval."""
    if found is None:
        return "–"
    interval = found.interval()
    return f"{found.value:+.3f}" if interval is None else with_signs(found.value, *interval)


def with_signs(value: float, low: float, high: float) -> str:
    """Format a difference and its interval with three decimals, those of bits per byte here."""
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def verdict(found: Difference | None, tests: int) -> str:
    """Return what the interval supports, if so many differences are tested together."""
    if found is None or found.spread is None:
        return "one seed: no order"
    said = []
    better = better_value(found, 1 - (1 - CONFIDENCE) / tests)
    if better is not None:
        said.append("better" if better == "second" else "worse")
    if found.is_equal(EQUIVALENCE_LEVEL / tests):
        said.append(f"equal within {MARGIN:g}")
    return ", ".join(said) or "no order"
