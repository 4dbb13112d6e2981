"""The plan as settings: how it is written, what is refused, and what it comes to."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lingraft.errors import RecipeError
from lingraft.packing import PackingSettings
from lingraft.packing.epoch_limits import sequence_tokens
from lingraft.packing.mixture import Mixture
from lingraft.packing.reading_plan import PhaseLength
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree
from lingraft.strategies import Differential
from lingraft.tf32 import tf32_products
from lingraft.training import Budget, Execution, Phase, TrainingPlan
from lingraft.training.batch_rule import BATCH, DEFAULT_STEPS
from lingraft.training.job import Job
from lingraft.training.phase_outline import (
    expected_steps,
    few_steps_lines,
    outline_phase,
    phase_lengths,
)
from lingraft.training.phase_steps import TextSource, TrainingSteps, TrainingText, phase_steps
from tests.conftest import HINDI
from tests.training_cases import ADDED, packed, plan_of, two_streams


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("20M tokens", {"tokens": 20_000_000}),
        ("1.5 MB", {"bytes": 1_500_000}),
        ("500 steps", {"steps": 500}),
        ("0.1 epochs", {"epochs": 0.1}),
        ("1 epoch", {"epochs": 1.0}),
        ("100K documents", {"documents": 100_000}),
        ({"bytes": 7}, {"bytes": 7}),
    ],
)
def test_a_budget_is_written_as_people_say_it(written: Any, meant: dict[str, Any]) -> None:
    """An amount and a unit, with or without a factor."""
    assert Budget.model_validate(written).model_dump(exclude_none=True) == meant


def test_the_settings_of_one_phase_may_stand_in_the_plan() -> None:
    """A plan with one phase needs no list; both at once is a contradiction."""
    short = TrainingPlan.model_validate({"strategy": "full", "budget": "1 MB", "heldout_points": 3})
    long = TrainingPlan.model_validate(
        {
            "phases": [{"strategy": {"full": {}}, "budget": {"bytes": 1_000_000}}],
            "heldout_points": 3,
        }
    )
    assert short == long
    with pytest.raises(ValidationError, match="move strategy into the entries of `phases`"):
        TrainingPlan.model_validate({"phases": [], "strategy": "full"})


def test_a_dumped_plan_reads_back_equal() -> None:
    """No setting of a strategy or schedule is lost on the way through JSON."""
    plan = TrainingPlan.model_validate(
        {"strategy": {"layers": {"layers_per_end": 5}}, "schedule": {"wsd": {"decay_share": 0.4}}}
    )
    dumped = plan.model_dump(mode="json")
    assert dumped["phases"][0]["strategy"] == {"layers": {"layers_per_end": 5}}
    assert TrainingPlan.model_validate(dumped) == plan


def test_the_default_is_differential_over_one_epoch() -> None:
    """What happens where a recipe says nothing."""
    phase = TrainingPlan().phases[0]
    assert (phase.strategy.name, phase.schedule.name) == ("differential", "cosine")
    assert phase.budget.amount == ("epochs", 1.0)


def test_rates_may_be_given_in_part() -> None:
    """One number is for both rates; a rate that is not set follows the model's size."""
    phases = [
        Phase.model_validate({"learning_rates": rates}) for rates in (1e-3, {"added_rows": 0.5}, {})
    ]
    rates = [phase.learning_rates.resolve(phase.strategy, "llama", 8_000_000) for phase in phases]
    assert [(r.body, r.added_rows) for r in rates] == [(1e-3, 1e-3), (6e-4, 0.5), (6e-4, 6e-3)]
    assert rates[0].why == "as the recipe says"
    assert "the other one follows" in rates[1].why


