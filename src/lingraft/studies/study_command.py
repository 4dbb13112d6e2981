"""`lingraft study`: its options as a `StudyRuntime`, and the error for cells that failed."""

from __future__ import annotations

from lingraft.errors import LingraftError, RecipeError, did_you_mean
from lingraft.recipe import Runtime
from lingraft.studies.executors import Ray
from lingraft.studies.study_folder import StudyFolder
from lingraft.studies.study_runner import StudyRuntime
from lingraft.workers import EXECUTORS


class StudyError(LingraftError):
    """Some cells of a study failed; `study` has the results of the others."""

    exit_code = 3

    def __init__(self, message: str, study: StudyFolder) -> None:
        super().__init__(message)
        self.study = study


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
        raise StudyError(msg, study)
