"""Branch-and-merge: slices, merged weights, and what a run with it does."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from lingraft.checkpoint import load_model
from lingraft.errors import RecipeError
from lingraft.trainers.engines.transformers_settings import refuse_own_loop
from lingraft.training import TrainingPlan, branch_merge, trainer
from lingraft.training.branch_merge import merge_branches, merge_tensors
from lingraft.training.branches import BranchAndMerge
from lingraft.training.column_shield import SHIELD
from lingraft.training.phase_steps import PhaseSteps, TrainingText
from tests.training_cases import (
    ADDED,
    Killed,
    heldout,
    log_of,
    other_model,
    plan_of,
    run,
    two_streams,
    weights_of,
)


@pytest.fixture(scope="module")
def text(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingText:
    return two_streams(tiny_model, tmp_path_factory.mktemp("text"))


def slow_slerp(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sin(w / 2) / sin(w) * one + sin(w / 2) / sin(w) * other, for their angle w."""
    lengths = [math.sqrt(sum(float(x) ** 2 for x in vector.flat)) for vector in (one, other)]
    product = sum(float(x) * float(y) for x, y in zip(one.flat, other.flat, strict=True))
    angle = math.acos(product / lengths[0] / lengths[1])
    weight = math.sin(angle / 2) / math.sin(angle)
    return weight * one + weight * other


@pytest.mark.parametrize(("method", "count"), [("slerp", 2), ("linear", 2), ("linear", 3)])
def test_merged_weights_are_those_of_a_slow_reference(
    method: Any, count: int, tmp_path: Path
) -> None:
    """Each tensor is the middle of the arc between two branches, or the mean of all branches."""
    model = other_model("qwen2", layers=1)
    branches = []
    for number in range(count):
        branch = {}
        for name, parameter in model.named_parameters():
            branch[name] = torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(number + len(name))
            )
        branches.append(branch)
    model.load_state_dict(branches[-1], strict=False)
    files = [tmp_path / f"{number}" for number in range(count - 1)]
    for path, branch in zip(files, branches, strict=False):
        save_file(branch, path)
    merge_branches(model, files, method, torch.Generator())
    for name, parameter in model.named_parameters():
        arrays = [branch[name].double().numpy() for branch in branches]
        wanted = slow_slerp(*arrays) if method == "slerp" else sum(arrays) / count
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-6, atol=1e-7)


def test_weights_that_no_branch_changed_stay() -> None:
    """Equal weights stay bit-identical; slerp of opposite vectors, or of 0, is their mean."""
    one, other = torch.tensor([[3.0, 0.1, 1.0]]), torch.tensor([[-1.0, 0.1, 2.0]])
    for method in ("slerp", "linear"):
        merged = merge_tensors([one.double(), other.double()], method)
        assert merged[0, 1].item() == one[0, 1].item()
        assert 0 < merged[0, 0].item() < 3
    assert merge_tensors([one, -one], "slerp").tolist() == [[0, 0, 0]]
    assert merge_tensors([one, torch.zeros(1, 3)], "slerp").tolist() == (one / 2).tolist()


def test_merged_weights_in_bfloat16_keep_their_size(tmp_path: Path) -> None:
    """A mean halfway between two numbers is rounded up or down; the seed alone decides which.

    Equal weights stay as they are.
    """
    one = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    # The next number of bfloat16, of larger or smaller size, but for the first column.
    step = torch.where(torch.arange(64) % 2 == 0, 1, -1).to(torch.int16)[:, None].repeat(1, 64)
    step[:, 0] = 0
    other = (one.view(torch.int16) + step).view(torch.bfloat16)
    save_file({"weight": one}, tmp_path / "one")

    def merged(seed: int) -> torch.Tensor:
        model = torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
        model.load_state_dict({"weight": other})
        merge_branches(model, [tmp_path / "one"], "slerp", torch.Generator().manual_seed(seed))
        return model.weight.detach()

    size = (one.float().norm() + other.float().norm()) / 2
    assert merged(0).float().norm() / size == pytest.approx(1, abs=5e-4)
    assert torch.equal(merged(0), merged(0))
    assert not torch.equal(merged(0), merged(1))
    assert torch.equal(merged(0)[:, 0], one[:, 0])


