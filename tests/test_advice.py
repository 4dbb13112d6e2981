"""Advice: where a run ends, how many tokens, what it costs; the intervals hold their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.advice import (
    Gpus,
    LossPoint,
    Shape,
    advise_size,
    cost_of,
    parse_request,
    predict_end,
    serving_gain,
    tokens_per_byte,
)
from lingraft.advice.costs import UTILISATION
from lingraft.errors import RecipeError
from lingraft.forecast.loss_forecast import ANNEALING
from lingraft.forecast.predict_fertility import FertilityCurve, FertilityPoint
from lingraft.training.mfu import SPEEDS
from lingraft.vocabulary.auto_size import SIZES

LLAMA = Shape(6_738_415_616, 32_000, 4096, 32, tied=False)
END = 1e6


def cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * part))


def learned(part: float) -> float:
    """Return the integral of the cosine up to a part of the run."""
    return part / 2 + math.sin(math.pi * part) / (2 * math.pi)


def run(
    part: float, *, alpha: float, floor: float, end: float, noise: float = 0.0, seed: int = 0
) -> list[LossPoint]:
    """Return the points of a run that keeps to the law, up to a part of it.

    The learning rate falls as a cosine, to `end` of its peak.
    """
    random = np.random.default_rng(seed)
    points = []
    for share in np.linspace(0.01, part, 60):
        factor = end + (1 - end) * cosine(share)
        seen = end * share + (1 - end) * learned(share)
        value = (floor + (1 - floor) * (seen / 0.02 + 0.5) ** -alpha) * (
            1 - ANNEALING[0] * (1 - factor)
        )
        points.append(
            LossPoint(share * END, value * (1 + noise * random.standard_normal()), factor)
        )
    return points


FLAT = {"alpha": 0.2, "floor": 0.2, "end": 1.0}
LAWS = [(0.1, 0.0), (0.2, 0.3), (0.4, 0.6), (0.3, 0.4)]


@pytest.mark.parametrize("end", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("alpha", "floor"), LAWS)
def test_a_run_that_keeps_to_the_law_is_predicted_within_three_percent(end, alpha, floor):
    """The end predicted from the first fifth of a run lies within its interval.

    The steps are as noisy as real ones; the held-out points are not.
    """
    truth = run(1.0, alpha=alpha, floor=floor, end=end)[-1].value
    steps = run(0.2, alpha=alpha, floor=floor, end=end, noise=0.05)
    heldout = run(0.2, alpha=alpha, floor=floor, end=end)[3::8]
    value, low, high = predict_end(steps, END, heldout=heldout, end_factor=end)
    assert low <= truth <= high
    assert abs(value / truth - 1) < 0.03


def test_nothing_is_predicted_from_points_without_a_learning_rate():
    """Bytes count by their rate, so that there is nothing to fit."""
    points = [LossPoint(point.bytes, point.value, 0.0) for point in run(0.2, **FLAT)]
    with pytest.raises(RecipeError, match="the learning rate was 0 at every point"):
        predict_end(points, END)


@pytest.mark.parametrize(("alpha", "floor"), LAWS)
def test_any_plan_of_rates_is_predicted(alpha, floor):
    """Where the coming learning rates are known, as with warm-up-stable-decay, they are used."""

    def factor(share: float) -> float:
        return 1.0 if share < 0.8 else 1 - math.sqrt((share - 0.8) / 0.2)

    def value(share: float, seen: float) -> float:
        return (floor + (1 - floor) * (seen / 0.02 + 0.5) ** -alpha) * (
            1 - ANNEALING[0] * (1 - factor(share))
        )

    whole = np.linspace(0, 1, 501)
    seen = np.concatenate([[0], np.cumsum([factor(share) for share in whole[1:]])]) / 500
    points = [
        LossPoint(share * END, value(share, share), 1.0) for share in np.linspace(0.01, 0.2, 60)
    ]
    forecast = predict_end(points, END, heldout=points[3::8], ahead=(seen[-1] - 0.2) * END)
    assert forecast.value == pytest.approx(value(1.0, seen[-1]), rel=0.03)
    assert forecast.low <= value(1.0, seen[-1]) <= forecast.high


@pytest.mark.parametrize("fall", [0.45, 0.55])
def test_a_curve_that_fell_by_half_may_be_flat_from_there(fall):
    """A base that learns a new script falls fast and then stops: the last point is in the interval.

    A curve that fell by less is expected to fall further.
    """
    shares = np.linspace(0.02, 0.2, 12)
    values = np.linspace(math.log(4), math.log(4 * fall), 12)
    heldout = [LossPoint(*point) for point in zip(shares * END, np.exp(values), strict=True)]
    last, forecast = heldout[-1].value, predict_end([], END, heldout=heldout)
    assert forecast.low < forecast.value < forecast.high
    assert forecast.high == last if fall < 0.5 else forecast.high < last


def test_intervals_hold_the_end_as_often_as_they_say():
    """Of runs with slopes as earlier runs showed them, 19 of 20 end inside the interval.

    Here at least 17 of 20 do.
    """
    random = np.random.default_rng(1)
    inside = 0
    for seed in range(20):
        law = {
            "alpha": float(np.exp(random.normal(math.log(0.15), 0.3))),
            "floor": float(random.uniform(0, 0.4)),
        }
        truth = run(1.0, **law, end=0.0)[-1].value
        _, low, high = predict_end(run(0.2, **law, end=0.0, noise=0.05, seed=seed), END)
        inside += low <= truth <= high
    assert inside >= 17


def test_more_of_the_run_narrows_the_interval():
    """What is seen of a run is not predicted again: the interval shrinks to the noise."""
    law = {"alpha": 0.2, "floor": 0.2, "end": 0.0, "noise": 0.02}
    widths = []
    for part in (0.1, 0.3, 0.6, 0.95):
        forecast = predict_end(run(part, **law), END)
        widths.append(forecast.high - forecast.low)
    assert widths == sorted(widths, reverse=True)


@given(st.floats(0.1, 10), st.floats(10, 1e7))
def test_a_forecast_follows_the_units(factor, scale):
    """Doubled bits per byte, or bytes counted in other units, give the same forecast in them."""
    points = run(0.2, alpha=0.2, floor=0.2, end=0.0, noise=0.03)[::6]
    plain = predict_end(points, END)
    other = predict_end(
        [LossPoint(one.bytes * scale, one.value * factor, one.factor) for one in points],
        END * scale,
    )
    assert other.value == pytest.approx(plain.value * factor, rel=1e-6)
    assert (other.low, other.high) == pytest.approx(
        (plain.low * factor, plain.high * factor), rel=1e-6
    )


def test_the_warm_up_is_left_out_and_odd_points_do_no_harm():
    """A rising rate, points before the first byte and NaN change nothing; too few are reported."""
    points = run(0.2, alpha=0.2, floor=0.2, end=1.0)
    warm = [LossPoint(0, 9.0, 0.0), LossPoint(100, 8.0, 0.01), LossPoint(200, 7.5, 0.5)]
    odd = [LossPoint(5_000_000 * END, math.inf), LossPoint(3, math.nan)]
    assert predict_end([*warm, *points], END, end_factor=1.0).value == pytest.approx(
        predict_end(points, END, end_factor=1.0).value, rel=1e-3
    )
    with pytest.raises(RecipeError, match="needs 5"):
        predict_end([*odd, *warm, *points[:2]], END)


@pytest.fixture
def curve() -> FertilityCurve:
    shares = [1 / (1 + size / 1500) * 0.8 + 0.2 for size in SIZES]
    points = tuple(
        FertilityPoint(size, share, share * 0.98, share * 1.02)
        for size, share in zip(SIZES, shares, strict=True)
    )
    return FertilityCurve(points, 10**7, 10**6, 10**5, 30_000)


def test_tokens_per_byte_between_the_sizes_that_were_looked_at(curve):
    """Any inner size left out of the curve is predicted within 1%.

    A larger vocabulary never needs more tokens for the text.
    """
    whole = tokens_per_byte(0.5, curve)
    for left_out in curve.points[1:-1]:
        rest = FertilityCurve(
            tuple(point for point in curve.points if point != left_out), 1, 1, 1, 1
        )
        assert tokens_per_byte(0.5, rest).at(left_out.added)[0] == pytest.approx(
            0.5 * left_out.share, rel=0.01
        )
    values = [whole.at(size)[0] for size in range(0, 30_000, 100)]
    assert values == sorted(values, reverse=True)
    assert all(low <= value <= high for value, low, high in map(whole.at, (0, 10, 777, 30_000)))


def test_the_cheapest_size_is_where_serving_costs_least(curve):
    """No size of a fine grid is cheaper by more than the flatness.

    A wider model supports more rows. The advised size is the recommended one for every model.
    """
    known = tokens_per_byte(0.5, curve)
    small = Shape(20_000_000, 30_000, 256, 6, tied=True)
    sizes = {}
    for shape in (LLAMA, small):
        advice = advise_size(3_000, curve, 0.5, shape.serving)
        cost = {
            size: known.at(size)[0] * shape.serving.per_token(size) for size in range(0, 30_001, 50)
        }
        assert (
            known.at(advice.cheapest)[0] * shape.serving.per_token(advice.cheapest)
            <= min(cost.values()) * 1.0005
        )
        assert advice.least <= advice.cheapest <= advice.most
        assert advice.saving[1] <= advice.saving[0] <= advice.saving[2]
        sizes[shape] = advice.cheapest
        assert (advice.size, advice.rule) == (3_000, "marginal")
    assert sizes[LLAMA] > sizes[small]
    alone = advise_size(3_000, curve, 0.5, None)
    assert (alone.size, alone.cheapest) == (3_000, None)


@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_those_of_the_model(tmp_path, tied):
    """Parameters, rows, width and multiplied weights per token are as torch counts them.

    This holds for the extended model too.
    """
    from transformers import AutoModelForCausalLM

    from tests.conftest import make_tiny_model

    make_tiny_model(tmp_path, tied=tied)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    shape = Shape.of(tmp_path)
    assert shape.parameters == model.num_parameters()
    linear = sum(weight.numel() for name, weight in model.named_parameters() if "embed" not in name)
    assert shape.multiplied == linear + (320 * 32 if tied else 0)
    model.resize_token_embeddings(350, mean_resizing=False, pad_to_multiple_of=64)
    extended = shape.resized(320, 30)
    assert extended.parameters == model.num_parameters()
    assert extended.multiplied == shape.multiplied + 64 * 32


def test_costs_add_up():
    """Twice the tokens cost twice; twice the GPUs take half the hours and the same GPU-hours.

    Frozen weights save memory, and a second copy of the weights takes 2 bytes per parameter.
    """
    one, two = (cost_of(LLAMA, tokens, Gpus.parse("H100:4")) for tokens in (10**8, 2 * 10**8))
    assert two.flops == 2 * one.flops == pytest.approx(2 * 6e8 * LLAMA.multiplied)
    eight = cost_of(LLAMA, 10**8, Gpus.parse("H100:8"))
    assert eight.hours == pytest.approx(one.hours / 2)
    assert eight.gpu_hours == pytest.approx(one.gpu_hours)
    assert eight.memory_per_device < one.memory_per_device
    assert (
        cost_of(LLAMA, 10**8, Gpus.parse("H100:4"), trained=10**7).memory_per_device
        < one.memory_per_device
    )
    one = cost_of(LLAMA, 1, Gpus.parse("A100"))
    assert (one.fits_recomputed, eight.fits, eight.fits_recomputed) == (False, False, True)
    assert cost_of(LLAMA, 1).hours is None


def test_the_disk_holds_the_checkpoint_that_is_written_next_to_those_that_are_kept(tmp_path):
    """At most so many are there at once, each with the weight and two moments of a parameter."""
    from lingraft.training.checkpointing import new_checkpoint

    at_once = 0
    for step in range(1, 6):
        with new_checkpoint(tmp_path, step, {}) as draft:
            (draft / "tensors").write_bytes(b"0")
            at_once = max(at_once, len(list(tmp_path.iterdir())))
    models = 2 * 2 * LLAMA.parameters
    assert cost_of(LLAMA, 1).disk == models + at_once * 12 * LLAMA.parameters


def kept_bytes(model, ids, *, autocast: bool, recompute: bool) -> int:
    """Return the bytes of activations that autograd keeps for a pass through the layers."""
    import torch

    from lingraft.training.prepare_model import recompute_activations

    if recompute:
        recompute_activations(model)
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    shapes = {tuple(one.shape) for one in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        # A weight that autocast converted is no activation.
        if storage.data_ptr() not in weights and tuple(tensor.shape) not in shapes:
            kept[storage.data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        last = model.model(input_ids=ids).last_hidden_state
    assert last.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit_bfloat16"])
def test_activations_are_about_what_autograd_keeps(optimizer):
    """The estimate is within a fifth for a Llama shape, and its parts with --recompute as well."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **sizes, **heads)).train()
    in_bfloat16 = optimizer != "adamw"
    if in_bfloat16:
        model.to(torch.bfloat16)
    shape = Shape(model.num_parameters(), 300, 256, 4, tied=False)
    count = 200
    ids = torch.arange(count)[None]
    nothing, cost = (
        cost_of(shape, 1, micro_tokens=tokens, optimizer=optimizer) for tokens in (0, count)
    )
    estimated = cost.memory_per_device - nothing.memory_per_device
    measured = kept_bytes(model, ids, autocast=not in_bfloat16, recompute=False)
    assert estimated == pytest.approx(measured, rel=0.25)
    inputs = cost.memory_recomputed - nothing.memory_recomputed - estimated / 4
    measured = kept_bytes(model, ids, autocast=not in_bfloat16, recompute=True)
    # The norm after the last layer is never computed again.
    assert inputs < measured < inputs + 3 * 4 * count * 256


