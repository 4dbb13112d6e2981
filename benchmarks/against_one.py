"""Compare the runs of a study with those of one of them, by language and seed.

    python benchmarks/against_one.py benchmarks/measured/study-little-text "mean, 0.8 MB"

A line for each combination of values of the axes other than `language`; the second argument is the
one that the others are compared with. Intervals are Student's t over seeds, after averaging over
languages. Prints bits per byte of the language and of English after training, and the time of
making the rows and of training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.findings import TIME
from benchmarks.paired import ENGLISH, Pair, difference, shown
from lingraft.display_text import language_name
from lingraft.formatting import counted, duration
from lingraft.report.study_files import StudyFiles, read_study_files
from lingraft.report.study_numbers import BITS, ValueKey

TRAINING_TIME = ("training time", "adapted", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="the folder of the finished study")
    parser.add_argument("reference", help="its values of the axes, such as 'mean, 0.8 MB'")
    arguments = parser.parse_args()
    study, reference = read_study_files(arguments.study), arguments.reference
    bits, english, making, training = (
        numbers(study, key) for key in (BITS, ENGLISH, TIME, TRAINING_TIME)
    )
    if reference not in bits:
        parser.error(f"{reference!r} is none of {', '.join(map(repr, bits))}")
    places = list(dict.fromkeys(place for place, _ in bits[reference]))
    heads = [language_name(*place) for place in places]
    print(f"| run | {' | '.join(heads)} | all | English | time |")
    print(f"|---|{'---|' * (len(heads) + 3)}")
    for run, values in bits.items():
        groups = [{pair: v for pair, v in values.items() if pair[0] == place} for place in places]
        pairs = [(bits[reference], group) for group in (*groups, values)]
        cells = []
        for first, second in (*pairs, (english[reference], english[run])):
            own = f"{fmean(second.values()):.3f}"
            cells.append(own if run == reference else shown(difference(first, second)))
        cells.append(duration(fmean(making[run].values()) + fmean(training[run].values())))
        print(f"| {run} | {' | '.join(cells)} |")
    print(f"\n{counted(len({seed for _, seed in bits[reference]}), 'seed')}.")


def numbers(study: StudyFiles, key: ValueKey) -> dict[str, dict[Pair, float]]:
    """Return a number by the values of the axes but the language, and by language and seed."""
    labels = {cell["name"]: cell["labels"] for cell in study.record["cells"]}
    found: dict[str, dict[Pair, float]] = {}
    for row in study.rows:
        if (row["metric"], row["subject"], row["role"] or "") == key:
            others = dict(labels[row["cell"]])
            place = (str(others.pop("language")),)
            run = ", ".join(map(str, others.values()))
            found.setdefault(run, {})[place, row["seed"]] = row["value"]
    return found


if __name__ == "__main__":
    main()
