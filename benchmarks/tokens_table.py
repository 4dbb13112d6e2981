"""The table of study-tokens: what each number of added tokens costs and gains.

A line is a choice: the cells that differ in their seed only. It is compared with the runs of the
same language, text and seed without added tokens, which have the base's pre-tokenizer (`keep`).

- Inference FLOPs per byte: tokens per byte of target text x 2 FLOPs per parameter, to read or to
  generate it after adaptation, compared with the base (`lingraft.report.study_files` says what is
  counted, with its source).
- Training compute: 6 x parameters x tokens.
- Bold: a difference whose interval excludes 0 also if all of its column are tested together.
- Text and compute to equal quality: the shares of the text, and of the training compute, of the
  runs without added tokens at which a run is as low as they end (`lingraft.studies.text_needed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.paired import (
    ENGLISH,
    ENGLISH_BEFORE,
    Pair,
    difference,
    shown,
    values_of,
    verdict,
)
from lingraft.display_text import language_name
from lingraft.formatting import counted, number, percent
from lingraft.report.study_files import FORM, SIZE, Group, Spread, StudyFiles
from lingraft.report.study_numbers import ADDED, BITS, FERTILITY, SERVING
from lingraft.report.study_page import equal_quality
from lingraft.studies.statistics import Difference
from lingraft.studies.text_needed import Runs

AUTO = "auto"
HEADINGS = (
    "language",
    "text",
    "pre-tokenizer",
    "tokens added",
    "tokens per word",
    "bits per byte",
    "against none, same text",
    "training compute",
    "against none, same compute",
    "text to equal quality",
    "compute to equal quality",
    "inference FLOPs per byte",
    "English change",
)


def tokens_table(study: StudyFiles) -> str:
    """Return a table of each choice, and what `size: auto` chose."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    values, *english = (values_of(study, SIZE, key) for key in (BITS, ENGLISH_BEFORE, ENGLISH))
    compared = [group for group in study.groups if study.without_tokens(group) not in (None, group)]
    for group in by_language(study):
        change = (of_group(found, group) for found in english)
        found = results(study, group, values, len(compared))
        cells = [*names(group), *found, shown(difference(*change))]
        lines.append(f"| {' | '.join(cells)} |")
    seeds = f"{counted(len(study.record['seeds']), 'seed')}."
    chosen = [f"- {line}" for line in auto_choices(study, values)]
    return "\n".join([*lines, "", seeds, *(["", *chosen] if chosen else [])])


def by_language(study: StudyFiles) -> list[Group]:
    """Return the choices, those of a language together."""
    return sorted(study.groups, key=lambda group: str(group.labels.get("language")))


def names(group: Group) -> list[str]:
    """Return the columns that name a choice, and its tokens per word."""
    labels = {name: str(value) for name, value in group.labels.items()}
    words = group.get(FERTILITY)
    return [
        language_name(labels.get("language", "")),
        labels.get("training.budget", ""),
        labels.get(FORM, ""),
        count_of(group.get(ADDED)) + (f" ({AUTO})" if labels[SIZE] == AUTO else ""),
        number(words.value) if words else "–",
    ]


def results(
    study: StudyFiles, group: Group, values: Mapping[str, Mapping[Pair, float]], tests: int
) -> list[str]:
    """Return bits per byte, and the comparisons with the runs without added tokens."""
    none, share = study.without_tokens(group), study.relative_cost(group)
    bits, serving = group.get(BITS), group.get(SERVING)
    same_text = same_compute = ""
    if none and none is not group:
        found = difference(of_group(values, none), of_group(values, group))
        same_text = marked(found, tests)
        if share:
            early = early_bits(study.curves_of(none), share)
            same_compute = marked(difference(early, of_group(values, group)), tests)
    return [
        f"{bits.value:.3f}" if bits else "–",
        same_text,
        percent(share) if share else "",
        same_compute,
        *equal_quality(study, group),
        percent(serving.value) if serving else "–",
    ]


def marked(found: Difference | None, tests: int) -> str:
    """Format a difference, bold if it has a sign also where so many are tested together."""
    decided = verdict(found, tests).startswith(("better", "worse"))
    return f"**{shown(found)}**" if decided else shown(found)


def auto_choices(study: StudyFiles, values: Mapping[str, Mapping[Pair, float]]) -> Iterator[str]:
    """Yield what `size: auto` chose, and how far it ends from the best size.

    The sizes have all else equal; without added tokens there is one for every pre-tokenizer.
    """
    for group in by_language(study):
        if str(group.labels[SIZE]) != AUTO:
            continue
        others = [other for other in study.groups if differs_in_size(group, other)]
        none = study.without_tokens(group)
        others += [none] if none and none not in others else []
        ended = [(bits.value, other) for other in others if (bits := other.get(BITS))]
        place = ", ".join(filter(None, names(group)[:3]))
        line = f"{place}: `size: auto` chose {count_of(group.get(ADDED))} tokens"
        if not ended or not group.get(BITS):
            yield f"{line}."
            continue
        best = min(ended, key=lambda one: one[0])[1]
        away = shown(difference(of_group(values, best), of_group(values, group)))
        size = count_of(best.get(ADDED))
        yield f"{line} and ends {away} bits per byte from the best of the other sizes, {size}."


def differs_in_size(group: Group, other: Group) -> bool:
    """Say whether another choice differs from this one in the number of tokens alone."""
    return other is not group and other.labels == {**group.labels, SIZE: other.labels.get(SIZE)}


def count_of(spread: Spread | None) -> str:
    """Format a number of tokens; with `auto`, seeds may choose different ones."""
    if spread is None:
        return "–"
    low, high = number(spread.low), number(spread.high)
    return low if low == high else f"{low} to {high}"


def of_group(values: Mapping[str, Mapping[Pair, float]], group: Group) -> dict[Pair, float]:
    """Return the values of a choice, under the seed alone."""
    others = tuple(str(label) for name, label in group.labels.items() if name != SIZE)
    found = values.get(str(group.labels[SIZE]), {})
    return {((), seed): value for (of, seed), value in found.items() if of == others}


def early_bits(runs: Runs, share: float) -> dict[Pair, float]:
    """Return the bits per byte of runs after this share of their training, under the seed alone.

    Runs that end before are left out.
    """
    found: dict[Pair, float] = {}
    for (seed, _), curve in runs.items():
        if len(curve) > 1 and share <= 1:
            read, bits = zip(*curve, strict=True)
            found[(), seed] = float(np.interp(share * read[-1], read, bits))
    return found
