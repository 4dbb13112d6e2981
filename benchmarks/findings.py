"""The tables and the pictures of the findings, from finished studies and comparisons.

    python benchmarks/findings.py rows RUNS/study-rows ...
    python benchmarks/findings.py tokens RUNS/study-tokens
    python benchmarks/findings.py bases [RUNS/study-bases]
    python benchmarks/findings.py recipes COMPARED.txt ...
    python benchmarks/findings.py forgetting RUNS/study-forgetting ...
    python benchmarks/findings.py run RUNS/english-8m-hi

`rows`, `tokens` and `bases` read the folder of a study (`bases` without one the runs that come with
lingraft), `recipes` what `recipes_compare.py` printed. Each prints its tables, puts them into
docs/findings-tables.md and docs/paper.md, between `<!-- tokens -->` and `<!-- /tokens -->`, and
draws docs/pictures/NAME-*.svg; those of a study are the charts of its own report. `rows` and
`forgetting` join studies with other languages, seeds or arms. `rows` prints a table of each
language for results.md, `forgetting` those of results.md. `run` draws the two pictures of
README.md and docs/benchmarks.md. Run from the root of the repository.

Differences are between runs that differ in one thing only. Intervals are Student's t at 95% over
seeds, after averaging over languages; those of bases, which ran once, are over texts. They speak of
these languages, not of all. A value is called better, worse or equal only if the intervals of all
values of the table together support it (Bonferroni).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import base_predictor
from benchmarks.forgetting import forgetting_tables
from benchmarks.paired import (
    ENGLISH,
    ENGLISH_BEFORE,
    Pair,
    difference,
    shown,
    values_of,
    verdict,
    with_signs,
)
from benchmarks.tokens_table import tokens_table
from lingraft.display_text import language_name
from lingraft.forecast.base_comparison import BaseRun, measured_runs
from lingraft.formatting import counted, duration, percent, signed_fixed
from lingraft.measurement import metric_changes
from lingraft.pipeline.run_files import read_run
from lingraft.report.chart_labels import wrapped
from lingraft.report.charts import Chart, difference_dots
from lingraft.report.run_charts import charts
from lingraft.report.study_charts import DECIDED, UNDECIDED, decided, study_charts
from lingraft.report.study_files import SIZE, StudyFiles, read_study_files
from lingraft.report.study_numbers import BITS
from lingraft.store import write_files
from lingraft.studies.text_needed import describe, read_curves

SPLICED = ("bits per byte", "spliced", "target")
TIME = ("initialisation time", "spliced", "")
PICTURES = {
    "rows": ("result-", "kept"),
    "tokens": ("size", "fertility"),
    "forgetting": ("learned", "kept"),
    "run": ("training", "fertility"),
}
"""The charts of each question, by the beginning of their names."""
PAPER_ROWS = {
    "mean": 46.69,
    "focus": 46.52,
    "learned": 45.93,
    "random": 43.98,
    "random_token": 41.10,
}
"""The average of six Hindi tasks in the paper, Table 5: LLaMA-2-7B, +10K tokens, one run."""
PAGE = "findings-tables"
QUESTIONS = ("rows", "tokens", "bases", "recipes", "forgetting", "run")
SHARES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of the training text at which curves are compared: points of the held-out curve."""
BASES = (
    ("0.2M-20", "0.2M-5"),
    ("0.2M-80", "0.2M-5"),
    ("1M-20", "1M-5"),
    ("1M-80", "1M-5"),
    ("1M-5", "0.2M-5"),
    ("5M-5", "1M-5"),
    ("5M-5", "0.2M-5"),
)
"""Pairs of bases that differ in their text or in their size alone."""
RECIPES = {
    ("default", "bytes"): "the default",
    ("paper", "bytes"): "paper's recipe",
    ("no added tokens", "bytes"): "no new tokens",
    ("no added tokens", "FLOPs"): "no new tokens, equal compute",
}
Bound = tuple[float, float]
"""A value and half the width of its interval."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("sources", type=Path, nargs="*", metavar="SOURCE")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    question, sources = arguments.question, arguments.sources
    if not sources and question != "bases":
        parser.error(f"{question} needs a SOURCE")
    files: dict[Path, str | bytes] = {}
    for answer in answers(question, sources):
        for chart in answer.charts:
            if chart.name.startswith(PICTURES.get(question, "")):
                # Without the number of the axis.
                name = re.sub(r"-\d+$", "", chart.name)
                picture = arguments.docs / "pictures" / f"{answer.pictures}-{name}.svg"
                files[picture] = chart.on_white()
        for name, text in answer.tables.items():
            page = arguments.docs / f"{name}.md"
            before = files.get(page) or page.read_text(encoding="utf-8")
            files[page] = put_into(str(before), answer.place, text)
            print(f"{text}\n")
    write_files(files)


@dataclass(frozen=True)
class Answer:
    """Tables by page with their place in it, and charts with the beginning of their file names."""

    place: str
    tables: Mapping[str, str]
    charts: Sequence[Chart]
    pictures: str


def answers(question: str, sources: Sequence[Path]) -> Iterator[Answer]:
    """Yield what the sources say about a question."""
    if question == "bases":
        runs = list(base_predictor.runs_of(sources[0])) if sources else measured_runs()
        table = "\n".join([*base_predictor.checks(runs), *bases_compared(runs)]).strip()
        yield Answer(question, {PAGE: table}, [bases_chart(runs)], question)
    elif question == "run":
        run = read_run(sources[0])
        yield Answer("", {}, charts(run, metric_changes(run.measurements)), "english-8m-hi")
    elif question == "recipes":
        compared = read_comparisons(sources)
        table = recipes_table(compared)
        yield Answer(question, {PAGE: table}, recipe_charts(compared), question)
    elif question == "forgetting":
        study = joined([read_study_files(source) for source in sources])
        print("\n\n".join(forgetting_tables(study)))
        yield Answer("", {}, study_charts(study), question)
    elif question == "rows":
        study = joined([read_study_files(source) for source in sources])
        languages = dict(by_language(study))
        if len(languages) > 1:
            for language, part in languages.items():
                print(f"{language_name(language)}:\n\n{rows_table(part)}\n")
        parts = (rows_table(study), along_table(study), ends_table(languages))
        table = "\n\n".join(filter(None, parts))
        tables = {PAGE: table, "paper": rows_next_to_paper(study)}
        yield Answer(question, tables, study_charts(study), question)
    else:
        study = joined([read_study_files(source) for source in sources])
        tables = {PAGE: tokens_table(study), "paper": tokens_next_to_paper(study)}
        yield Answer(question, tables, study_charts(study), question)


def joined(studies: Sequence[StudyFiles]) -> StudyFiles:
    """Return one study with the cells of all, which have the same axes."""
    return replace(
        studies[0],
        record={
            **studies[0].record,
            "cells": [each for of in studies for each in of.record["cells"]],
        },
        rows=[row for study in studies for row in study.rows],
        curves=[row for study in studies for row in study.curves],
    )


def by_language(study: StudyFiles) -> Iterator[tuple[str, StudyFiles]]:
    """Yield each language of a study with its cells; "" if the study has no such axis."""
    languages: dict[str, list[Mapping[str, Any]]] = {}
    for cell in study.record["cells"]:
        languages.setdefault(str(cell["labels"].get("language", "")), []).append(cell)
    for language, cells in languages.items():
        names = {cell["name"] for cell in cells}
        rows, curves = (
            [row for row in table if row["cell"] in names] for table in (study.rows, study.curves)
        )
        yield (
            language,
            replace(study, record={**study.record, "cells": cells}, rows=rows, curves=curves),
        )


def put_into(page: str, name: str, text: str) -> str:
    """Return a page with the text between the two comments of this name."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, page, re.DOTALL):
        msg = f"the page has no <!-- {name} --> and <!-- /{name} -->; add both lines"
        raise SystemExit(msg)
    return re.sub(pattern, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page, flags=re.DOTALL)


