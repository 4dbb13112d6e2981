"""Compare the ends that `lingraft advise --probe` predicts with those of finished runs.

    python benchmarks/probe_coverage.py            # 32 predictions; about an hour of one core
    python benchmarks/probe_coverage.py --bases stories-0.26M --languages hi

Run from the root of the repository; ../shared/assets must exist. Each base learns each language
with the default settings of `lingraft adapt`, from 0.4 and from 1 MB of text. Both ends are
predicted from a probe on 0.05 MB and from one on 0.1 MB. All runs have the seed 0. Stages are kept
in the store, so that a process that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import lingraft
from lingraft.advice.choose import probe
from lingraft.measurement import select
from lingraft.recipe import Given, Runtime

TEXTS = Path("../shared/assets/text")
MODELS = Path("../shared/assets/models")
BASES = {"english-8m": MODELS / "english-8m", "stories-0.26M": MODELS / "stories260K-hf"}
LANGUAGES = ("hi", "tr", "ta", "ar")
ADDED = 3_000
PROBES = (50_000, 100_000)
ENDS = (400_000, 1_000_000)
"""Bytes of text in the language: of the probes, and of the runs that they predict."""


@dataclass(frozen=True)
class Compared:
    """A predicted end with its interval, and the measured one, in bits per byte."""

    base: str
    language: str
    probe: int
    end: int
    predicted: tuple[float, float, float]
    measured: float

    @property
    def error(self) -> float:
        """The predicted value compared with the measured one, as a share of it."""
        return self.predicted[0] / self.measured - 1

    @property
    def is_inside(self) -> bool:
        """Whether the measured value is in the interval."""
        _, low, high = self.predicted
        return low <= self.measured <= high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--languages", nargs="+", default=LANGUAGES, choices=LANGUAGES)
    parser.add_argument("--runs", type=Path, default=Path("runs/probe-coverage"))
    arguments = parser.parse_args()
    heads = ("base", "language", "probe", "run", "predicted (95% interval)", "measured", "error")
    print(f"| {' | '.join(heads)} | inside |")
    print(f"|{'---|' * 8}")
    found = []
    for base in arguments.bases:
        for language in arguments.languages:
            for one in compare(base, language, arguments.runs):
                print_one(one)
                found.append(one)
    print_summary(found)


def compare(base: str, language: str, runs: Path) -> Iterator[Compared]:
    """Predict the ends of a base in a language, run them, and yield the comparisons."""
    text, base_text = (str(TEXTS / f"{name}.train.jsonl.gz") for name in (language, "en"))
    given = Given(str(BASES[base]), language, (text,), "en", (base_text,))
    measured = {end: measured_end(given, end, f"{base}-{language}-{end}", runs) for end in ENDS}
    for part in PROBES:
        for end in ENDS:
            ended = probe(given, ADDED, part, end, Runtime(runs, runs / ".store"))
            value, low, high = ended.forecast
            yield Compared(base, language, part, end, (value, low, high), measured[end])


def measured_end(given: Given, end: int, name: str, runs: Path) -> float:
    """Return the bits per byte of the language after training on `end` bytes of text."""
    overrides: dict[str, Any] = {
        "name": name,
        "vocabulary.size": ADDED,
        "training.budget": {"bytes": end},
        "training.heldout_points": 0,  # nothing is predicted from this curve
        "evaluation.generation": None,
        "evaluation.in_context": None,
    }
    run = lingraft.adapt(
        model=given.model,
        language=given.language,
        text=given.text,
        base_language=given.base_language,
        base_text=given.base_text,
        overrides=overrides,
        runs=runs,
    )
    metric = {"metric": "bits per byte", "language": given.language, "subject": "adapted"}
    (row,) = select(run.measurements, **metric)
    return float(row.value)


def print_one(one: Compared) -> None:
    """Print a line of the table."""
    value, low, high = one.predicted
    print(
        f"| {one.base} | {one.language} | {one.probe / 1e6:g} MB | {one.end / 1e6:g} MB | "
        f"{value:.3f} ({low:.3f} to {high:.3f}) | {one.measured:.3f} | {one.error:+.1%} | "
        f"{'yes' if one.is_inside else 'no'} |",
        flush=True,
    )


def print_summary(found: list[Compared]) -> None:
    """Print how many intervals hold and the mean error, by base, probe, run and language."""
    groups: dict[str, list[Compared]] = defaultdict(list)
    for one in found:
        probed, ended = f"probe {one.probe / 1e6:g} MB", f"run {one.end / 1e6:g} MB"
        for name in (one.base, probed, ended, one.language, "all"):
            groups[name].append(one)
    print("\n| predictions | number | in the 95% interval | mean error, signed | mean error |")
    print(f"|{'---|' * 5}")
    for name, group in sorted(groups.items(), key=lambda item: item[0] == "all"):
        inside, errors = [one.is_inside for one in group], [one.error for one in group]
        print(
            f"| {name} | {len(group)} | {sum(inside)} ({fmean(inside):.0%}) | "
            f"{fmean(errors):+.1%} | {fmean(map(abs, errors)):.1%} |"
        )


if __name__ == "__main__":
    main()
