"""Compare what little text is spent on: rows that are learned first, or more epochs.

    python benchmarks/little_text.py benchmarks/measured/study-little-text

The table of a finished study-little-text: a line for each initialisation and number of epochs. Its
differences are from mean rows that train for as many epochs as the second argument says, with the
same language and seed. Intervals are Student's t over seeds, after averaging over languages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.findings import TIME
from benchmarks.paired import ENGLISH, Pair, difference, shown, values_of
from lingraft.display_text import language_name
from lingraft.formatting import counted, duration
from lingraft.report.study_files import StudyFiles, read_study_files
from lingraft.report.study_numbers import BITS, ValueKey

TRAINING_TIME = ("training time", "adapted", "")
EPOCHS = {"0.4 MB": 1, "0.8 MB": 2, "1.6 MB": 4}

Way = tuple[str, int]
"""An initialisation, and the number of epochs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="the folder of the finished study")
    parser.add_argument("epochs", type=int, nargs="?", default=2, help="of mean rows (default: 2)")
    arguments = parser.parse_args()
    study = read_study_files(arguments.study)
    bits, english = numbers(study, BITS), numbers(study, ENGLISH)
    making, training = numbers(study, TIME), numbers(study, TRAINING_TIME)
    reference = ("mean", arguments.epochs)
    places = list(dict.fromkeys(place for place, _ in bits[reference]))
    heads = [language_name(*place) for place in places]
    print(f"| rows | epochs | {' | '.join(heads)} | all | English | time |")
    print(f"|---|---|{'---|' * (len(heads) + 3)}")
    for way, values in bits.items():
        groups = [{pair: v for pair, v in values.items() if pair[0] == place} for place in places]
        cells = []
        for group in (*groups, values):
            if way == reference:
                cells.append(f"{fmean(group.values()):.3f} bits per byte")
            else:
                cells.append(shown(difference(bits[reference], group)))
        other = difference(english[reference], english[way])
        cells.append(f"{fmean(english[way].values()):.3f}" if way == reference else shown(other))
        cells.append(duration(fmean(making[way].values()) + fmean(training[way].values())))
        print(f"| {way[0]} | {way[1]} | {' | '.join(cells)} |")
    print(f"\n{counted(len({seed for _, seed in bits[reference]}), 'seed')}.")


def numbers(study: StudyFiles, key: ValueKey) -> dict[Way, dict[Pair, float]]:
    """Return a number by initialisation and epochs, and by language and seed."""
    found: dict[Way, dict[Pair, float]] = {}
    for rows, pairs in values_of(study, "embeddings", key).items():
        for ((language, budget), seed), value in pairs.items():
            found.setdefault((rows, EPOCHS[budget]), {})[(language,), seed] = value
    return found


if __name__ == "__main__":
    main()