def bases_chart(runs: Sequence[BaseRun]) -> Chart:
    """Return the end of each base compared with the mean of all bases on the same text."""
    ends: dict[str, list[float]] = {}
    for run in runs:
        ends.setdefault(run.text, []).append(run.end)
    points: list[dict[str, float | str]] = []
    by_size = sorted(runs, key=lambda run: run.facts["parameters"])
    for base in dict.fromkeys(run.base for run in by_size):
        ratios = [100 * (run.end / fmean(ends[run.text]) - 1) for run in runs if run.base == base]
        value, low, high = fmean(ratios), min(ratios), max(ratios)
        shown = f"{signed_fixed(value, 0)}%"
        points.append({"label": base, "value": value, "low": low, "high": high, "shown": shown})
    title = "end, compared with the mean of the bases (%)"
    values = "; ".join(f"{each['label']} {each['shown']}" for each in points)
    labels = [str(each["label"]) for each in points]
    declared = difference_dots(points, title, labels)
    return Chart("ends", title, "", f"{title}: {values}. Bars: all languages.", declared)


def bases_compared(runs: Sequence[BaseRun]) -> Iterator[str]:
    """Yield a table of how much higher one base ends than another; intervals are over texts."""
    ends: dict[str, dict[Pair, float]] = {}
    texts = list(dict.fromkeys(run.text for run in runs))
    for run in runs:
        # Each base ran once: the texts are the sample, in place of seeds.
        ends.setdefault(run.base, {})[(), texts.index(run.text)] = run.end
    yield "\n| base | compared with | bits per byte at the end |"
    yield "|---|---|--:|"
    for base, other in BASES:
        if base in ends and other in ends:
            yield f"| {base} | {other} | {shown(difference(ends[other], ends[base]))} |"


