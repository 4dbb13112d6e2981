"""Predict how bases end from what is known before training, and check it on bases left out.

lingraft study benchmarks/recipes/study-bases.yaml -o scale=cpu
python benchmarks/base_predictor.py runs/study-bases              # print the tables
python benchmarks/base_predictor.py runs/study-bases --write      # and what `lingraft advise` reads
lingraft study benchmarks/recipes/study-bases.yaml -o scale=smollm2 --precision bfloat16
python benchmarks/base_predictor.py runs/study-bases --add --write    # with the runs of before

Without a study, the tables are those of the runs that come with lingraft.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from lingraft.forecast import base_comparison
from lingraft.forecast.base_comparison import (
    FACTS,
    USED,
    BaseRun,
    error_of_equal,
    measured_runs,
    validate,
)
from lingraft.formatting import number
from lingraft.studies.study_folder import CURVES, TABLE
from lingraft.studies.study_table import Row, read_table

TOKENS_READ = {"english-8m": 10.3e6, "SmolLM2-135M": 2e12}
"""Tokens read by the bases that the study did not train, where they are published."""

MIN_BASES = 4
"""A fact is checked if it is known of so many bases (`validate`)."""

TRAINED_HERE = re.compile(r"([\d.]+)M-(\d+)")
"""Names of bases that the study trained: size and tokens per parameter, both rounded: 0.2M-20.