@pytest.mark.parametrize(("iterations", "branches"), [(1, 2), (4, 2), (3, 5)])
def test_slices_are_the_steps_of_the_phase_once(iterations: int, branches: int) -> None:
    """No step is in two slices or in none, and slices differ by at most one step."""
    settings = BranchAndMerge(iterations=iterations, branches=branches, merge=_merge(branches))
    for steps in (iterations * branches, 47, 200):
        split = settings.split(steps)
        assert [step for one in split for step in range(one.first, one.end)] == list(range(steps))
        assert {one.steps for one in split} <= {steps // len(split), steps // len(split) + 1}
        places = [(one.iteration, one.number) for one in split]
        assert places == [(i, b) for i in range(iterations) for b in range(branches)]


def _merge(branches: int) -> Any:
    return "slerp" if branches == 2 else "linear"


def train_separately(
    model: Path, text: TrainingText, phase: dict[str, Any], folder: Path
) -> dict[str, torch.Tensor]:
    """Train on four slices of two steps by separate runs, and merge after the second and fourth.

    Phases with a learning rate of 0 skip the slices before.
    """
    for iteration in range(2):
        ends = []
        for branch in range(2):
            skipped = 4 * iteration + 2 * branch
            skip = {**phase, "budget": f"{skipped} steps", "learning_rates": 0}
            phases = [skip, {**phase, "budget": "2 steps"}][0 if skipped else 1 :]
            output = folder / f"{iteration}-{branch}"
            run(model, text, plan_of(phases=phases), output)
            ends.append(weights_of(output / "output" / "model"))
        merged = {name: merge_tensors([one[name] for one in ends], "slerp") for name in ends[0]}
        # The folder has the configuration, too.
        model = output / "output" / "model"
        save_file(merged, model / "model.safetensors", {"format": "pt"})
    return merged


def test_a_run_is_one_training_per_slice_and_a_merge(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Its weights are those of separate trainings on the slices, merged after each iteration.

    It reads the batches of the phase without branches, in their order.
    """
    settings = {"iterations": 2, "branches": 2}
    phase = {
        "strategy": "differential",
        "budget": "8 steps",
        "batch_tokens": 128,
        "replay_share": 0,
    }
    whole = run(tiny_model, text, plan_of(**phase), tmp_path / "whole")
    plan = plan_of(**phase, branch_and_merge=settings)
    notes = run(tiny_model, text, plan, tmp_path / "merged", heldout=heldout)
    assert {key: notes[key] for key in ("tokens", "bytes", "steps", "epochs")} == {
        key: whole[key] for key in ("tokens", "bytes", "steps", "epochs")
    }
    log = log_of(tmp_path / "merged")
    steps = [row for row in log if "bits_per_byte" in row]
    assert [row["bytes"] for row in steps] == [
        row["bytes"] for row in log_of(tmp_path / "whole") if "bits_per_byte" in row
    ]
    assert [(row["iteration"], row["branch"]) for row in steps[::2]] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    # Each branch has a schedule of its own.
    rates = [row["learning_rate"] for row in steps]
    assert rates[:2] * 4 == rates
    assert [row["step"] for row in log if "heldout" in row] == [0, 4, 8]
    with torch.no_grad():
        end = heldout(load_model(tmp_path / "merged" / "output" / "model"))["hi"]
    assert log[-1]["heldout"]["hi"] == pytest.approx(end, rel=1e-6)
    expected = train_separately(tiny_model, text, phase, tmp_path)
    merged = weights_of(tmp_path / "merged" / "output" / "model")
    for name, tensor in expected.items():
        # Adam enlarges the rounding of a gradient near 0: on an AMD CPU, one value of 10,240
        # differed by 3e-7. A linear merge instead of slerp differs by 1.8e-6.
        torch.testing.assert_close(merged[name], tensor, rtol=1e-6, atol=1e-6)


def test_a_run_that_is_killed_in_any_branch_ends_bit_identical(
    tiny_model: Path, text: TrainingText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in a branch, before a branch is saved, before and after a merge.

    The files of at most two iterations are in its folder.
    """
    plan = plan_of(
        phases=[
            {"strategy": "rows", "budget": "2 steps", "batch_tokens": 128},
            {
                "strategy": "full",
                "budget": "13 steps",
                "batch_tokens": 128,
                "average_share": 0.5,
                "branch_and_merge": {"iterations": 3},
            },
        ],
    )
    notes = run(tiny_model, text, plan, tmp_path / "whole", heldout=heldout)
    kills: list[tuple[Any, str, int]] = [
        (branch_merge, "save_branch", 1),
        (PhaseSteps, "batch", 2),
        (branch_merge, "merge_branches", 1),
        (trainer, "save_phase_model", 1),
        (PhaseSteps, "batch", 2),
        (branch_merge, "save_branch", 1),
        (branch_merge, "merge_branches", 2),
    ]
    for owner, name, number in kills:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killing(getattr(owner, name), number))
            with pytest.raises(Killed):
                run(tiny_model, text, plan, tmp_path / "killed", heldout=heldout)
    run(tiny_model, text, plan, tmp_path / "killed", heldout=heldout)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    whole = weights_of(tmp_path / "whole" / "output" / "model")
    for name, tensor in weights_of(tmp_path / "killed" / "output" / "model").items():
        assert torch.equal(tensor, whole[name])
    # The warm-up and the average are those of a branch, of 13 // 6 steps.
    assert notes["phases"][1]["average_steps"] == 1
    kept = sorted(path.name for path in (tmp_path / "killed" / "work").glob("phase-1-*"))
    assert kept == ["phase-1-iteration-2", "phase-1-iteration-2-branch-0.safetensors"]


def test_branches_in_bfloat16_that_are_killed_end_bit_identical(
    tiny_model: Path, text: TrainingText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that resumes before or after a merge rounds the merged weights the same."""
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    plan = plan_of(
        strategy="full",
        budget="4 steps",
        batch_tokens=128,
        optimizer="adamw8bit_bfloat16",
        branch_and_merge={"iterations": 2},
    )
    run(tiny_model, text, plan, tmp_path / "whole")
    kills: list[tuple[Any, str, int]] = [
        (branch_merge, "merge_branches", 1),
        (trainer, "save_phase_model", 1),
        (branch_merge, "merge_branches", 2),
    ]
    for owner, name, number in kills:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killing(getattr(owner, name), number))
            with pytest.raises(Killed):
                run(tiny_model, text, plan, tmp_path / "killed")
    run(tiny_model, text, plan, tmp_path / "killed")
    whole = weights_of(tmp_path / "whole" / "output" / "model")
    for name, tensor in weights_of(tmp_path / "killed" / "output" / "model").items():
        assert torch.equal(tensor, whole[name])


def test_the_model_before_leaves_the_memory_before_the_next_is_loaded(
    tiny_model: Path, text: TrainingText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that has room for one model trains branches."""
    load, alive, loaded = trainer.load_phase_model, [], []

    def load_phase_model(*arguments: Any, **settings: Any) -> Any:
        alive.append(sum(reference() is not None for reference in loaded))
        found = load(*arguments, **settings)
        loaded.append(weakref.ref(next(found.model.parameters())))
        return found

    monkeypatch.setattr(trainer, "load_phase_model", load_phase_model)
    plan = plan_of(budget="2 steps", batch_tokens=128, branch_and_merge={"iterations": 1})
    run(tiny_model, text, plan, tmp_path)
    assert alive == [0, 0]


def killing(function: Any, number: int) -> Any:
    """Return a function that is killed when it is called for the `number`th time."""
    calls = iter(range(1, 1000))

    def call(*arguments: Any) -> Any:
        if next(calls) == number:
            raise Killed
        return function(*arguments)

    return call


def test_frozen_columns_stay_bit_identical_through_merges(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """What `shielded` freezes is chosen once and no merge changes it; added rows are merged."""
    plan = plan_of(
        strategy={"shielded": {"base_rows": "frozen"}},
        budget="8 steps",
        batch_tokens=128,
        branch_and_merge={"iterations": 2},
    )
    run(tiny_model, text, plan, tmp_path)
    before, after = weights_of(tiny_model), weights_of(tmp_path / "output" / "model")
    for name, mask in load_file(tmp_path / "work" / SHIELD.format(0)).items():
        frozen = mask.expand_as(before[name])
        assert torch.equal(before[name][frozen], after[name][frozen])
        assert not torch.equal(before[name], after[name])
    changed = (before["lm_head.weight"] != after["lm_head.weight"]).any(dim=1)
    assert changed.nonzero().flatten().tolist() == list(ADDED)


def test_what_branches_cannot_do_is_refused(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Slerp of three, low-rank matrices, branches without a step, and other trainers.

    Plans without branches have the same keys as before there was such a setting.
    """
    with pytest.raises(ValidationError, match="slerp merges two branches, got 3; set merge: lin"):
        plan_of(branch_and_merge={"branches": 3})
    with pytest.raises(ValidationError, match="lora also saves its low-rank matrices"):
        plan_of(strategy="lora", branch_and_merge={})
    with pytest.raises(ValidationError, match="4 branches cannot share 3 steps; set fewer iter"):
        plan_of(plan="branch_and_merge", budget="3 steps")
    few = plan_of(plan="branch_and_merge", budget="300 tokens", batch_tokens=128)
    with pytest.raises(RecipeError, match=r"branch_and_merge: 4 branches cannot share 3 steps"):
        run(tiny_model, text, few, tmp_path)
    plan = plan_of(plan="branch_and_merge", budget="4 steps")
    assert refuse_own_loop(plan).startswith("training.branch_and_merge is set, which only lingraft")
    assert plan == plan_of(budget="4 steps", branch_and_merge={})
    assert "branch_and_merge" not in TrainingPlan().model_dump(mode="json")["phases"][0]
    dumped = plan.model_dump(mode="json")
    assert dumped["phases"][0]["branch_and_merge"] == {
        "iterations": 2,
        "branches": 2,
        "merge": "slerp",
    }
    assert TrainingPlan.model_validate(dumped) == plan
    assert plan_of(branch_and_merge={}, schedule="wsd").beginning() is None
