"""Continued pretraining: the settings of a training plan, and the code that trains by it.

This package exports the settings only, so importing it does not import torch. To train, call
`lingraft.training.train.train`.
"""

from lingraft.training.budget import Budget
from lingraft.training.config import Phase
from lingraft.training.execution import Execution
from lingraft.training.plan import TrainingPlan
from lingraft.training.schedules import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Budget", "Execution", "Phase", "Schedule", "TrainingPlan"]
