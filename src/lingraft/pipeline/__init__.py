"""From a recipe to a finished run: `plan` says what would be done, `run` does it, `before_after` shows the outcome."""

from lingraft.pipeline.comparing import comparison_table
from lingraft.pipeline.evaluating import Asked, evaluate_models
from lingraft.pipeline.extending import extend
from lingraft.pipeline.graph import Graph, graph_of
from lingraft.pipeline.outcome import before_after, claims_table, pretokenizer_line, summary, warning_lines
from lingraft.pipeline.planning import PlanRow, plan, plan_table, planned_pretokenizer
from lingraft.pipeline.run_folder import Run
from lingraft.pipeline.running import run, take_part

__all__ = ["Asked", "Graph", "PlanRow", "Run", "before_after", "claims_table", "comparison_table",
           "evaluate_models", "extend", "graph_of", "plan", "plan_table", "planned_pretokenizer",
           "pretokenizer_line", "run", "summary", "take_part",
           "warning_lines"]
