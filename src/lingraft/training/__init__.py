"""Continued pretraining. The plan is plain settings, without torch; `lingraft.training.loop.train` carries it out."""

from lingraft.training.budget import Budget
from lingraft.training.execution import Execution
from lingraft.training.plan import Phase, TrainingPlan
from lingraft.training.schedules import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Budget", "Execution", "Phase", "Schedule", "TrainingPlan"]
