"""The log of a training run, and which losses stop it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import TrainingError
from lingraft.forecast.training_curve import read_log, records_with
from lingraft.forecast.training_time import measuring_seconds
from lingraft.training.step_loop import WINDOW, DivergenceMonitor
from lingraft.training.train_log import JsonlLog
from tests.training_cases import heldout, plan_of, run, two_streams

LOSSES = st.lists(st.floats(0.01, 50), min_size=1, max_size=80)


def first_stop(losses, vocabulary: int) -> int | None:
    """Return the step at which a monitor stops the run."""
    monitor = DivergenceMonitor(vocabulary)
    return next((i for i, loss in enumerate(losses) if monitor.check(loss, 1.0)), None)


@given(LOSSES, st.integers(2, 10**6))
def test_a_run_is_stopped_by_the_mean_of_a_window(losses, vocabulary):
    """The first step after which the last 20 losses are on average above both limits."""
    ceiling = max(2 * losses[0], math.log(vocabulary))
    expected = None
    for end in range(WINDOW, len(losses) + 1):
        if sum(losses[end - WINDOW : end]) / WINDOW > ceiling:
            expected = end - 1
            break
    assert first_stop(losses, vocabulary) == expected


def test_steps_show_what_a_point_of_the_held_out_curve_takes():
    """The step after a measurement takes as much longer; a resumed run reads that off its log."""
    steps = [{"step": step, "seconds": 3.0 + step + 5 * (step > 4)} for step in range(1, 9)]
    log = [*steps[:4], {"step": 4, "heldout": {"hi": 1.0}}, *steps[4:]]
    assert measuring_seconds(log) == 5.0
    # Nothing shows it before the step after the first measurement.
    assert measuring_seconds(log[:5]) == measuring_seconds([]) == 0.0


def test_a_loss_below_that_of_a_uniform_prediction_is_no_divergence():
    """A run that begins at 0.1 nats may rise to 1, as long as guessing would cost more."""
    losses = [0.1, *[1.0] * (2 * WINDOW)]
    assert first_stop(losses, 1000) is None
    assert first_stop(losses, 2) == WINDOW - 1


@given(st.integers(2, 10**6), st.floats(1, 1e9))
def test_one_bad_batch_is_no_divergence(vocabulary, peak):
    """However high a single loss is among good ones, fewer than 20 steps stop nothing."""
    assert first_stop([1.0] * (WINDOW - 2) + [peak], vocabulary) is None


@pytest.mark.parametrize(
    ("loss", "norm", "told"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (math.inf, 1.0, "the loss is inf"),
        (1.0, math.nan, "the gradient norm is nan"),
        (1.0, math.inf, "the gradient norm is inf"),
    ],
)
def test_a_number_that_is_none_stops_at_once(loss, norm, told):
    """The message says which of the two it was; nothing of the step is remembered."""
    monitor = DivergenceMonitor(100)
    assert monitor.check(loss, norm) == told
    assert (monitor.first, monitor.last) == (None, [])


@given(LOSSES, st.integers(0, 79))
def test_a_monitor_goes_on_where_a_checkpoint_left_it(losses, cut):
    """First and last losses are all that a resumed run needs to decide as an undisturbed one."""
    cut = min(cut, len(losses) - 1)
    whole, first = DivergenceMonitor(50), DivergenceMonitor(50)
    told = [whole.check(loss, 1.0) for loss in losses]
    before = [first.check(loss, 1.0) for loss in losses[:cut]]
    resumed = DivergenceMonitor(50, first.first, list(first.last))
    assert before + [resumed.check(loss, 1.0) for loss in losses[cut:]] == told


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3
        ),
        max_size=6,
    ),
    st.integers(0, 6),
)
def test_a_log_is_cut_back_to_the_last_checkpoint(tmp_path_factory, rows, kept):
    """Rows that were written after it are gone, and those before it are whole lines of JSON."""
    folder = tmp_path_factory.mktemp("log")
    log, sizes = JsonlLog(folder), [0]
    for row in rows:
        log.write(row)
        sizes.append(log.size)
    kept = min(kept, len(rows))
    again = JsonlLog(folder, sizes[kept])
    again.write({"step": 1})
    lines = again.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [*rows[:kept], {"step": 1}]


def test_a_log_never_grows_by_being_opened(tmp_path):
    """A stored size beyond the file's own adds no zeros."""
    JsonlLog(tmp_path).write({"a": 1})
    size = JsonlLog(tmp_path, 10**6).size
    assert (tmp_path / "training.jsonl").read_bytes() == b'{"a": 1}\n'
    assert size == len(b'{"a": 1}\n')


@pytest.mark.parametrize("points", [0, 1000])
def test_an_update_that_breaks_the_weights_is_an_error_of_the_training(
    tiny_model, tmp_path, points
):
    """The next loss shows it, or a point of the held-out curve before that."""
    text = two_streams(tiny_model, tmp_path)
    plan = plan_of(
        budget="24 steps",
        batch_tokens=64,
        learning_rates=1e20,
        heldout_points=points,
        schedule={"constant": {"warmup": 0}},
    )
    with pytest.raises(
        TrainingError, match=r"nan at step \d+ of 24; .*lower training.learning_rates"
    ):
        run(tiny_model, text, plan, tmp_path, heldout=heldout if points else None)


@pytest.mark.parametrize("points", [0, 1000])
@pytest.mark.parametrize(
    "rates", [{"body": 1e-3, "added_rows": 0}, {"body": 0, "added_rows": 1e-3}]
)
def test_the_end_is_predicted_where_a_rate_is_zero(tiny_model, tmp_path, rates, points):
    """A prediction is made of the rate of what trains, after a quarter of the steps."""
    text = two_streams(tiny_model, tmp_path)
    plan = plan_of(
        budget="24 steps",
        batch_tokens=64,
        learning_rates=rates,
        heldout_points=points,
        schedule={"cosine": {"warmup": 1}},
    )
    run(tiny_model, text, plan, tmp_path, heldout=heldout if points else None)
    (predicted,) = records_with(read_log(tmp_path / "output" / "training.jsonl"), "predicted")
    assert predicted["predicted"]


def test_a_log_holds_no_numbers_that_json_has_not(tmp_path):
    """NaN would make the file unreadable for other programs: it is refused."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        JsonlLog(tmp_path).write({"loss": math.nan})
