"""Studies: a recipe is run for each combination of axis values and seeds, and runs are compared.

`read_study` reads a study, `cells_of` returns its cells, `study_plan` predicts what would be done,
`run_study` runs it. A probe (`run_probe`) is a small study of initialisations. Nothing here imports
torch.
"""

from lingraft.studies.axis_ranking import ranking
from lingraft.studies.cells import Cell, cells_of
from lingraft.studies.config import Study
from lingraft.studies.measured_fields import differences
from lingraft.studies.probe import Probe, Trial, inits_of, run_probe, trials_of
from lingraft.studies.probe_outcome import ProbeOutcome
from lingraft.studies.statistics import Difference, better_value
from lingraft.studies.study_file import read_study
from lingraft.studies.study_folder import StudyFolder, read_study_folder
from lingraft.studies.study_planner import study_plan, study_plan_tables
from lingraft.studies.study_runner import StudyRuntime, run_study

__all__ = [
    "Cell",
    "Difference",
    "Probe",
    "ProbeOutcome",
    "Study",
    "StudyFolder",
    "StudyRuntime",
    "Trial",
    "better_value",
    "cells_of",
    "differences",
    "inits_of",
    "ranking",
    "read_study",
    "read_study_folder",
    "run_probe",
    "run_study",
    "study_plan",
    "study_plan_tables",
    "trials_of",
]
