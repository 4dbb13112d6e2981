"""The plan of continued pretraining: phases, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lingraft.packing import PackingSettings
from lingraft.registry import Settings
from lingraft.strategies import STRATEGIES, Strategy
from lingraft.strategies.base import Rates, between
from lingraft.training.budget import Budget
from lingraft.training.named import PAPER_RATES, named_plan, paper_rate
from lingraft.training.schedules import SCHEDULES, Schedule

BATCH = (2048, 131072)
"""Tokens of a step at 8M and at 7B parameters, where a recipe does not say."""

OptimiserName = Literal["adamw", "adamw8bit"]


class LearningRates(Settings):
    """Peak learning rates; what is left out follows the model's size."""

    table: Literal["size", "paper"] = Field(
        default="size", description="where rates come from that are left out: the model's size, or the paper's table "
                                    "of seven bases (a base that is not in it: its size)")
    body: float | None = Field(default=None, ge=0, description="of everything but the embeddings and the head")
    embeddings: float | None = Field(default=None, ge=0, description="of the embeddings and the head")

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"table": data}
        return {"body": data, "embeddings": data} if isinstance(data, int | float) else data

    def resolved(self, strategy: Strategy, kind: str, parameters: int) -> Rates:
        """Return the rates for a model of this type (`config.model_type`) and so many parameters."""
        default = strategy.rates(parameters)
        if self.table == "paper":
            rate = paper_rate(kind, parameters)
            default = Rates(rate, rate, "the paper's table (arXiv 2406.14670)") if rate else Rates(
                default.body, default.embeddings, f"{default.why}; the paper's table has no {kind} of this size")
        if self.body is None and self.embeddings is None:
            return default
        body = default.body if self.body is None else self.body
        embeddings = default.embeddings if self.embeddings is None else self.embeddings
        partly = self.body is None or self.embeddings is None
        return Rates(body, embeddings, f"as the recipe says; the other one {default.why}" if partly else Rates.why)


class Phase(Settings):
    """One leg of training."""

    strategy: STRATEGIES.annotation(Strategy) = Field(  # type: ignore[valid-type]
        default_factory=lambda: STRATEGIES.parse("differential"), validate_default=True, description="what trains")
    budget: Budget = Field(default_factory=Budget, description="how long: '20M tokens', '1 MB', '500 steps', '1 epoch'")
    rates: LearningRates = Field(default_factory=LearningRates,
                                 description="peak learning rates: one number, {body, embeddings}, or `paper`; left "
                                             "out: they follow the model's size")
    schedule: SCHEDULES.annotation(Schedule) = Field(  # type: ignore[valid-type]
        default_factory=lambda: SCHEDULES.parse("cosine"), validate_default=True,
        description="how the learning rate moves")
    batch_tokens: int | None = Field(default=None, gt=0, description="tokens of a step, rounded to whole rows; left "
                                                                     "out: 2,048 at 8M parameters, 131,072 at 7B")
    optimiser: OptimiserName = Field(default="adamw", description="adamw, or adamw8bit (extra `bits`): a quarter of "
                                                                  "its memory, in one process")
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    clip: float = Field(default=1.0, gt=0, description="largest norm of a step's gradient")
    average: float = Field(default=0.0, ge=0, le=1, description="end with the average of the weights over about this "
                                                                "share of the steps; 0: with the last ones")
    replay: float | None = Field(default=None, ge=0, lt=1, description="share of replayed bytes in this phase; left "
                                                                       "out: the recipe's replay.share")

    def tables(self) -> dict[str, Any]:
        """Return the tables that what is left out is looked up in: with others, the same settings mean another run."""
        batch = {} if self.batch_tokens else {"batch_tokens": BATCH}
        if None not in (self.rates.body, self.rates.embeddings):
            return batch
        paper = {"paper": PAPER_RATES} if self.rates.table == "paper" else {}
        return {**batch, **paper, "rates": [self.strategy.small_rates, self.strategy.large_rates]}

    def rows_of_a_step(self, block: int, parameters: int) -> int:
        """Return how many rows a step takes."""
        return max(1, round((self.batch_tokens or between(*BATCH, parameters)) / block))


class TrainingPlan(Settings):
    """How the model is trained: phases one after another, the settings of a single phase, or a plan's name.

    A named plan (paper, learned_then_full, rows_then_differential) may be given a budget: {plan: paper, budget: 1 MB}.
    """

    phases: tuple[Phase, ...] = Field(default=(Phase(),), description="legs of training, one after another; none: "
                                                                      "nothing is trained")
    packing: PackingSettings = Field(default_factory=PackingSettings, description="how documents become rows of tokens")
    apart: bool = Field(default=False, description="attention stays inside of a document, whose positions begin at 0")
    merge_back: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(), description="at the end, mix this share of the weights from before training into the base's part; "
                                "of several, the one with the lowest mean bits per byte on held-out text is taken")
    heldout_points: int = Field(default=8, ge=0, description="points of the held-out curve, the end included")

    @model_validator(mode="before")
    @classmethod
    def _one_phase(cls, data: Any) -> Any:
        """Read a plan's name, or the settings of a phase that stand in the plan itself as its only phase."""
        if isinstance(data, str):
            return named_plan(data)
        if not isinstance(data, Mapping):
            return data
        if "plan" in data:
            more = {key: value for key, value in data.items() if key not in {"plan", "budget"}}
            return {**named_plan(data["plan"], data.get("budget")), **more}
        own = {key: value for key, value in data.items() if key in Phase.model_fields}
        if not own:
            return data
        if "phases" in data:
            msg = f"{', '.join(sorted(own))} beside phases: settings of a phase belong into its entry of phases"
            raise ValueError(msg)
        return {"phases": (own,), **{key: value for key, value in data.items() if key not in own}}

    @classmethod
    def more_names(cls) -> list[str]:
        """Return what else may stand in this mapping: the settings of a single phase."""
        return sorted([*Phase.model_fields, "plan"])

    def beginning(self) -> tuple[Any, float] | None:
        """Return what plans share of which the longer goes on from the shorter, and this one's length; or None.

        >>> plans = [TrainingPlan.model_validate({"schedule": "wsd", "budget": b}) for b in ("1 MB", "2 MB")]
        >>> (one, first), (other, second) = (plan.beginning() for plan in plans)
        >>> one == other, second / first, TrainingPlan().beginning()
        (True, 2.0, None)
        """
        last = self.phases[-1] if self.phases else Phase()
        warmup, (unit, amount) = last.schedule.warmup, last.budget.amount
        trunk = last.schedule.trunk(1000)
        if not self.phases or not trunk or last.average or 0 < warmup < 1:
            return None
        shared = self.model_dump(mode="json", exclude={"merge_back"})
        shared["phases"][-1].update(budget=unit, schedule=[last.schedule.name, warmup])
        return shared, amount * trunk
