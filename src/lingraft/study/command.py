"""`lingraft study`: from the words of a command line to how a study is carried out, and its outcome for people."""

from __future__ import annotations

from rich.table import Table

from lingraft.errors import LingraftError, RecipeError, did_you_mean
from lingraft.formatting import duration, number
from lingraft.recipe import Runtime
from lingraft.study.cluster import Ray
from lingraft.study.folder import StudyFolder
from lingraft.study.running import StudyRuntime
from lingraft.workers import EXECUTORS


class StudyError(LingraftError):
    """A study of which some cells failed; the others are whole."""

    exit_code = 3


def how_to_run(runtime: Runtime, workers: int, executor: str, address: str,
               resources: tuple[float, float]) -> StudyRuntime:
    """Return how to carry a study out; raises `RecipeError` for an option that would not act."""
    if executor not in EXECUTORS:
        msg = f"--executor {executor!r} is not known; {did_you_mean(executor, EXECUTORS)}"
        raise RecipeError(msg)
    if executor == "ray":
        return StudyRuntime(runtime, workers, Ray(address, workers, *resources))
    if address or resources != (1.0, 0.0):
        msg = "--ray-address, --cpus and --gpus are of --executor ray; local workers share this machine out (--workers)"
        raise RecipeError(msg)
    return StudyRuntime(runtime, workers)


def outcome_tables(study: StudyFolder) -> list[Table]:
    """Return what came out: the differences averaged over the other axes, and what may be said of each axis."""
    record = study.record
    table = Table(pad_edge=False, box=None, title=record["question"] or record["name"], title_justify="left")
    for heading in ("axis", "metric", "language", "mean of each value, best first"):
        table.add_column(heading)
    for one in record["rankings"]:
        means = "  ".join(f"{label} {number(mean)}" for label, mean in zip(one["order"], one["means"], strict=True))
        table.add_row(one["axis"], f"{one['metric']} ({one['subject']})", one["language"], means)
    said = Table(pad_edge=False, box=None, show_header=False)
    said.add_column()
    for one in record["rankings"]:
        said.add_row(one["sentence"])
    stages = record["stages"]
    said.add_row(f"{len(record['cells'])} cells, {len(record['failures'])} failed; {stages['asked']} stages asked for, "
                 f"{stages['different']} different ones, {stages['built']} made in {duration(record['seconds'])}")
    return [table, said]


def refuse_failures(study: StudyFolder) -> None:
    """Raise `StudyError`, with the first cell that failed and why, where any did."""
    failures = study.record["failures"]
    if failures:
        cells = ", ".join(failure["cell"] for failure in failures[:5]) + (", ..." if len(failures) > 5 else "")
        msg = (f"{len(failures)} of {len(study.record['cells'])} cells failed ({cells}): {failures[0]['error']}; "
               "the same command tries them again")
        raise StudyError(msg)
