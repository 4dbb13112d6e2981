"""The settings of a phase of continued pretraining.

Learning rates that a recipe leaves out are set when training starts, because they depend on the
size of the model: `LearningRates.resolve`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.errors import RecipeError
from lingraft.registry import Settings
from lingraft.strategies import STRATEGIES, Strategy
from lingraft.strategies.base import Rates
from lingraft.training.batch_rule import (
    BATCH,
    DEFAULT_STEPS,
    RATES_BATCH,
    default_sequences,
    rate_factor,
)
from lingraft.training.branches import Branch, BranchAndMerge
from lingraft.training.budget import Budget
from lingraft.training.named_plans import PAPER_RATES, paper_rate
from lingraft.training.optimizer_memory import OptimizerName
from lingraft.training.schedules import SCHEDULES, Schedule


class LearningRates(Settings):
    """Peak learning rates of a phase.

    A rate that is not set gets the default of the phase's strategy: `small_rates` and `large_rates`
    of its class (`strategies.weight_strategies`, `strategies.lora`), interpolated by model size,
    and lower for a batch of fewer than 2,048 tokens (`training.batch_rule`). With `table: paper`
    the defaults are those of `PAPER_RATES`, for any batch.
    """

    table: Literal["size", "paper"] = Field(
        default="size",
        description="defaults of the rates that are not set: by model size, or from the paper's "
        "table of seven bases (by size for other bases)",
    )
    body: float | None = Field(
        default=None,
        ge=0,
        description="peak learning rate of all weights except embeddings and head",
    )
    added_rows: float | None = Field(
        default=None,
        ge=0,
        description="peak learning rate of the added rows of embeddings and head; strategies that "
        "train whole matrices use it for all rows",
    )

    written: ClassVar[str] = "a number, {body, added_rows}, or paper"

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read a rate for both roles, or the name of a table."""
        if isinstance(value, str):
            return {"table": value}
        is_rate = isinstance(value, int | float) and not isinstance(value, bool)
        return {"body": value, "added_rows": value} if is_rate else value

    def resolve(self, strategy: Strategy, kind: str, parameters: int, factor: float = 1.0) -> Rates:
        """Return the peak rates of a phase with this strategy, and why they apply.

        `kind` is the model type (`config.model_type`), `parameters` the size of the model, and
        `factor` that of `rate_factor` for the batch. `Phase.rates` calls this.
        """
        default = strategy.default_rates(parameters).scaled(factor)
        if self.table == "paper":
            rate = paper_rate(kind, parameters)
            if rate:
                default = Rates(rate, rate, "the paper's table (arXiv 2406.14670)")
            else:
                why = f"{default.why}; the paper's table has no {kind} of this size"
                default = Rates(default.body, default.added_rows, why)
        if self.body is None and self.added_rows is None:
            return default
        body = default.body if self.body is None else self.body
        added_rows = default.added_rows if self.added_rows is None else self.added_rows
        if self.body is None or self.added_rows is None:
            return Rates(body, added_rows, f"as the recipe says; the other one {default.why}")
        return Rates(body, added_rows, Rates.why)