def test_a_gpu_has_the_speed_of_the_data_type_that_it_trains_in():
    """T4 and V100 have no bfloat16 and train in float32, which lingraft does not hide.

    A device of an MI250X is one of its two dies.
    """
    speeds = {kind: Gpus(kind, 1).flops_per_second / UTILISATION for kind in SPEEDS}
    assert speeds["T4"] < speeds["V100"] < 20e12 < min(speeds[kind] for kind in ("RTX3090", "L4"))
    assert Gpus.parse("mi250x").memory == 64e9
    assert speeds["H100-PCIE"] < speeds["H100-NVL"] < speeds["H100"]


def test_a_micro_batch_is_a_part_of_the_default_batch():
    """A device computes its sequences of a step, at most as many tokens as a pass has."""
    states = [cost_of(LLAMA, 10**9, Gpus("H100", count)).memory_per_device for count in (2, 8, 64)]
    assert states[0] > states[1] > states[2]
    given = [
        cost_of(LLAMA, 10**9, Gpus("H100", 64), micro_tokens=tokens).memory_per_device
        for tokens in (2_048, 16_384)
    ]
    assert given[0] == pytest.approx(states[2], rel=0.01)
    assert given[1] > 2 * states[2]


def test_a_gain_is_net_of_the_larger_head():
    """Half the tokens are less than twice as cheap, by just the head's growth."""
    gain = serving_gain(LLAMA, 0.4, 0.2, 20_000)
    larger = LLAMA.multiplied + 20_000 * LLAMA.width
    assert gain == pytest.approx(2 * LLAMA.multiplied / larger)
    assert 1.9 < gain < 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"language": None}, "--language must be given"),
        ({"text": None, "language": "domain:law"}, "--text must be given: domain:law is not"),
        ({"gpus": "H1000:8"}, "did you mean 'H100'"),
        ({"gpus": "H100:0"}, "KIND:COUNT"),
        ({"budget": "20 steps"}, "expected a size of text"),
        ({"probe": "much"}, "expected a size of text"),
    ],
)
def test_mistakes_of_a_command_are_told(words, told):
    """What is missing or no size, in one line."""
    given = {
        "language": "hi",
        "text": ["x"],
        "base_language": None,
        "base_text": None,
        "gpus": None,
        "budget": None,
        "probe": None,
        **words,
    }
    with pytest.raises(RecipeError, match=told):
        parse_request(**given)