@pytest.mark.parametrize(
    ("kind", "parameters", "rate"),
    [
        ("llama", 6_900_000_000, 6e-5),
        ("gemma", 8_700_000_000, 3e-6),
        ("gemma", 2_600_000_000, 9e-5),
        ("mistral", 7_300_000_000, 3e-5),
        ("bloom", 7_300_000_000, 6e-5),
        ("xglm", 7_600_000_000, 3e-5),
        ("phi", 2_900_000_000, 9e-5),
    ],
)
def test_the_paper_plan_uses_the_rate_of_each_base(kind: str, parameters: int, rate: float) -> None:
    """`paper` trains all weights at the rate of the paper's table, on cut documents, no replay."""
    plan = TrainingPlan.model_validate("paper")
    phase = plan.phases[0]
    rates = phase.learning_rates.resolve(phase.strategy, kind, parameters)
    assert (rates.body, rates.added_rows) == (rate, rate)
    assert "paper's table" in rates.why
    assert (phase.strategy.name, phase.replay_share, plan.packing.layout) == (
        "full",
        0.0,
        "documents",
    )
    assert phase.schedule.warmup == 0.03


def test_a_base_that_the_paper_does_not_have_is_said() -> None:
    """For other models the rates of `paper` follow the size, and the notes say so."""
    phase = TrainingPlan.model_validate("paper").phases[0]
    rates = phase.learning_rates.resolve(phase.strategy, "llama", 8_000_000)
    assert rates.body == 5e-4
    assert "the paper's table has no llama of this size" in rates.why


def test_a_named_plan_shares_its_budget_out() -> None:
    """A tenth of the budget goes to the first phase, in every unit; other settings still apply."""
    plan = TrainingPlan.model_validate(
        {"plan": "rows_then_differential", "budget": "1 MB", "heldout_points": 2}
    )
    assert [(phase.strategy.name, phase.budget.bytes) for phase in plan.phases] == [
        ("rows", 100_000),
        ("differential", 900_000),
    ]
    assert plan.heldout_points == 2
    learned = TrainingPlan.model_validate("learned_then_full")
    assert [phase.strategy.name for phase in learned.phases] == ["embeddings", "full"]
    assert [phase.budget.epochs for phase in learned.phases] == [0.1, 0.9]
    assert learned.phases[0].learning_rates.added_rows == 1e-3
    with pytest.raises(ValidationError, match="did you mean 'paper'"):
        TrainingPlan.model_validate("papr")


def test_a_named_plan_of_one_phase_takes_settings_that_it_does_not_set() -> None:
    """Its own settings are not changed, and with several phases it is not known which is meant."""
    plan = TrainingPlan.model_validate({"plan": "paper", "budget": "1 MB", "batch_tokens": 512})
    (phase,) = plan.phases
    assert (phase.batch_tokens, phase.strategy.name, phase.budget.bytes) == (512, "full", 10**6)
    for written in (
        {"plan": "paper", "strategy": "rows"},
        {"plan": "branch_and_merge", "branch_and_merge": {"iterations": 3}},
        {"plan": "rows_then_differential", "batch_tokens": 512},
        {"plan": "paper", "phases": []},
        {"plan": "paper", "packing": {"layout": "stream"}},
    ):
        name = list(written)[1].replace("packing", "packing.layout")
        with pytest.raises(ValidationError, match=f"a named plan sets {name} itself; remove plan"):
            TrainingPlan.model_validate(written)


def test_a_named_plan_keeps_its_packing() -> None:
    """The layout of `paper` stays where a recipe sets other packing, or the same layout."""
    for written in ({"block_size": 512}, {"block_size": 512, "layout": "documents"}):
        plan = TrainingPlan.model_validate({"plan": "paper", "packing": written})
        assert (plan.packing.layout, plan.packing.block_size) == ("documents", 512)
    plan = TrainingPlan.model_validate({"plan": "paper", "packing": PackingSettings(block_size=9)})
    assert (plan.packing.layout, plan.packing.block_size) == ("documents", 9)


