"""Averages of weights, merging back and the optimizer's state, on modules of a few numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lingraft.errors import RecipeError
from lingraft.pipeline.source_summary import source_statement
from lingraft.recipe import Recipe
from lingraft.training.merge_back import MergeSettings, merge_back, set_merged
from lingraft.training.optimizer import (
    WeightAverage,
    init_state,
    make_optimizer,
    restore_numbers,
    round_stochastically,
    set_learning_rate,
    set_weight_dtype,
    state_tensors,
    weight_dtype,
)
from lingraft.training.optimizer_memory import STATE_BYTES
from lingraft.training.plan import TrainingPlan
from tests.training_cases import plan_of, run, two_streams

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=12)
SHARES = st.floats(0, 1)
relaxed = settings(max_examples=50, deadline=None)


class Tiny(torch.nn.Module):
    """An embedding of four rows, a map and a head, as a causal language model names them."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.table, self.map = torch.nn.Embedding(4, 2), torch.nn.Linear(2, 2)
        self.head = torch.nn.Linear(2, 4, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(fill)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of all weights."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@relaxed
@given(VALUES, st.integers(1, 15))
def test_within_the_horizon_the_average_is_the_plain_mean(values, horizon):
    """Nothing of the weights before training is in it: the first step's weight is 1."""
    parameter = torch.full((3,), 1e6, dtype=torch.float64)
    average = WeightAverage({"w": parameter}, horizon)
    for step, value in enumerate(values[:horizon]):
        parameter.fill_(value)
        average.update(step)
    expected = sum(values[:horizon]) / len(values[:horizon])
    assert average.means["w"].tolist() == pytest.approx([expected] * 3, abs=1e-9)


@relaxed
@given(VALUES, st.integers(1, 5))
def test_beyond_the_horizon_the_average_is_exponential(values, horizon):
    """Each later step counts 1 / horizon, and what was before it the rest."""
    parameter = torch.zeros(1, dtype=torch.float64)
    average = WeightAverage({"w": parameter}, horizon)
    expected = 0.0
    for step, value in enumerate(values):
        parameter.fill_(value)
        average.update(step)
        share = 1 / min(step + 1, horizon)
        expected = (1 - share) * expected + share * value
    assert average.means["w"].item() == pytest.approx(expected, abs=1e-9)


@given(VALUES)
def test_an_average_lies_among_its_weights_and_is_applied_as_it_is(values):
    """The mean is between the smallest and the largest, and `apply` copies it into the model."""
    parameter = torch.zeros(2, dtype=torch.float64)
    average = WeightAverage({"w": parameter}, 4)
    for step, value in enumerate(values):
        parameter.fill_(value)
        average.update(step)
    average.apply()
    assert torch.equal(parameter, average.means["w"])
    assert min(values) - 1e-9 <= parameter[0].item() <= max(values) + 1e-9


@relaxed
@given(SHARES, st.sets(st.integers(0, 3)))
def test_merging_back_mixes_the_base_and_spares_added_rows(share, added):
    """The result is (1 - share) * trained + share * before; added rows stay as trained."""
    model, before = Tiny(0.0), weights(Tiny(-1.0))
    trained = weights(Tiny(1.0))
    settings = MergeSettings((share,), tuple(added))
    set_merged(model, trained, before, settings, share, types={})
    mixed = (1 - share) - share
    for name, parameter in model.named_parameters():
        expected = torch.full_like(parameter, mixed)
        if name in {"table.weight", "head.weight"}:
            expected[sorted(added)] = 1.0
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_weights_in_bfloat16_are_merged_on_average(share):
    """Where training moved them by one step of bfloat16, this share of them moves back."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.full((40_000,), 1 + 2**-7, dtype=torch.bfloat16))
    model.kept = torch.nn.Parameter(torch.full((1_000,), 1.0, dtype=torch.bfloat16))
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    trained = weights(model)
    before = {name: torch.ones_like(value) for name, value in trained.items()}
    types = {name: value.dtype for name, value in trained.items()}
    set_merged(model.float(), trained, before, MergeSettings((share,)), share, types=types)
    moved = (model.weight == 1).float().mean().item()
    assert moved == pytest.approx(share, abs=0.01)
    assert set(model.weight.tolist()) == {1.0, 1 + 2**-7}
    assert torch.equal(model.kept, trained["kept"].float())


def test_of_several_shares_the_best_on_held_out_text_is_taken():
    """Each is tried from the trained weights, not from the trial before; the lowest mean wins."""
    model = Tiny(1.0)
    seen = []

    def heldout(tried: Tiny) -> dict[str, float]:
        seen.append(tried.map.bias[0].item())
        return {"hi": abs(seen[-1] - 0.5), "en": 0.0}

    settings = MergeSettings((0.1, 0.5, 0.9), heldout=heldout)
    notes = merge_back(model, weights(Tiny(0.0)), settings, {})
    assert seen == pytest.approx([0.9, 0.5, 0.1])
    assert notes["share"] == 0.5
    assert [trial["share"] for trial in notes["tried"]] == [0.1, 0.5, 0.9]
    assert model.map.bias[0].item() == pytest.approx(0.5)


def test_one_share_is_not_tried_and_several_need_held_out_text():
    """Without a choice nothing is measured; a choice without a measure is an error."""
    model = Tiny(1.0)
    notes = merge_back(model, weights(Tiny(0.0)), MergeSettings((0.25,), (1,)), {})
    assert notes == {"share": 0.25, "tried": []}
    assert model.table.weight[0, 0].item() == pytest.approx(0.75)
    assert model.table.weight[1, 0].item() == 1.0
    with pytest.raises(RecipeError, match="no held-out text to choose one by"):
        MergeSettings((0.1, 0.2))


class Copies(TorchDispatchMode):
    """Counts the tensors that are cloned while it is active."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("shares", "copies"), [((0.25,), 0), ((0.25, 0.5), 4)])
def test_only_several_shares_keep_a_third_model_in_memory(shares, copies):
    """One share is mixed into the trained weights themselves; more need a copy of each tensor."""
    settings = MergeSettings(shares, heldout=lambda _: {"hi": 1.0})
    before = weights(Tiny(0.0))
    with Copies() as seen:
        merge_back(Tiny(1.0), before, settings, {})
    assert seen.count == copies


def stepped(model: Tiny, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Take steps of a fixed loss."""
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    for step in range(steps):
        loss = model.head(model.map(model.table(torch.tensor([step % 4])))).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def adam(model: Tiny) -> torch.optim.Optimizer:
    """Return the optimizer of one group."""
    groups = [{"params": list(model.parameters())}]
    return make_optimizer("adamw", groups, weight_decay=0.1, fused=False, sharded=False)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_restored_state_goes_on_to_the_bit(steps):
    """The stored tensors, read into a new optimizer's own, give the same further steps."""
    model = Tiny(0.5)
    optimizer = adam(model)
    stepped(model, optimizer, steps)
    named = dict(model.named_parameters())
    stored = {name: tensor.clone() for name, tensor in state_tensors(optimizer, named).items()}
    other = Tiny(0.0)
    other.load_state_dict(model.state_dict())
    again = adam(other)
    init_state(again, other.parameters())
    others = dict(other.named_parameters())
    for name, tensor in state_tensors(again, others).items():
        tensor.copy_(stored[name])
    restore_numbers(again, others, stored)
    for one, its_optimizer in ((model, optimizer), (other, again)):
        stepped(one, its_optimizer, 4)
    for name, value in weights(model).items():
        assert torch.equal(value, weights(other)[name])


def test_a_new_state_moves_no_weight():
    """It is created by a step with neither gradient nor learning rate."""
    model = Tiny(0.5)
    before = weights(model)
    optimizer = adam(model)
    init_state(optimizer, model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    kinds = {
        name.partition("/")[0] for name in state_tensors(optimizer, dict(model.named_parameters()))
    }
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_in_bfloat16_follow_small_updates_on_average():
    """A step of an eighth of the distance of two numbers moves an eighth of the weights.

    A checkpoint of its state is plain tensors, and buffers keep their data type.
    """
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 256, bias=False)
    model.register_buffer("frequencies", torch.tensor([1.0009765625]))
    torch.nn.init.ones_(model.weight)
    set_weight_dtype(model, torch.bfloat16)
    assert model.frequencies.dtype == torch.float32
    groups = [{"params": [model.weight]}]
    optimizer = make_optimizer(
        "adamw8bit_bfloat16", groups, weight_decay=0.0, fused=False, sharded=False
    )
    init_state(optimizer, [model.weight])
    assert torch.equal(model.weight, torch.ones_like(model.weight))
    # Adam's first step moves each weight by the rate, here an eighth of 1/128.
    set_learning_rate(optimizer.param_groups[0], 2.0**-10)
    optimizer.state[model.weight]["step"].zero_()
    model.weight.grad = -torch.ones_like(model.weight)
    optimizer.step()
    moved = model.weight == 1 + 2.0**-7
    assert torch.equal(moved | (model.weight == 1), torch.ones_like(moved))
    assert moved.float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    stored = state_tensors(optimizer, {"weight": model.weight})
    assert {name: str(tensor.dtype) for name, tensor in stored.items()} == {
        "step/weight": "torch.float32",
        "exp_avg_codes/weight": "torch.uint8",
        "exp_avg_scale/weight": "torch.float32",
        "exp_avg_sq_codes/weight": "torch.uint8",
        "exp_avg_sq_scale/weight": "torch.float32",
    }
    size = sum(tensor.nbytes for tensor in stored.values()) + 2 * model.weight.nbytes
    trained, _ = STATE_BYTES["adamw8bit_bfloat16"]
    assert size == pytest.approx(trained * model.weight.numel(), rel=1e-3)


def test_weights_in_bfloat16_are_not_computed_in_float32():
    """The option of the command line that contradicts the recipe is refused."""
    assert weight_dtype("adamw8bit_bfloat16", "auto") == torch.bfloat16
    assert weight_dtype("adamw8bit", "bfloat16") == torch.float32
    for precision in ("float32", "tf32"):
        with pytest.raises(RecipeError, match=rf"--precision {precision}: training\.optimizer ada"):
            weight_dtype("adamw8bit_bfloat16", precision)


@pytest.mark.parametrize("name", ["adamw8bit", "adamw8bit_bfloat16"])
def test_moments_in_8_bits_need_whole_tensors(name):
    """With shards of several processes the setting is refused by name."""
    with pytest.raises(RecipeError, match=rf"training\.optimizer: {name} needs whole tensors"):
        make_optimizer(name, [], weight_decay=0.0, fused=False, sharded=True)
    assert (
        "adamw"
        in TrainingPlan.model_json_schema()["$defs"]["Phase"]["properties"]["optimizer"]["enum"]
    )


KEEPING = ["rows", "layers", "embeddings", "lora", "shielded"]
"""The strategies that keep weights bit-identical."""


def test_weights_that_are_kept_are_not_rounded(tiny_model: Path, tmp_path: Path) -> None:
    """`adamw8bit_bfloat16` is refused before a step, and before a run reads its text."""
    text = two_streams(tiny_model, tmp_path)
    rounded = {"optimizer": "adamw8bit_bfloat16", "budget": "1 steps", "batch_tokens": 32}
    first = {"strategy": "full", "budget": "1 steps", "batch_tokens": 32}
    for name in KEEPING:
        training: dict[str, Any] = {"phases": [first, {"strategy": name, **rounded}]}
        folder = tmp_path / name
        refused = rf"training\.strategy {name} keeps, and the model stores them in float32; use"
        with pytest.raises(RecipeError, match=refused):
            run(tiny_model, text, plan_of(**training), folder)
        assert not list(folder.rglob("training.jsonl"))
        recipe = {
            "name": "x",
            "model": str(tiny_model),
            "target": {"language": "hi", "corpus": "hi.txt"},
            "replay": {"language": "en", "corpus": "en.txt"},
            "training": training,
        }
        with pytest.raises(RecipeError, match=refused):
            source_statement(Recipe.model_validate(recipe), tiny_model)


def test_stochastic_rounding_gives_the_value_on_average() -> None:
    """A number between two of bfloat16 becomes one of them; numbers of bfloat16 stay."""
    torch.manual_seed(0)
    step = 2.0**-7
    rounded = round_stochastically(torch.full((20_000,), -(1 + step / 8))).float()
    assert set(rounded.tolist()) == {-1.0, -(1 + step)}
    assert -rounded.mean().item() == pytest.approx(1 + step / 8, abs=step / 50)
    exact = torch.tensor([0.0, -1.5, 3e38, float("inf")]).bfloat16()
    assert torch.equal(round_stochastically(exact.float()), exact)
