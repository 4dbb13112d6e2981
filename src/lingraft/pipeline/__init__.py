"""From a recipe to a finished run: `plan` says what would be done, `run` does it, `before_after` shows the outcome."""

from lingraft.pipeline.comparison_table import comparison_table
from lingraft.pipeline.extension import extend
from lingraft.pipeline.model_evaluation import EvaluationRequest, evaluate_models
from lingraft.pipeline.planner import PlanRow, describe_pretokenizer_plan, plan, plan_table
from lingraft.pipeline.run_folder import Run
from lingraft.pipeline.runner import run, run_as_worker
from lingraft.pipeline.stages import Graph, build_graph
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
    "build_graph",
    "claims_table",
    "comparison_table",
    "describe_pretokenizer_plan",
    "evaluate_models",
    "extend",
    "plan",
    "plan_table",
    "pretokenizer_line",
    "run",
    "run_as_worker",
    "summary",
    "warning_lines",
]
