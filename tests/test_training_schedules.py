"""Learning-rate schedules and budgets: properties for every length and every setting."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.packing import PackingSettings
from lingraft.training.budget import FACTORS, UNITS, Budget
from lingraft.training.config import Phase
from lingraft.training.named_plans import named_plan
from lingraft.training.phase_outline import ExpectedSteps, few_steps_lines
from lingraft.training.schedules import SCHEDULES, Constant, Cosine, Linear, Schedule, Wsd

STREAM = PackingSettings()
LENGTHS = st.integers(1, 400)
SHARES = st.floats(0, 1)
WARMUPS = st.one_of(st.floats(0, 0.99), st.integers(1, 300).map(float))


def schedules() -> st.SearchStrategy[Schedule]:
    """Return any registered schedule with any settings."""
    return st.one_of(
        st.builds(Cosine, warmup=WARMUPS, final_factor=SHARES),
        st.builds(Linear, warmup=WARMUPS, final_factor=SHARES),
        st.builds(Constant, warmup=WARMUPS),
        st.builds(Wsd, warmup=WARMUPS, final_factor=SHARES, decay_share=st.floats(0.01, 1)),
    )


def test_the_strategy_knows_every_schedule():
    """A schedule that is registered later is tested here, too."""
    assert set(SCHEDULES) == {Cosine, Linear, Constant, Wsd}


@given(schedules(), LENGTHS)
def test_a_factor_is_positive_and_at_most_one(schedule, steps):
    """No step trains with more than the peak, and only a final factor of 0 reaches 0."""
    factors = [schedule.factor(step, steps) for step in range(steps)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert factors[0] > 0 or schedule.rise(steps) == 0


@given(schedules(), LENGTHS)
def test_the_rise_is_linear_and_ends_at_the_peak(schedule, steps):
    """Each warm-up step adds the same, and its last step has the peak learning rate."""
    rise = schedule.rise(steps)
    assert 0 <= rise <= steps
    for step in range(rise):
        assert schedule.factor(step, steps) == pytest.approx((step + 1) / rise)


@given(schedules(), st.integers(1, 40_000))
def test_a_warm_up_below_1_percent_or_5_steps_has_a_warning_that_helps(schedule, steps):
    """The number of steps, or the share, that the warning names gives no other warning."""
    short = schedule.short_warmup(steps)
    rise = schedule.rise(steps)
    assert bool(short) == (schedule.warmup > 0 and rise < min(max(5, steps / 100), steps // 2))
    if short:
        longer = schedule.model_copy(update={"warmup": float(short.split()[-1])})
        assert longer.short_warmup(steps) is None
        assert longer.shared_steps(steps) or not schedule.shared_steps(steps)


@given(schedules(), LENGTHS)
def test_a_warm_up_has_the_steps_that_the_setting_says(schedule, steps):
    """A share is at least 5 steps or half of all, and may be more; a number is at most half."""
    rise, half = schedule.rise(steps), steps // 2
    if schedule.warmup >= 1:
        assert rise == min(schedule.warmup, half)
    elif schedule.warmup:
        assert rise == max(math.ceil(schedule.warmup * steps), min(5, half))


@given(schedules(), LENGTHS)
def test_the_final_factor_is_that_of_the_step_after_the_last(schedule, steps):
    """The last step is above it, by the fall of one more step."""
    final = getattr(schedule, "final_factor", 1.0)
    last, next_one = (schedule.factor(step, steps) for step in (steps - 1, steps))
    assert schedule.after_warmup(1.0) == pytest.approx(final, abs=1e-9)
    if schedule.rise(steps) < steps:
        assert next_one == pytest.approx(final, abs=1e-9)
        assert last >= next_one - 1e-9


def test_training_warns_of_a_short_warm_up_of_each_phase():
    """The 20 steps of wsd are below 1% of a phase from 2,001 steps on; cosine has 3%."""
    steps = [ExpectedSteps(count, 1, 256, count) for count in (2000, 3000)]
    wsd, cosine = Phase(schedule="wsd"), Phase()
    assert few_steps_lines([wsd, cosine], steps, STREAM, 256) == []
    (line,) = few_steps_lines([cosine, wsd], steps, STREAM, 256)
    assert line == (
        "the warm-up has 20 steps of 3,000; set training.phases.1.schedule.wsd.warmup: 30 for 1% "
        "of them, and at least 5"
    )
    assert (
        "set training.schedule.wsd.warmup: 30" in few_steps_lines([wsd], steps[1:], STREAM, 256)[0]
    )


def test_shorter_sequences_are_proposed_with_the_batch_that_follows() -> None:
    """A batch that the recipe sets would stay as it is, and documents would lose their ends."""
    steps = [ExpectedSteps(20, 1, 2048, 20)]
    (default,) = few_steps_lines([Phase()], steps, STREAM, 2048)
    (batch,) = few_steps_lines([Phase(batch_tokens=2048)], steps, STREAM, 2048)
    assert "few: training.packing.block_size: 204 gives about 200" in default
    assert "block_size: 204 and training.batch_tokens: 204 give about 200" in batch
    documents = PackingSettings(layout="documents")
    for mean in (500, 2048):  # 2,048: all documents are cut
        (line,) = few_steps_lines([Phase()], [ExpectedSteps(20, 1, mean, 20)], documents, 2048)
        assert "block_size" not in line


@given(schedules(), LENGTHS)
def test_after_the_rise_a_factor_never_grows_and_ends_above_the_final_one(schedule, steps):
    """The fall is monotonic and stops at the final factor, never below."""
    rise = schedule.rise(steps)
    fall = [schedule.factor(step, steps) for step in range(rise, steps)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(fall))
    final = getattr(schedule, "final_factor", 1.0)
    assert all(factor >= final - 1e-12 for factor in fall)


@given(SHARES)
def test_each_fall_begins_at_the_peak_and_ends_at_the_final_factor(final):
    """Half a cosine and a straight line meet in the middle of the decay."""
    for schedule in (
        Cosine(final_factor=final),
        Linear(final_factor=final),
        Wsd(final_factor=final, decay_share=1),
    ):
        assert schedule.after_warmup(0) == pytest.approx(1)
        assert schedule.after_warmup(1) == pytest.approx(final)
    middle = Cosine(final_factor=final).after_warmup(0.5)
    assert middle == pytest.approx(Linear(final_factor=final).after_warmup(0.5))
    assert middle == pytest.approx((1 + final) / 2)
    quarter = 0.5 + math.sqrt(0.125)  # of half a cosine's way: slow at first
    assert Cosine().after_warmup(0.25) == pytest.approx(quarter)
    assert Linear().after_warmup(0.25) == 0.75


@given(st.floats(0.01, 1), SHARES, SHARES)
def test_wsd_falls_with_one_minus_the_square_root_in_its_last_part(decay, final, done):
    """Before the last `decay_share` of the steps it is 1; within it, the paper's 1 - sqrt."""
    factor = Wsd(decay_share=decay, final_factor=final).after_warmup(done)
    part = max(0.0, (done - (1 - decay)) / decay)
    assert factor == pytest.approx(1 - (1 - final) * math.sqrt(part))
    if done < 1 - decay:
        assert factor == 1