class ReplayKl(Settings):
    """A second term of the loss on replay text: the divergence from the model before training."""

    weight: float = Field(
        default=1.0,
        gt=0,
        description="weight of the divergence of a token, compared with its cross entropy",
    )
    direction: Literal["forward", "reverse"] = Field(
        default="forward",
        description="forward: KL(before training || in training); reverse: the other way round",
    )

    written: ClassVar[str] = "a weight, or {weight, direction}"

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read a weight."""
        is_weight = isinstance(value, int | float) and not isinstance(value, bool)
        return {"weight": value} if is_weight else value


class Phase(Settings):
    """One phase of training: which weights train, how long, and at which learning rates."""

    later: ClassVar[tuple[str, ...]] = ("replay_kl", "branch_and_merge")

    strategy: STRATEGIES.annotation(Strategy) = Field(  # type: ignore[valid-type]
        default_factory=lambda: STRATEGIES.parse("differential"),
        validate_default=True,
        description="which weights train",
    )
    budget: Budget = Field(
        default_factory=Budget,
        description="length of the phase (default: 1 epoch): '20M tokens', '1 MB', '500 steps'",
    )
    learning_rates: LearningRates = Field(
        default_factory=LearningRates,
        description="peak learning rates: one number, {body, added_rows}, or `paper`; by default "
        "they depend on the model's size",
    )
    schedule: SCHEDULES.annotation(Schedule) = Field(  # type: ignore[valid-type]
        default_factory=lambda: SCHEDULES.parse("cosine"),
        validate_default=True,
        description="learning-rate schedule",
    )
    batch_tokens: int | None = Field(
        default=None,
        gt=0,
        description="tokens per step, rounded to whole sequences; default: 2,048 at 8M "
        "parameters to 131,072 at 7B, less where fewer than 200 steps would remain",
    )
    optimizer: OptimizerName = Field(
        default="adamw",
        description="adamw; adamw8bit (extra `bits`): a quarter of its memory; adamw8bit_bfloat16 "
        "(extra `torchao`): weights and gradients in bfloat16 too, with stochastic rounding, for a "
        "7B model on one GPU of 80 GB, and strategies that keep weights need a model in bfloat16; "
        "the last two in one process only",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="weight decay of AdamW")
    max_grad_norm: float | None = Field(
        default=1.0,
        gt=0,
        description="maximum norm of the gradient of a step (gradient clipping); null: no clipping",
    )
    average_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="the result is a moving average of the weights over about this share of the "
        "steps; 0: the last weights",
    )
    replay_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of replayed bytes in this phase; default: the recipe's replay.share",
    )
    replay_kl: ReplayKl | None = Field(
        default=None,
        description="weight of a second term of the loss on replay text, the KL divergence of the "
        "model from the one before training, over the tokens of the base; it keeps a second copy "
        "of the weights (one process only)",
    )
    branch_and_merge: BranchAndMerge | None = Field(
        default=None,
        description="train in iterations: branches start from the same model, each on a slice of "
        "the text with a schedule of its own, and are merged into the model of the next iteration",
    )

    @model_validator(mode="after")
    def _check_branches(self) -> Phase:
        if self.branch_and_merge and self.strategy.has_adapter:
            msg = (
                f"the strategy {self.strategy.name} also saves its low-rank matrices, and those of "
                f"several branches are no adapter; set strategy: differential, or remove "
                f"branch_and_merge"
            )
            raise ValueError(msg)
        if self.branch_and_merge and self.budget.steps is not None:
            refusal = self.branch_and_merge.refusal(self.budget.steps)
            if refusal:
                raise ValueError(refusal.removeprefix("training.branch_and_merge: "))
        return self

    def branches(self, steps: int) -> list[Branch]:
        """Return what is trained one after another in a phase of `steps` steps.

        Without `branch_and_merge`, it is a single branch. Raises `RecipeError` if a branch would
        have no step.
        """
        settings = self.branch_and_merge
        if settings is None:
            return [Branch(0, 0, 0, steps)]
        if refusal := settings.refusal(steps):
            raise RecipeError(refusal)
        return settings.split(steps)

    def steps_of_schedule(self, steps: int) -> int:
        """Return the steps of a learning-rate schedule: of each branch, or of the whole phase."""
        return steps // self.branch_and_merge.slices if self.branch_and_merge else steps

    @property
    def own_loop_reason(self) -> str:
        """Why only lingraft itself can train this phase; "" if other trainers can."""
        if self.strategy.trained_only_here:
            return (
                f"training.strategy is {self.strategy.name}, which only lingraft itself trains; "
                f"set training.strategy: differential or rows"
            )
        for name in ("replay_kl", "branch_and_merge"):
            if getattr(self, name):
                return f"training.{name} is set, which only lingraft itself trains; leave it out"
        return ""

    def check_rounding(self, dtype: str) -> None:
        """Raise `RecipeError` if the optimizer would round weights that the phase does not train.

        `dtype` is the data type in which these weights are stored.
        """
        if self.optimizer != "adamw8bit_bfloat16" or dtype == "bfloat16":
            return
        msg = (
            f"training.optimizer: {self.optimizer} rounds all weights to bfloat16, also those that "
            f"training.strategy {self.strategy.name} keeps, and the model stores them in {dtype}; "
            f"use adamw or adamw8bit, or a model in bfloat16"
        )
        raise RecipeError(msg)

    def plan_notes(self, parameters: int) -> list[str]:
        """Return lines for `plan` about the phase, for a model of this size."""
        lines = [self.strategy.plan_note()]
        if self.branch_and_merge:
            lines.append(self.branch_and_merge.plan_note(parameters))
        if self.replay_kl:
            lines.append(
                f"replay KL: weight {self.replay_kl.weight:g} on replay text; the model before "
                f"training is a second copy of the weights in memory, and reads this text too"
            )
        return [line for line in lines if line]

    def tables(self) -> dict[str, Any]:
        """Return the tables of defaults that this phase uses.

        They are part of a stage's key: if a release changes a table, the same settings train
        differently, so a cached result must not be used.
        """
        batch: dict[str, Any] = {}
        if not self.batch_tokens:
            batch = {"batch_tokens": BATCH, "min_steps": DEFAULT_STEPS}
        if None not in (self.learning_rates.body, self.learning_rates.added_rows):
            return batch
        paper = {"paper": PAPER_RATES} if self.learning_rates.table == "paper" else {}
        rates = [self.strategy.small_rates, self.strategy.large_rates]
        return {**batch, **paper, "rates": rates, "rates_batch": RATES_BATCH}

    @property
    def depends_on_length(self) -> bool:
        """Whether all steps depend on the length of the phase, whatever its schedule."""
        return self.average_share > 0 or self.branch_and_merge is not None

    def sequences_per_step(self, block: int, parameters: int, expected: float | None = None) -> int:
        """Return the number of sequences per step, for sequences of `block` tokens.

        `expected` are the sequences of the whole training, if its budget is not in steps.
        """
        if self.batch_tokens:
            return max(1, round(self.batch_tokens / block))
        return default_sequences(block, parameters, expected)

    def share_replayed(self, of_recipe: float) -> float:
        """Return the share of replayed bytes: the phase's own, or else that of the recipe."""
        return of_recipe if self.replay_share is None else self.replay_share

    def rates(self, kind: str, parameters: int, block: int, sequences_per_step: int) -> Rates:
        """Return the peak learning rates for a model and a batch, and why they apply."""
        factor = rate_factor(sequences_per_step, block)
        return self.learning_rates.resolve(self.strategy, kind, parameters, factor)
