"""From a recipe to a finished run: `plan` predicts it, `run` runs it, `before_after` shows results.

`stages` lists the stages of a run and their inputs. `stage_node` collects what the key of a stage
depends on: its settings, the keys of its inputs, and its version in `versions`. `lingraft.store`
hashes this and keeps the output. `stage_builders`, `training_builders`, `evaluation_builders` and
`check_stages` build the outputs.
"""

from lingraft.pipeline.extension import extend
from lingraft.pipeline.finished_run import Run, load_run
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.model_evaluation import EvaluationRequest, evaluate_models
from lingraft.pipeline.opening import describe_run
from lingraft.pipeline.plan_notes import (
    describe_balance_plan,
    describe_limits,
    describe_pretokenizer_plan,
    unused_settings,
)
from lingraft.pipeline.plan_table import PlanRow, plan_table
from lingraft.pipeline.planner import plan
from lingraft.pipeline.runner import run, run_as_worker
from lingraft.pipeline.stages import build_graph
from lingraft.pipeline.tables import (
    before_after,
    claims_table,
    measured_on,
    premiums_line,
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
    "describe_balance_plan",
    "describe_limits",
    "describe_pretokenizer_plan",
    "describe_run",
    "evaluate_models",
    "extend",
    "load_run",
    "measured_on",
    "plan",
    "plan_table",
    "premiums_line",
    "pretokenizer_line",
    "run",
    "run_as_worker",
    "summary",
    "unused_settings",
    "warning_lines",
]
