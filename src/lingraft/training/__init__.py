"""Continued pretraining.

The plan is settings that need no torch; `lingraft.training.train.train` carries it out.
"""

from lingraft.training.budget import Budget
from lingraft.training.config import Phase, TrainingPlan
from lingraft.training.execution import Execution
from lingraft.training.schedules import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Budget", "Execution", "Phase", "Schedule", "TrainingPlan"]
