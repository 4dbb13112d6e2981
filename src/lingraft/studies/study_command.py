"""`lingraft study`: its options as a `StudyRuntime`, and the results of a study as tables."""

from __future__ import annotations

from rich.table import Table

from lingraft.errors import LingraftError, RecipeError, did_you_mean
from lingraft.formatting import duration, number
from lingraft.recipe import Runtime
from lingraft.studies.executors import Ray
from lingraft.studies.study_folder import StudyFolder
from lingraft.studies.study_runner import StudyRuntime
from lingraft.workers import EXECUTORS


class StudyError(LingraftError):
    """Some cells of a study failed; the others are finished."""

    exit_code = 3


def study_runtime(
    runtime: Runtime, workers: int, executor: str, address: str, resources: tuple[float, float]
) -> StudyRuntime:
    """Return how to run a study; raises `RecipeError` for an option that would have no effect."""
    if executor not in EXECUTORS:
        msg = f"--executor {executor!r} is not known; {did_you_mean(executor, EXECUTORS)}"
        raise RecipeError(msg)
    if executor == "ray":
        return StudyRuntime(runtime, workers, Ray(address, workers, *resources))
    if address or resources != (1.0, 0.0):
        msg = (
            "--ray-address, --cpus and --gpus have an effect with --executor ray only; leave them "
            "out: local workers share this machine (--workers)"
        )
        raise RecipeError(msg)
    return StudyRuntime(runtime, workers)


def result_tables(study: StudyFolder) -> list[Table]:
    """Return the means of each axis, averaged over the other axes, and what follows from them."""
    record = study.record
    title = record["question"] or record["name"]
    means = Table(pad_edge=False, box=None, title=title, title_justify="left")
    for heading in ("axis", "metric", "language", "mean of each value, best first"):
        means.add_column(heading)
    sentences = Table(pad_edge=False, box=None, show_header=False)
    sentences.add_column()
    for ranked in record["rankings"]:
        pairs = zip(ranked["order"], ranked["means"], strict=True)
        values = "  ".join(f"{label} {number(mean)}" for label, mean in pairs)
        metric = f"{ranked['metric']} ({ranked['subject']})"
        means.add_row(ranked["axis"], metric, ranked["language"], values)
        sentences.add_row(ranked["sentence"])
    stages = record["stages"]
    sentences.add_row(
        f"{len(record['cells'])} cells, {len(record['failures'])} failed; {stages['asked']} stages "
        f"needed, {stages['different']} different ones, {stages['built']} built in "
        f"{duration(record['seconds'])}"
    )
    return [means, sentences]


def raise_for_failures(study: StudyFolder) -> None:
    """Raise `StudyError` with the error of the first cell that failed, if any did."""
    record = study.record
    failures = record["failures"]
    if failures:
        names = ", ".join(failure["cell"] for failure in failures[:5])
        more = ", ..." if len(failures) > 5 else ""
        msg = (
            f"{len(failures)} of {len(record['cells'])} cells failed ({names}{more}): "
            f"{failures[0]['error']}; run the same command to try them again"
        )
        raise StudyError(msg)
