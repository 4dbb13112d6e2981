"""The divergence from the model before training on replay text (`training.replay_kl`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from lingraft.checkpoint import load_model
from lingraft.errors import RecipeError
from lingraft.recipe import Recipe
from lingraft.strategies import STRATEGIES
from lingraft.trainers.engines.transformers_settings import refuse_own_loop
from lingraft.training import Execution
from lingraft.training.config import ReplayKl
from lingraft.training.job import Job
from lingraft.training.loss import ChunkedLoss, PlainLoss
from lingraft.training.phase_steps import TrainingText
from lingraft.training.plan import TrainingPlan
from lingraft.training.reference_model import ReferenceModel, load_reference
from tests.training_cases import ADDED, log_of, plan_of, run, two_streams

IDS = torch.tensor([[1, 2, 300, 305, 4, 9, 17], [1, 8, 30, 311, 7, 5, 6]])


def moved_model(folder: Path) -> Any:
    """Return the model of a folder, somewhat changed."""
    model = load_model(folder, dtype="stored")
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_divergence_is_that_of_torch_on_all_logits(
    direction: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients are cross entropy + weight * kl_div, over the tokens of the base.

    The logits in pieces give the same as all logits at once.
    """
    monkeypatch.setattr("lingraft.training.loss.LOGITS_AT_ONCE", {"cpu": 320 * 5})
    before = load_model(tiny_model, dtype="stored")
    base = [token for token in range(320) if token not in ADDED]
    labels = IDS.roll(-1, 1)
    labels[:, -1] = -100
    plain = moved_model(tiny_model)
    logits, frozen = plain(IDS).logits[:, :-1], before(IDS).logits[:, :-1].detach()
    student, teacher = (log_softmax(one[..., base], dim=-1) for one in (logits, frozen))
    pair = (student, teacher) if direction == "forward" else (teacher, student)
    expected = kl_div(*pair, reduction="sum", log_target=True)
    total = cross_entropy(logits.flatten(0, 1), labels[:, :-1].flatten(), reduction="sum")
    ((total + 3 * expected) * 0.5).backward()
    for kind in (PlainLoss, ChunkedLoss):
        model = moved_model(tiny_model)
        settings = ReplayKl(weight=3, direction=direction)
        reference = ReferenceModel(before, settings, ADDED, autocast=False)
        nats = kind(model, autocast=False).backward({"input_ids": IDS}, labels, 0.5, reference)
        torch.testing.assert_close(nats.sum(), total.detach())
        assert reference.take() == pytest.approx(expected.item() / 12, rel=1e-4)
        assert reference.take() is None
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in before.parameters())


def test_the_divergence_holds_replay_text_at_the_model_before_training(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A larger weight keeps the divergence smaller; steps without replay text have none.

    The first step has none yet, because it is measured before the update.
    """
    text = two_streams(tiny_model, tmp_path / "text", share=0.5)
    last = {}
    for weight in (0.001, 30.0):
        plan = plan_of(
            budget="12 steps",
            batch_tokens=320,
            learning_rates=5e-3,
            replay_kl=weight,
            heldout_points=0,
        )
        run(tiny_model, text, plan, tmp_path / f"{weight}")
        rows = log_of(tmp_path / f"{weight}")
        with_replay = [row for row in rows if "replay_bits_per_byte" in row]
        assert [row for row in rows if "replay_kl" in row] == with_replay
        last[weight] = with_replay[-1]["replay_kl"]
    assert last[30.0] < 0.5 * last[0.001]


def test_weights_in_bfloat16_are_compared_in_bfloat16(tiny_model: Path, tmp_path: Path) -> None:
    """Before the first update the model is the one before training, so nothing diverges."""
    text = two_streams(tiny_model, tmp_path / "text", share=0.5)
    plan = plan_of(
        budget="1 steps",
        batch_tokens=256,
        replay_kl=1,
        optimizer="adamw8bit_bfloat16",
        strategy="full",
    )
    run(tiny_model, text, plan, tmp_path)
    (divergence,) = [row["replay_kl"] for row in log_of(tmp_path) if "replay_kl" in row]
    assert divergence == 0


def test_where_there_is_no_reference_model(tiny_model: Path, tmp_path: Path) -> None:
    """Without replay text, with a sharded model and in other trainers, the setting is refused.

    Plans without it have the same keys as before there was such a setting.
    """
    plan = plan_of(budget="2 steps", replay_kl={"weight": 1, "direction": "reverse"})
    recipe: dict[str, Any] = {
        "name": "x",
        "model": "miniature",
        "target": {"language": "hi", "corpus": "text.txt"},
        "replay": {"language": "en", "corpus": "en.txt", "share": 0},
        "training": {"replay_kl": 1},
    }
    with pytest.raises(ValueError, match="replay_kl compares the model on replay text"):
        Recipe.model_validate(recipe)
    assert refuse_own_loop(plan).startswith("training.replay_kl is set, which only lingraft")
    assert "replay_kl" not in TrainingPlan().model_dump(mode="json")["phases"][0]
    text = two_streams(tiny_model, tmp_path / "text", share=0)
    with pytest.raises(RecipeError, match="replay_kl compares the model on replay text"):
        run(tiny_model, text, plan, tmp_path)
    shared = TrainingText.of(text.target, text.replay.blocks, 0.2)
    job = Job(tiny_model, shared, plan, tmp_path / "work", ADDED, 0, Execution(), None)
    replay = job.steps(39_072).phases[0].mixture.replay
    with pytest.raises(RecipeError, match="each of 2 processes holds a shard; use one process"):
        load_reference(job, job.execution, plan.phases[0].replay_kl, replay, 2)
    assert STRATEGIES.parse("differential").plan_note() == ""
    assert "second copy of the weights" in plan.phases[0].plan_notes(0)[0]