def rows_table(study: StudyFiles) -> str:
    """Return the table of the initialisations, the lowest bits per byte at the end first."""
    keys = (SPLICED, BITS, ENGLISH_BEFORE, ENGLISH, TIME)
    before, after, source, english, time = (values_of(study, "embeddings", key) for key in keys)
    first = next(iter(after))
    needed = {each.second: describe(each) for each in study.text_needed if each.first == first}
    head = f"| rows | before training | after training | compared with {first} | text needed | "
    lines = [f"{head}English, change | rows made in |", f"|{'---|' * 7}"]
    ordered = sorted(after, key=lambda label: fmean(after[label].values()))
    for label in ordered:
        found = difference(after[first], after[label])
        start = difference(before.get(first, {}), before.get(label, {}))
        cells = [
            # The seed changes none of most rows, so its runs are no sample and have no interval.
            f"{start.value:+.3f}" if start else "–",
            shown(found),
            verdict(found, len(after) - 1),
            needed.get(label, "–"),
        ]
        if label == first:
            cells = [f"{mean_of(before, first)} bits per byte", mean_of(after, first), "", "100%"]
        lost = shown(difference(source.get(label, {}), english.get(label, {})))
        seconds = duration(fmean(time[label].values())) if label in time else "–"
        lines.append(f"| {' | '.join([label, *cells, lost, seconds])} |")
    return "\n".join([*lines, "", measured_on(after[first])])


