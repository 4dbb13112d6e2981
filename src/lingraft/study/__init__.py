"""Studies: a recipe, axes of settings and seeds become runs, one tidy table, and differences with their intervals.

`read_study` reads a study, `cells_of` lays out its cells, `study_plan` says what would be done, `carry_out` does it.
Nothing here imports torch.
"""

from lingraft.study.cells import Cell, cells_of
from lingraft.study.differences import Difference, better, differences, ranking
from lingraft.study.folder import StudyFolder, read_study_folder
from lingraft.study.planning import study_plan, study_plan_tables
from lingraft.study.running import StudyRuntime, carry_out
from lingraft.study.settings import Study, read_study

__all__ = ["Cell", "Difference", "Study", "StudyFolder", "StudyRuntime", "better", "carry_out", "cells_of",
           "differences", "ranking", "read_study", "read_study_folder", "study_plan", "study_plan_tables"]
