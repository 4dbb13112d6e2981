"""Writing the pages of finished runs and studies again, from their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lingraft.card import write_card
from lingraft.errors import StoreError
from lingraft.pipeline.run_folder import read_record
from lingraft.report.comparison import compare_runs
from lingraft.report.page import write_report
from lingraft.report.study_page import write_study_report
from lingraft.study.folder import STUDY

COMPARISON = "comparison.html"


def write_again(folders: Sequence[Path], output: Path | None = None) -> list[dict[str, Path]]:
    """Write the page of each run and study, and of several runs one that shows them side by side.

    Returns, for each folder and lastly for the comparison, what was written. Raises `StoreError` for a folder that is
    neither a run nor a study, before anything is written.
    """
    studies = [folder for folder in folders if (folder / STUDY).is_file()]
    runs = [folder for folder in folders if folder not in studies]
    for folder in runs:
        read_record(folder)
    if output is not None and len(runs) < 2:
        msg = f"--output {output}: is for the page that compares runs, which takes two runs or more; got {len(runs)}"
        raise StoreError(msg)
    written = [{"report": write_study_report(folder)} if folder in studies
               else {"report": write_report(folder), "card": write_card(folder)} for folder in folders]
    if len(runs) > 1:
        written.append({"comparison": compare_runs(runs, output or runs[0].parent / COMPARISON)})
    return written
