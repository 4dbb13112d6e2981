"""Compare distilled rows with mean and learned ones, run by run.

    python benchmarks/distilled_rows.py benchmarks/measured/*distilled-*

Each folder is a finished study of one run with distilled rows. The other runs are those of
benchmarks/measured/study-rows-* with the same language, tokens, text and seed. Prints bits per byte
of the language before and after training, and of English after it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.findings import SPLICED, TIME, joined
from benchmarks.paired import ENGLISH, values_of
from lingraft.display_text import language_name
from lingraft.formatting import duration
from lingraft.report.study_files import read_study_files
from lingraft.report.study_numbers import BITS

MEASURED = Path(__file__).parent / "measured"
ROWS = ("mean", "learned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="+", help="folders of finished studies")
    heads = [
        f"{what}: {rows}"
        for what in ("before", "after", "English")
        for rows in ("mean", "learned", "distilled")
    ]
    print(f"| language | seed | rows | {' | '.join(heads)} | rows made in |")
    print(f"|{'---|' * (len(heads) + 4)}")
    for folder in parser.parse_args().studies:
        print(line(folder))


def line(folder: Path) -> str:
    """Return the run of a study next to those with other rows."""
    study = read_study_files(folder)
    (language,) = {row["language"] for row in study.rows if row["role"] == "target"}
    others = [read_study_files(path) for path in sorted(MEASURED.glob(f"study-rows-{language}*"))]
    every = joined([*others, study])
    (label,) = values_of(study, "embeddings", BITS)
    (pair,) = values_of(study, "embeddings", BITS)[label]
    cells = [language_name(language), str(pair[-1]), label]
    for key in (SPLICED, BITS, ENGLISH):
        values = values_of(every, "embeddings", key)
        cells += [f"{values[rows][pair]:.3f}" for rows in (*ROWS, label)]
    seconds = values_of(every, "embeddings", TIME)[label][pair]
    return f"| {' | '.join(cells)} | {duration(seconds)} |"


if __name__ == "__main__":
    main()
