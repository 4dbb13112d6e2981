"""From a recipe to a finished run: `plan` says what would be done, `run` does it, `before_after` shows the outcome."""

from lingraft.pipeline.comparison_table import comparison_table
from lingraft.pipeline.extension import extend
from lingraft.pipeline.model_evaluation import EvaluationRequest, evaluate_models
from lingraft.pipeline.planner import PlanRow, plan, plan_table, planned_pretokenizer
from lingraft.pipeline.run_folder import Run
from lingraft.pipeline.runner import run, take_part
from lingraft.pipeline.stages import Graph, graph_of
from lingraft.pipeline.tables import (
    before_after,
    claims_table,
    pretokenizer_line,
    summary,
    warning_lines,
)

__all__ = [
    "EvaluationRequest",
    "Graph",
    "PlanRow",
    "Run",
    "before_after",
    "claims_table",
    "comparison_table",
    "evaluate_models",
    "extend",
    "graph_of",
    "plan",
    "plan_table",
    "planned_pretokenizer",
    "pretokenizer_line",
    "run",
    "summary",
    "take_part",
    "warning_lines",
]