def along_table(study: StudyFiles) -> str:
    """Return how far the curves are above those of the first rows after shares of the text."""
    at: dict[str, dict[Pair, list[float]]] = {}
    for cell in study.record["cells"]:
        others = {name: str(label) for name, label in cell["labels"].items()}
        label = others.pop("embeddings")
        rows = [row for row in study.curves if row["cell"] == cell["name"]]
        for (seed, _), curve in read_curves(rows).items():
            read, bits = zip(*curve, strict=True)
            points = np.interp([share * read[-1] for share in SHARES], read, bits)
            at.setdefault(label, {})[tuple(others.values()), seed] = list(map(float, points))
    first = next(iter(at))
    lines = [
        f"| compared with {first} after | {' | '.join(percent(share) for share in SHARES)} |",
        f"|---|{'---|' * len(SHARES)}",
    ]
    for label in sorted(at, key=lambda label: fmean(values[-1] for values in at[label].values())):
        cells = []
        for index in range(len(SHARES)):
            before, after = (
                {pair: values[index] for pair, values in at[name].items()}
                for name in (first, label)
            )
            found = difference(before, after)
            mean = f"{fmean(before.values()):.3f}"
            cells.append(mean if label == first else f"{found.value:+.3f}" if found else "–")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ends_table(languages: Mapping[str, StudyFiles]) -> str:
    """Return bits per byte at the end compared with the first rows, a column for each language."""
    if len(languages) < 2:
        return ""
    ends = [values_of(study, "embeddings", BITS) for study in languages.values()]
    first = next(iter(ends[0]))
    names = " | ".join(map(language_name, languages))
    lines = [f"| after training, compared with {first} | {names} |", f"|---|{'---|' * len(ends)}"]
    labels = dict.fromkeys(label for of in ends for label in of)
    means = {
        label: fmean(fmean(of[label].values()) for of in ends if label in of) for label in labels
    }
    ordered = sorted(labels, key=means.__getitem__)
    for label in ordered:
        cells = (
            f"{mean_of(of, first)} bits per byte"
            if label == first
            else shown(difference(of[first], of.get(label, {})))
            for of in ends
        )
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_of(values: Mapping[str, Mapping[Pair, float]], label: str) -> str:
    """Format the mean of the values at a label."""
    return f"{fmean(values[label].values()):.3f}" if label in values else "–"


def measured_on(pairs: Mapping[Pair, float]) -> str:
    """Return on how many languages and seeds a table rests."""
    seeds = {seed for _, seed in pairs}
    contexts = {others for others, _ in pairs}
    return f"{counted(len(contexts), 'language')}, {counted(len(seeds), 'seed')}."


def rows_next_to_paper(study: StudyFiles) -> str:
    """Return the initialisations that the paper has: its average of tasks, and bits per byte."""
    after = values_of(study, "embeddings", BITS)
    first = next(iter(after.values()))
    languages = list(dict.fromkeys(others for others, _ in first))
    names = " | ".join(f"{language_name(others[0])}, bits per byte" for others in languages)
    lines = [
        f"| rows | the paper, average of tasks | {names} |",
        f"|{'---|' * (len(languages) + 2)}",
    ]
    for label in (label for label in PAPER_ROWS if label in after):
        cells = []
        for others in languages:
            values = [value for pair, value in after[label].items() if pair[0] == others]
            cells.append(f"{fmean(values):.3f}" if values else "–")
        lines.append(f"| {label} | {PAPER_ROWS[label]:.2f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", measured_on(first)])


def tokens_next_to_paper(study: StudyFiles) -> str:
    """Return bits per byte with each number of tokens, a line for all else that is equal."""
    after = values_of(study, SIZE, BITS)
    # Numbers in order, then `auto`, whichever study of several had them.
    sizes = sorted(after, key=lambda size: int(size) if size.isdigit() else sys.maxsize)
    after = {size: after[size] for size in sizes}
    lines = [f"| | {' | '.join(after)} |", f"|{'---|' * (len(after) + 1)}"]
    for others in dict.fromkeys(pair[0] for values in after.values() for pair in values):
        cells = []
        for values in after.values():
            found = [value for pair, value in values.items() if pair[0] == others]
            cells.append(f"{fmean(found):.3f}" if found else "")
        lines.append(f"| {', '.join(map(language_name, others))} | {' | '.join(cells)} |")
    return "\n".join(lines)


