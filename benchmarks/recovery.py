r"""Compare what models read and write right after the splice, by initialisation.

    lingraft study benchmarks/recipes/study-rows.yaml -o scale=start \
        -o 'study.skip=[{embeddings: distilled}]'
    python benchmarks/recovery.py runs/study-rows

Nothing is trained. *Read* is the bits per byte of held-out text. *Written* is the bits per byte of
the model's own greedy continuations of held-out text, read by the source. The source itself is the
first line: rows that keep what the source can do would have its values in both. Repeated text is
likely, so the share of it is beside. Values are means over the languages of the study.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from lingraft.evaluation.added_token_choice import PREFERRED
from lingraft.evaluation.generated_text import GENERATED_BITS
from lingraft.formatting import number
from lingraft.report.study_files import StudyFiles, read_study_files

AXIS = "axis.embeddings"
METRICS = {
    "read": "bits per byte",
    "written": GENERATED_BITS,
    "repeated": "repetition",
    "added tokens preferred": PREFERRED,
}
LANGUAGES = {"target": "the language", "replay": "English"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="folder of the finished study")
    study = read_study_files(parser.parse_args().study)
    for role, name in LANGUAGES.items():
        print(f"\n{name[0].upper()}{name[1:]}:\n")
        print(table(study, role))


def table(study: StudyFiles, role: str) -> str:
    """Return the source and each initialisation, those that are read best first."""
    every = {head: means(study, "spliced", metric, role) for head, metric in METRICS.items()}
    found = {head: of_metric for head, of_metric in every.items() if of_metric}
    lines = [f"| rows | {' | '.join(found)} |", f"|---|{'--:|' * len(found)}"]
    source = [means(study, "source", METRICS[head], role) for head in found]
    lines.append(f"| none: the source | {' | '.join(map(shown, map(any_of, source)))} |")
    for label in sorted(found["read"], key=found["read"].__getitem__):
        cells = [shown(of_metric.get(label)) for of_metric in found.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def means(study: StudyFiles, subject: str, metric: str, role: str) -> dict[str, float]:
    """Return a number by initialisation, over the languages and seeds."""
    values: dict[str, list[float]] = {}
    for row in study.rows:
        if (row["metric"], row["subject"], row["role"]) == (metric, subject, role):
            values.setdefault(row[AXIS], []).append(row["value"])
    return {label: fmean(found) for label, found in values.items()}


def any_of(values: dict[str, float]) -> float | None:
    """Return the number of the source, which is that of every initialisation."""
    return next(iter(values.values()), None)


def shown(value: float | None) -> str:
    return "–" if value is None else number(value)


if __name__ == "__main__":
    main()