@pytest.mark.parametrize(
    "written",
    [
        {
            "learning_rates": 1e-4,
            "schedule": "wsd",
            "budget": "1 MB",
            "packing": {"layout": "stream"},
        },
        {"phases": [{"learning_rates": 1e-4, "schedule": "wsd", "budget": "1 MB"}]},
    ],
    ids=["short", "long"],
)
def test_setting_a_named_plan_drops_no_setting_silently(
    written: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """`-o training.plan` keeps what the plan leaves open; what several phases replace is named."""

    def planned(name: str) -> TrainingPlan:
        tree = override(Tree({"training": written}), [f"training.plan={name}"])
        assert not tree.problems
        return TrainingPlan.model_validate(tree.values["training"])

    phase = {"learning_rates": 1e-4, "schedule": "wsd", "budget": "1 MB"}
    assert planned("branch_and_merge") == TrainingPlan.model_validate(
        {"plan": "branch_and_merge", **phase}
    )
    assert planned("paper") == TrainingPlan.model_validate({"plan": "paper", "budget": "1 MB"})
    assert not capsys.readouterr().err
    assert planned("rows_then_differential") == TrainingPlan.model_validate(
        {"plan": "rows_then_differential", "budget": "1 MB"}
    )
    assert capsys.readouterr().err == (
        "warning: -o training.plan=rows_then_differential: replaces training.learning_rates, "
        "training.schedule, whose values in the recipe have no effect\n"
    )


def test_another_named_plan_leaves_nothing_of_the_first() -> None:
    """A plan's name in a recipe is replaced with all that it stands for."""
    tree = override(Tree({"training": "paper"}), ["training.plan=branch_and_merge"])
    assert tree.values == {"training": {"plan": "branch_and_merge"}}


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    """A sequence longer than the context is an error; the default is the context, at most 2,048."""
    with pytest.raises(RecipeError, match="context is 512 tokens; set at most 512"):
        PackingSettings(block_size=1024).sequence_length(512)
    assert [PackingSettings().sequence_length(context) for context in (512, 4096, None)] == [
        512,
        2048,
        2048,
    ]


@pytest.mark.parametrize(
    ("budget", "unit"), [("2 KB", "bytes"), ("20 documents", "documents"), ("700 tokens", "tokens")]
)
def test_a_budget_is_met_to_the_row(
    tiny_model: Path, tmp_path: Path, budget: str, unit: str
) -> None:
    """A phase ends with the first sequence that reaches its budget."""
    text = two_streams(tiny_model, tmp_path)
    wanted = Budget.model_validate(budget)
    mixture = Mixture.of([(text.target, 1.0)], text.replay.blocks, 0.3)
    leg = phase_steps(mixture, PhaseLength(*wanted.amount, 0.3, 4))

    def reached(rows: int) -> int:
        measures = leg.mixture.measures(0, rows)
        own = measures if unit == "tokens" else measures[measures[:, 0] == 0]
        return int(own[:, {"tokens": 1, "bytes": 2, "documents": 3}[unit]].sum())

    assert reached(leg.sequences) >= wanted.amount[1] > reached(leg.sequences - 1)
    assert leg.steps == math.ceil(leg.sequences / 4)


def test_a_short_phase_orders_few_epochs_of_a_small_text(tiny_model: Path, tmp_path: Path) -> None:
    """To find where a budget ends, no more than twice the sequences of the phase are ordered."""
    blocks = packed(tiny_model, tmp_path, HINDI[:1], block_size=512)
    leg = phase_steps(Mixture.of([(blocks, 1.0)]), PhaseLength("epochs", 20, 0, 2))
    ordered = max(leg.mixture.targets[0].order._kept) + 1
    assert 20 <= ordered <= 2 * leg.sequences / len(blocks)


def test_an_epoch_sees_each_target_row_once(tiny_model: Path, tmp_path: Path) -> None:
    """Replay comes on top of an epoch, it does not shorten it."""
    text = two_streams(tiny_model, tmp_path)
    for share in (0.0, 0.4):
        mixture = Mixture.of([(text.target, 1.0)], text.replay.blocks, share)
        leg = phase_steps(mixture, PhaseLength("epochs", 1, share, 3))
        drawn, rows = leg.mixture.draw(0, leg.sequences)
        assert sorted(rows[drawn == 0]) == list(range(len(text.target)))
        batches = [leg.batch(step) for step in range(leg.steps)]
        assert sum(batch.target_bytes for batch in batches) == text.target.summary.bytes


def test_equal_bytes_are_equal_whatever_the_vocabulary(tiny_model: Path, tmp_path: Path) -> None:
    """Rows of another length reach the same budget of bytes within one row."""
    seen = []
    for block in (16, 48):
        blocks = packed(tiny_model, tmp_path / str(block), HINDI, block_size=block)
        leg = phase_steps(Mixture.of([(blocks, 1.0)]), PhaseLength("bytes", 3000, 0, 2))
        seen.append(leg.mixture.measures(0, leg.sequences)[:, 2].sum())
    assert all(3000 <= size < 3000 + 48 * 4 for size in seen)


def test_the_batch_follows_the_size_of_the_model() -> None:
    """Small models take small steps; a given number of tokens is rounded to whole rows."""
    assert [Phase().sequences_per_step(512, n) for n in (8_000_000, 7_000_000_000)] == [4, 256]
    assert Phase(batch_tokens=100).sequences_per_step(512, 8_000_000) == 1


@pytest.mark.parametrize("parameters", [8_000_000, 7_000_000_000])
def test_the_batch_leaves_two_hundred_steps(parameters: int) -> None:
    """A small budget takes smaller steps than the model's size allows, but whole sequences."""
    for sequences in (1, 150, 700, 20_000, 10**7):
        per_step = Phase().sequences_per_step(512, parameters, sequences)
        assert sequences / per_step >= min(200, sequences)
        assert 1 <= per_step <= Phase().sequences_per_step(512, parameters)
    assert Phase(batch_tokens=1024).sequences_per_step(512, parameters, 10) == 2


def test_a_step_of_documents_counts_their_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """A document is one padded sequence: batch, reasons, rates and printed counts use the mean."""
    layout = {"block_size": 256, "layout": "documents"}
    text = TrainingText.of(packed(tiny_model, tmp_path, HINDI * 6, **layout))
    counts, size = text.target.summary, 8_000_000
    mean = counts.tokens / counts.rows
    assert mean < 100
    for settings, at_most in (({}, counts.tokens / 200), ({"batch_tokens": 1000}, 1000)):
        plan = plan_of(strategy="full", packing=layout, **settings)
        job = Job(tiny_model, text, plan, tmp_path, ADDED, 0, Execution(), None)
        (steps,) = job.steps(size).phases
        outline = outline_phase(plan.phases[0], steps, "llama", size)
        read = sum(steps.batch(number).tokens for number in range(steps.steps))
        assert read == counts.tokens
        assert outline.tokens_per_step == pytest.approx(read / steps.steps, rel=0.1)
        assert at_most - mean <= outline.tokens_per_step <= at_most + mean
        # A stream of as many tokens in a step has these rates.
        factor = math.sqrt(outline.tokens_per_step / BATCH[0])
        default = plan.phases[0].strategy.default_rates(size).body
        assert outline.rates.body == pytest.approx(factor * default, rel=0.05)


@pytest.mark.parametrize("block_size", [7, 32, 500])
def test_sequences_of_a_stream_have_their_full_length(
    block_size: int, tiny_model: Path, tmp_path: Path
) -> None:
    """Also where the last one is short, or there is one."""
    blocks = packed(tiny_model, tmp_path, HINDI[:2], block_size=block_size)
    amount = TextSource(blocks, "hi").amount()
    assert sequence_tokens(block_size, [amount], amount, 0.2) == block_size


def test_rates_follow_the_batch() -> None:
    """A quarter of the batch has half of the default rates; rates of the recipe stay."""
    whole, quarter = (Phase().rates("llama", 8_000_000, 512, count) for count in (4, 1))
    assert (whole.body, whole.added_rows) == (6e-4, 6e-3)
    assert (quarter.body, quarter.added_rows) == (3e-4, 3e-3)
    assert "smaller batch" in quarter.why
    assert Phase().rates("llama", 8_000_000, 512, 64) == whole
    # The same batch has them at every size.
    large = Phase().rates("llama", 7_000_000_000, 512, 4)
    assert (large.body, large.added_rows) == (1e-5, 1e-4)
    assert Phase().rates("llama", 7_000_000_000, 512, 1).body == 5e-6
    own = Phase.model_validate({"learning_rates": {"body": 1e-4}})
    rates = own.rates("llama", 8_000_000, 512, 1)
    assert (rates.body, rates.added_rows) == (1e-4, 3e-3)
    paper = TrainingPlan.model_validate("paper").phases[0]
    assert paper.rates("llama", 6_900_000_000, 1024, 1).body == 6e-5


def test_rates_that_were_not_measured_say_so() -> None:
    """The reason of a default rate names a measurement near the size, or that there is none."""
    near, far = (Phase().rates("llama", n, 512, 256).why for n in (9_000_000, 135_000_000))
    assert "measured at 8.6M parameters" in near
    assert "not measured at this size" in far


def test_the_steps_that_are_planned_are_those_of_the_training(
    tiny_model: Path, tmp_path: Path
) -> None:
    """The steps that a plan expects are about the counted ones, for budgets that count text."""
    text = two_streams(tiny_model, tmp_path)
    block = text.target.summary.block
    amounts = [source.amount() for source in text.targets], text.replay.amount()
    for budget in ("3 kB", "1000 tokens", "1 epoch", "7 steps"):
        plan = plan_of(budget=budget, replay_share=0.3, batch_tokens=3 * block)
        job = Job(tiny_model, text, plan, tmp_path, ADDED, 0, Execution(), None)
        lengths = phase_lengths(plan.phases, [0.3], block, 10**6, amounts)
        (expected,) = expected_steps(lengths, amounts)
        (counted,) = job.steps(10**6).phases
        assert expected.sequences_per_step == counted.sequences_per_step == 3
        assert abs(expected.steps - counted.steps) <= max(1, 0.1 * counted.steps)


def test_the_budget_that_a_warning_names_has_about_two_hundred_steps(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Also if the budget is a small part of one sequence; plan and training name the same."""
    text = two_streams(tiny_model, tmp_path)
    block = text.target.summary.block
    amounts = [source.amount() for source in text.targets], text.replay.amount()

    def counted(budget: str) -> TrainingSteps:
        plan = plan_of(budget=budget, replay_share=0.3)
        return Job(tiny_model, text, plan, tmp_path, ADDED, 0, Execution(), None).steps(10**6)

    for budget in ("1 tokens", "1 bytes", "20 bytes", "1 documents"):
        plan = plan_of(budget=budget, replay_share=0.3)
        lengths = phase_lengths(plan.phases, [0.3], block, 10**6, amounts)
        for steps in (expected_steps(lengths, amounts), counted(budget).phases):
            (line,) = few_steps_lines(plan.phases, steps, plan.packing, block)
            longer = re.search(r"training.budget: (.+) gives about 200", line)[1]
            assert 100 < counted(longer).phases[0].steps < 400


def test_bfloat16_is_computed_only_where_the_device_can() -> None:
    """`auto` is float32 on a CPU; asking for bfloat16 where it is emulated is refused."""
    assert not Execution().computes_in_bfloat16()
    try:
        assert Execution(precision="bfloat16").computes_in_bfloat16()
    except RecipeError as error:
        assert "ten times slower" in str(error)  # noqa: PT017 - which of the two holds is the machine's matter


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_flags_of_products_are_those_of_before(precision: str) -> None:
    """A program that uses lingraft has the precision that it chose, also after the block."""
    before, rnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.rnn
    torch.set_float32_matmul_precision(precision)
    rnn.fp32_precision = "ieee"
    with tf32_products(allowed=False):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == precision
    assert rnn.fp32_precision == "ieee"
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = True


def test_tf32_is_used_only_where_it_is_asked_for() -> None:
    """Scoring and training forbid TF32, even if it was allowed before, and set it back."""
    torch.set_float32_matmul_precision("high")
    try:
        with tf32_products(allowed=Execution(device="cuda").allows_tf32()):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            with tf32_products(allowed=True):
                assert torch.backends.cuda.matmul.allow_tf32
                assert torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    with pytest.raises(RecipeError, match="--precision tf32: this cpu has no TF32"):
        Execution(precision="tf32").allows_tf32()


def test_what_is_left_out_is_part_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of default rates are part of a run's key, unless the recipe sets the rates."""
    whole = Phase.model_validate(
        {"learning_rates": {"body": 1e-4, "added_rows": 1e-3}, "batch_tokens": 4096}
    )
    assert whole.tables() == {}
    told, default = Phase.model_validate({"learning_rates": 1e-4}), Phase()
    before = told.tables(), default.tables()
    monkeypatch.setattr(Differential, "small_rates", (1e-9, 1e-9))
    assert told.tables() == before[0] == {"batch_tokens": BATCH, "min_steps": DEFAULT_STEPS}
    assert default.tables() != before[1]
    assert "paper" in Phase.model_validate({"learning_rates": "paper"}).tables()