class Comparison:
    """What `recipes_compare.py` printed for a language: bits per byte and English, by recipe."""

    def __init__(self, text: str) -> None:
        head, *lines = text.strip().splitlines()
        self.language = language_name(head.partition(",")[0])
        self.seeds = int(re.search(r"(\d+) seeds", head)[1])  # type: ignore[index]
        source = re.search(r"before: ([\d.]+) bits per byte, English ([\d.]+)", head)
        self.before, self.english_before = map(float, source.groups())  # type: ignore[union-attr]
        self.bits: dict[str, Bound] = {}
        self.more: dict[str, Bound] = {}
        self.english: dict[str, Bound] = {}
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if name := RECIPES.get((cells[0], cells[1] if len(cells) > 1 else "")):
                self.bits[name] = bound(cells[2])
                self.more[name] = bound(cells[3] or "0")
                value, half = bound(cells[4])
                self.english[name] = value - self.english_before, half


def read_comparisons(paths: Sequence[Path]) -> list[Comparison]:
    """Read what `recipes_compare.py` printed, one comparison for each language."""
    compared = []
    for path in paths:
        parts = re.split(
            r"^(?=\S+, .* seeds; before: )", path.read_text("utf-8"), flags=re.MULTILINE
        )
        compared += [Comparison(part) for part in parts[1:]]
    return compared


def bound(text: str) -> Bound:
    """Return the numbers of `1.187 ± 0.025`."""
    value, _, half = text.partition(" ± ")
    return float(value), float(half or 0)


def recipes_table(compared: Sequence[Comparison]) -> str:
    """Return a table of the languages and one of English, a line for each recipe."""
    languages = " | ".join(each.language for each in compared)
    rule = f"|---|{'---|' * len(compared)}"
    before = " | ".join(f"{each.before:.3f}" for each in compared)
    lines = [f"| bits per byte | {languages} |", rule, f"| before | {before} |"]
    for name in RECIPES.values():
        cells = []
        for each in compared:
            value, half = each.bits[name] if name == default() else each.more[name]
            low, high = value - half, value + half
            cells.append(
                f"{value:.3f} ({low:.3f} to {high:.3f})"
                if name == default()
                else with_signs(value, low, high)
            )
        lines.append(
            f"| {name}{'' if name == default() else ', difference'} | {' | '.join(cells)} |"
        )
    lines += ["", f"| English, change | {languages} |", rule]
    for name in RECIPES.values():
        changes = [each.english[name] for each in compared]
        cells = [with_signs(value, value - half, value + half) for value, half in changes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{counted(compared[0].seeds, 'seed')} of each."])


def default() -> str:
    """Return the name of the recipe that the others are compared with."""
    return next(iter(RECIPES.values()))


def recipe_charts(compared: Sequence[Comparison]) -> list[Chart]:
    """Return the chart of the languages and that of English."""
    target, english = [], []
    for each in compared:
        for name in RECIPES.values():
            label = wrapped(f"{each.language}, {name}")
            # Each recipe is tested in all languages together, as in the table.
            tested = each.seeds, len(compared)
            if name != default():
                target.append(point(label, each.more[name], *tested))
            english.append(point(label, each.english[name], *tested))
    titles = {
        "target": f"bits per byte more than {default()}",
        "english": "English: bits per byte more than before",
    }
    drawn = []
    for (name, title), points in zip(titles.items(), (target, english), strict=True):
        labels = [str(each["label"]) for each in points]
        values = "; ".join(f"{each['label']} {each['shown']}".replace("¶", " ") for each in points)
        declared = difference_dots(points, title, labels, kinds=(UNDECIDED, DECIDED))
        drawn.append(Chart(name, title, "", f"{title}: {values}.", declared))
    return drawn


def point(label: str, found: Bound, seeds: int, tests: int) -> dict[str, float | str]:
    """Return a point of a chart: decided or not, if so many are tested together."""
    value, half = found
    low, high = value - half, value + half
    kind = decided((low, high), seeds=seeds, tests=tests)
    shown = signed_fixed(value)
    return {"label": label, "kind": kind, "value": value, "low": low, "high": high, "shown": shown}


if __name__ == "__main__":
    main()