Their product is the number of tokens that the base read.
"""

SHIPPED = Path(base_comparison.__file__).with_name(base_comparison.RUNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, nargs="?", help="folder of the finished study")
    parser.add_argument(
        "--add", action="store_true", help="keep the runs of other bases that come with lingraft"
    )
    parser.add_argument("--write", action="store_true", help=f"write {SHIPPED.name} of the package")
    arguments = parser.parse_args()
    if arguments.study is None:
        if arguments.write or arguments.add:
            parser.error("--add and --write need the folder of a study")
        print("\n".join(checks(measured_runs())))
        return
    rows = read_table(arguments.study / TABLE)
    runs = list(runs_of(arguments.study))
    print("\n".join(outcomes(rows, runs)))
    if arguments.add:
        bases = {run.base for run in runs}
        runs = [*(run for run in measured_runs() if run.base not in bases), *runs]
    print("\n".join(checks(runs)))
    if arguments.write:
        about = {"study": "benchmarks/recipes/study-bases.yaml", "seeds": len(seeds_of(rows))}
        SHIPPED.write_text(base_comparison.runs_as_json(runs, about), encoding="utf-8")


def runs_of(folder: Path) -> Iterator[BaseRun]:
    """Yield each base on each text, averaged over seeds."""
    rows, points = read_table(folder / TABLE), read_table(folder / CURVES)
    for base in dict.fromkeys(row["axis.base"] for row in rows):
        for text in dict.fromkeys(row["axis.language"] for row in rows):
            here = {"axis.base": base, "axis.language": text}
            if not of(rows, **here):
                continue
            before = {**here, "split": "heldout", "subject": "source"}
            target, replay = {**before, "role": "target"}, {**before, "role": "replay"}
            tokens = mean(rows, metric="tokens per byte", **target)
            parameters = mean(rows, metric="parameters", subject="source", **here)
            curve = of(points, role="target", **here)
            facts = {
                "target_bits": mean(rows, metric="bits per byte", **target),
                "base_bits": mean(rows, metric="bits per byte", **replay),
                "parameters": parameters,
                "premium": tokens / mean(rows, metric="tokens per byte", **replay),
                "words_split": 1 - mean(rows, metric="words kept whole", **target),
                **tokens_per_parameter(base, parameters),
                "spliced_bits": bits_after(curve, 0),
                **probe_fall(curve),
                "quarter_bits": bits_after(curve, 0.25),
            }
            facts = {name: round(value, 6) for name, value in facts.items()}
            end = mean(rows, metric="bits per byte", **{**target, "subject": "adapted"})
            yield BaseRun(base, text, facts, round(end, 6))


def tokens_per_parameter(base: str, parameters: float) -> dict[str, float]:
    """Return the tokens that a base read for each parameter, if they are known."""
    if base in TOKENS_READ:
        return {"tokens_per_parameter": TOKENS_READ[base] / parameters}
    trained_here = TRAINED_HERE.fullmatch(base)
    if not trained_here:
        return {}
    millions, ratio = map(float, trained_here.groups())
    return {"tokens_per_parameter": millions * 1e6 * ratio / parameters}


def probe_fall(points: Sequence[Row]) -> dict[str, float]:
    """Return the fall of bits per byte in 1% of the steps, if the curve has a point near it."""
    first = min(row["step"] for row in points if row["step"] > 0)
    if first > 0.02 * max(row["step"] for row in points):
        return {}
    return {"probe_fall": bits_after(points, 0) / bits_after(points, 0.01)}


def bits_after(points: Sequence[Row], share: float) -> float:
    """Return the bits per byte after a share of the steps, averaged over seeds."""
    wanted = max(row["step"] for row in points) * share
    values = []
    for seed in seeds_of(points):
        of_seed = of(points, seed=seed)
        nearest = min(of_seed, key=lambda row: abs(row["step"] - wanted))
        values.append(nearest["bits_per_byte"])
    return fmean(values)


def outcomes(rows: Sequence[Row], runs: Sequence[BaseRun]) -> Iterator[str]:
    """Yield a table of what was measured: before, after, and English before and after."""
    texts = list(dict.fromkeys(run.text for run in runs))
    yield f"\n| base | parameters | en before | {' | '.join(texts)} | en after |"
    yield f"|---|--:|--:|{'--:|' * len(texts)}--:|"
    for base in dict.fromkeys(run.base for run in runs):
        of_base = {run.text: run for run in runs if run.base == base}
        facts = next(iter(of_base.values())).facts
        cells = [before_and_after(of_base.get(text)) for text in texts]
        english = mean(
            rows, **{"axis.base": base}, metric="bits per byte", subject="adapted", role="replay"
        )
        yield (
            f"| {base} | {facts['parameters']:,.0f} | {number(facts['base_bits'])} | "
            f"{' | '.join(cells)} | {number(english)} |"
        )


def before_and_after(run: BaseRun | None) -> str:
    """Return the bits per byte of a run before and after training; "–" if there is no such run."""
    return f"{number(run.facts['target_bits'])} to {number(run.end)}" if run else "–"


def checks(runs: Sequence[BaseRun]) -> Iterator[str]:
    """Yield how well each fact compares a base with the others, if it is left out."""
    found = {}
    for fact in FACTS:
        known = [run for run in runs if fact in run.facts]
        if len({run.base for run in known}) >= MIN_BASES:
            found[fact] = validate(known, fact)
    every = found[USED]
    yield (
        f"\n{every.bases} bases, {every.texts} texts, each base predicted from the others. "
        f"If all were predicted to end equal, the mean error would be {error_of_equal(runs):.1%}.\n"
    )
    heads = ("bases", "Kendall's tau", "mean error", "in the 95% interval", "lost by the choice")
    yield f"| predicted from | {' | '.join(heads)} |"
    yield "|---|--:|--:|--:|--:|--:|"
    for one in sorted(found.values(), key=lambda one: -one.tau):
        yield (
            f"| {FACTS[one.fact]} | {one.bases} | {one.tau:.2f} | {one.error:.1%} | "
            f"{one.coverage:.0%} | {one.regret:.3f} |"
        )
    trained_here = [run for run in runs if TRAINED_HERE.fullmatch(run.base)]
    yield (
        f"\nThe base with fewer bits per byte now ends lower in {pairs_in_order(runs)} pairs of "
        f"runs on one text, and in {pairs_in_order(trained_here)} of the bases that were trained "
        "here."
    )


def pairs_in_order(runs: Sequence[BaseRun]) -> str:
    """Return how many pairs of bases on one text end in the order of their bits per byte now."""
    pairs = [pair for pair in combinations(runs, 2) if pair[0].text == pair[1].text]
    right = [
        (one.facts["target_bits"] < other.facts["target_bits"]) == (one.end < other.end)
        for one, other in pairs
    ]
    return f"{sum(right)} of {len(pairs)}"


def seeds_of(rows: Sequence[Row]) -> set[Any]:
    return {row["seed"] for row in rows}


def of(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def mean(rows: Sequence[Row], **wanted: Any) -> float:
    """Return the mean over seeds (and, without a text, over texts) of a measurement."""
    return fmean(row["value"] for row in of(rows, **wanted))


if __name__ == "__main__":
    main()