@given(schedules(), st.integers(1, 200), st.integers(0, 200))
def test_the_shared_prefix_is_the_same_in_every_longer_phase(schedule, steps, more):
    """In a phase of more steps with the same warm-up, the first steps have the same factors."""
    if schedule.rise(steps) != schedule.rise(steps + more):
        return
    for step in range(schedule.shared_steps(steps)):
        assert schedule.factor(step, steps + more) == pytest.approx(schedule.factor(step, steps))


AMOUNTS = st.integers(1, 10**9)


@given(
    AMOUNTS,
    st.sampled_from([unit for unit in UNITS if unit != "epochs"]),
    st.sampled_from(sorted(FACTORS)),
)
def test_a_written_budget_is_the_number_times_its_factor(amount, unit, letter):
    """`20M tokens` is 20,000,000 tokens, in the singular too, with or without commas and spaces."""
    meant = round(amount * FACTORS[letter])
    one = unit.removesuffix("s")
    for written in (
        f"{amount}{letter} {unit}",
        f"  {amount} {letter}{unit} ",
        f"{amount:,}{letter} {one}",
    ):
        assert Budget.model_validate(written).amount == (unit, meant)


@given(AMOUNTS, st.floats(1e-9, 0.99))
def test_two_parts_of_a_budget_are_the_budget(amount, share):
    """A share of whole units is rounded, but never to nothing, and the other part has the rest."""
    for unit in ("tokens", "bytes", "documents", "steps"):
        first, rest = Budget.model_validate({unit: amount}).split(share)
        assert first.amount == (unit, max(1, round(amount * share)))
        assert rest.amount == (unit, max(1, amount - first.amount[1]))
    first, rest = Budget(epochs=amount).split(share)
    assert first.amount == ("epochs", amount * share)
    assert first.amount[1] + rest.amount[1] == pytest.approx(amount)


@pytest.mark.parametrize("name", ["learned_then_full", "rows_then_differential"])
@pytest.mark.parametrize("steps", [2, 15, 25, 35, 1000])
def test_the_phases_of_a_named_plan_have_its_budget_together(name, steps):
    """Two rounded parts of 25 steps would be 24, and of 15 steps 16."""
    phases = named_plan(name, f"{steps} steps")["phases"]
    assert sum(phase["budget"].steps for phase in phases) == steps


@given(st.lists(st.sampled_from(UNITS), min_size=2, max_size=5, unique=True))
def test_two_units_at_once_are_refused_by_name(units):
    """The message lists what was given, in the order of the units."""
    with pytest.raises(ValidationError) as caught:
        Budget.model_validate(dict.fromkeys(units, 1))
    given_units = " and ".join(unit for unit in UNITS if unit in units)
    assert f"got {given_units}" in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "20",
        "tokens",
        "20M",
        "M tokens",
        "-3 steps",
        "1e3",
        "5 days",
        "1.5.2 MB",
        "1,5 MB",
        "1,000000 tokens",
        ",100 tokens",
        "0 steps",
        "0 tokens",
        {"steps": 0},
        "1e300 tokens",
        "1e13 epochs",
        {"documents": 10**25},
    ],
)
def test_what_is_no_budget_is_refused(written):
    """No lengths are a number or a unit alone, nothing at all, and more than any text has."""
    with pytest.raises(ValidationError):
        Budget.model_validate(written)
