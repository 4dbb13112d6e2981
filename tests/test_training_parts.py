"""The parts of the loop: the loss in pieces, documents kept apart, averages, merging back."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from lingraft.checkpoint import load_model
from lingraft.errors import MissingExtraError, RecipeError, TrainingError
from lingraft.packing.mixture import IGNORED, Mixture, document_positions
from lingraft.strategies import STRATEGIES
from lingraft.training import Execution, phase_setup
from lingraft.training.config import ReplayKl
from lingraft.training.loss import (
    ChunkedInsideLoss,
    ChunkedLoss,
    PlainLoss,
    head_is_last,
    make_loss,
)
from lingraft.training.merge_back import MergeSettings, merge_models
from lingraft.training.mfu import Utilisation
from lingraft.training.reference_model import ReferenceModel
from lingraft.training.trackers import TRACKERS, tracking
from tests.conftest import HINDI, make_tiny_model
from tests.training_cases import (
    ADDED,
    log_of,
    other_model,
    packed,
    plan_of,
    run,
    two_streams,
    weights_of,
)


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    make_tiny_model(made, tied=request.param)
    return made


@pytest.mark.parametrize("strategy", ["full", "rows", "embeddings"])
def test_the_loss_in_pieces_is_the_plain_loss(
    folder: Path, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and gradients are equal up to rounding, with padding, tied or not."""
    monkeypatch.setattr("lingraft.training.loss.LOGITS_AT_ONCE", {"cpu": 320 * 7})
    blocks = packed(folder, tmp_path, HINDI)
    batch = Mixture.of([(blocks, 1.0)]).batch(len(blocks) - 4, 4)
    inputs, labels = {"input_ids": torch.from_numpy(batch.inputs)}, torch.from_numpy(batch.labels)
    found = []
    for kind in (PlainLoss, ChunkedLoss, ChunkedInsideLoss):
        model = load_model(folder, dtype="stored")
        groups = STRATEGIES.parse(strategy).prepare(model, ADDED)
        nats = kind(model, autocast=False).backward(inputs, labels, 0.5)
        found.append(
            (nats, {name: p.grad for group in groups for name, p in group.parameters.items()})
        )
    (plain, plain_gradients), *others = found
    for pieces, gradients in others:
        assert len(pieces) == (labels != IGNORED).sum()
        torch.testing.assert_close(pieces, plain)
        for name, gradient in plain_gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        self.size = max(
            [
                self.size,
                *(
                    t.numel()
                    for t in (made if isinstance(made, tuple | list) else [made])
                    if isinstance(t, torch.Tensor)
                ),
            ]
        )
        return made


def test_the_loss_in_pieces_never_holds_all_logits(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest tensor of a step no longer grows with tokens times vocabulary.

    That holds for the logits of a reference model too.
    """
    monkeypatch.setattr("lingraft.training.loss.LOGITS_AT_ONCE", {"cpu": 320 * 64})
    ids = torch.arange(2048).view(32, 64) % 300
    sizes = {}
    before = load_model(tiny_model, dtype="stored")
    reference = ReferenceModel(before, ReplayKl(weight=1), ADDED, autocast=False)
    for kind in (PlainLoss, ChunkedLoss, ChunkedInsideLoss):
        with Largest() as largest:
            kind(load_model(tiny_model, dtype="stored"), autocast=False).backward(
                {"input_ids": ids}, ids, 1.0, reference if kind is ChunkedLoss else None
            )
        sizes[kind] = largest.size
    assert sizes[PlainLoss] >= 2048 * 320
    assert sizes[ChunkedLoss] < 2048 * 320 / 2
    assert sizes[ChunkedInsideLoss] < 2048 * 320 / 2


def test_gradients_of_a_head_in_bfloat16_are_summed_in_float32(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many chunks give the gradient of one, also after an earlier micro-batch."""
    ids = torch.randint(300, (2, 8, 128), generator=torch.Generator().manual_seed(0)) ** 2 // 300
    found = []
    for size in (1024, 4):
        monkeypatch.setattr("lingraft.training.loss.LOGITS_AT_ONCE", {"cpu": 320 * size})
        model = load_model(tiny_model, dtype="bfloat16")
        for micro_batch in ids:
            loss = ChunkedLoss(model, autocast=True)
            loss.backward({"input_ids": micro_batch}, micro_batch.roll(-1, 1), 1 / 2048)
        gradient = model.get_output_embeddings().weight.grad
        assert gradient.dtype == torch.bfloat16
        found.append(gradient.float())
    whole, pieces = found
    assert float((pieces - whole).norm() / whole.norm()) < 0.005


def test_a_model_whose_logits_are_more_than_its_head_gets_the_plain_loss() -> None:
    """Capped or scaled logits are detected, and the plain loss is used.

    Also where the cap changes no logit of the model as it is, because all are small.
    """
    assert head_is_last(other_model("llama"))
    model = other_model("gemma2")  # caps its logits
    for factor in (1e-3, 1, 100):
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(factor)
        assert not head_is_last(model)
    assert isinstance(make_loss(model, "chunked", autocast=False), PlainLoss)
    assert isinstance(make_loss(other_model("llama"), "plain", autocast=False), PlainLoss)


def test_a_change_in_one_document_does_not_move_the_next(tiny_model: Path, tmp_path: Path) -> None:
    """With restarted positions, the logits of a sequence are those of its separate documents."""
    blocks, model = (
        packed(tiny_model, tmp_path, HINDI, block_size=60),
        load_model(tiny_model, dtype="stored"),
    )
    inputs = Mixture.of([(blocks, 1.0)]).batch(0, 4).inputs
    positions = document_positions(inputs, blocks.document_start)
    assert ((inputs == blocks.document_start)[:, 1:]).any(), "a document must begin inside of a row"
    with torch.no_grad():
        rows = model(
            input_ids=torch.from_numpy(inputs),
            position_ids=torch.from_numpy(positions),
            use_cache=False,
        ).logits
        for row, ids, places in zip(rows, inputs, positions, strict=True):
            starts = [*(i for i, place in enumerate(places) if place == 0), len(ids)]
            for begin, end in pairwise(starts):
                alone = model(input_ids=torch.from_numpy(ids[None, begin:end])).logits[0]
                torch.testing.assert_close(row[begin:end], alone, rtol=1e-4, atol=1e-5)


def test_a_run_ends_with_its_average(tiny_model: Path, tmp_path: Path) -> None:
    """The saved weights, and the last held-out point, are those of the average."""
    text, seen = two_streams(tiny_model, tmp_path / "text"), []

    def heldout(model: Any) -> dict[str, float]:
        seen.append(model.get_input_embeddings().weight.detach().clone())
        return {"hi": 1.0}

    run(
        tiny_model,
        text,
        plan_of(budget="4 steps", batch_tokens=64, average_share=1.0),
        tmp_path,
        heldout=heldout,
    )
    run(
        tiny_model,
        text,
        plan_of(budget="4 steps", batch_tokens=64),
        tmp_path / "plain",
        heldout=heldout,
    )
    mean = torch.stack(seen[6:10]).mean(dim=0)
    saved = weights_of(tmp_path / "output" / "model")["model.embed_tokens.weight"]
    torch.testing.assert_close(saved, mean)
    assert torch.equal(saved, seen[4])


def test_folders_are_merged_in_their_data_types(folder: Path, tmp_path: Path) -> None:
    """Each share is measured as it would be saved, and the best one is."""
    shutil.copytree(folder, tmp_path / "trained")
    tensors = {name: (tensor + 0.5).bfloat16() for name, tensor in weights_of(folder).items()}
    save_file(tensors, tmp_path / "trained" / "model.safetensors", {"format": "pt"})
    seen: dict[float, torch.Tensor] = {}

    def heldout(merged: Any) -> dict[str, float]:
        assert not merged.training
        row = merged.get_input_embeddings().weight[5].detach().clone()
        seen[round(float((row - start[5]).mean()), 1)] = row
        return {"hi": float(row.mean())}

    start = weights_of(folder)["model.embed_tokens.weight"]
    settings = MergeSettings((0.2, 0.8), ADDED, heldout)
    notes = merge_models(tmp_path / "trained", folder, tmp_path / "merged", settings)
    assert notes["share"] == 0.8
    assert sorted(seen) == [0.1, 0.4]
    merged = weights_of(tmp_path / "merged")
    trained = weights_of(tmp_path / "trained")
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    rows = merged["model.embed_tokens.weight"]
    assert torch.equal(rows[5].float(), seen[0.1])
    assert torch.equal(rows[list(ADDED)], trained["model.embed_tokens.weight"][list(ADDED)])
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["use_cache"] is True


def test_tensorboard_gets_what_the_log_gets(tiny_model: Path, tmp_path: Path) -> None:
    """TensorBoard gets the numbers of every step, and the held-out curve by language."""
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    execution = Execution(
        trackers=("tensorboard",), tracking=tmp_path / "tracking", tracking_name="a"
    )
    text = two_streams(tiny_model, tmp_path / "text")
    run(
        tiny_model,
        text,
        plan_of(budget="3 steps", batch_tokens=64),
        tmp_path,
        execution=execution,
        heldout=lambda _: {"hi": 2.0},
    )
    events = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / "a"))
    events.Reload()
    logged = [row["bits_per_byte"] for row in log_of(tmp_path) if "bits_per_byte" in row]
    assert [one.value for one in events.Scalars("bits_per_byte")] == pytest.approx(logged)
    assert [(one.step, one.value) for one in events.Scalars("heldout/hi")] == [
        (i, 2.0) for i in range(4)
    ]


def test_trackers_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown tracker lists the known ones; a missing package names the install command."""
    with (
        pytest.raises(RecipeError, match="did you mean 'wandb'"),
        tracking(["wanbd"], tmp_path, "a", 0),
    ):
        pass
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
        with (
            pytest.raises(MissingExtraError, match=rf"lingraft\[{name}\]"),
            tracking([name], tmp_path, "a", 0),
        ):
            pass


def test_recomputing_activations_changes_nothing_but_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With recomputed activations, losses and weights are the same and memory is smaller.

    They are recomputed by default where a device has no room for them.
    """
    text, kept, lines = two_streams(tiny_model, tmp_path / "text"), {}, {}
    # As on a GPU of 2 MB.
    monkeypatch.setattr("lingraft.training.phase_setup.available_memory", lambda _: 2e6)
    for recompute in (False, True, None):
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            notes = run(
                tiny_model,
                text,
                plan_of(budget="2 steps", batch_tokens=256),
                tmp_path / str(recompute),
                execution=Execution(recompute=recompute),
            )
        kept[recompute], lines[recompute] = sum(sizes), notes.get("recompute", "")
    assert log_of(tmp_path / "True") == log_of(tmp_path / "False") == log_of(tmp_path / "None")
    assert kept[None] == kept[True] < kept[False]
    assert lines[False] == lines[True] == ""
    assert "activations are recomputed" in lines[None]
    assert "2 MB are free, which may not be enough; --no-recompute" in lines[None]


def test_a_phase_with_room_for_its_activations_keeps_them(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each phase decides for itself, on the model that the phase before has trained."""
    free, recomputes = iter([2e6, 1e12]), []
    monkeypatch.setattr("lingraft.training.phase_setup.available_memory", lambda _: next(free))
    stepper = phase_setup.Stepper

    def note(model: torch.nn.Module, *args: Any, **more: Any) -> Any:
        modules = model.modules()
        recomputes.append(any(getattr(one, "gradient_checkpointing", False) for one in modules))
        return stepper(model, *args, **more)

    monkeypatch.setattr(phase_setup, "Stepper", note)
    phases = [{"budget": "1 steps"}, {"budget": "1 steps", "strategy": "rows"}]
    text = two_streams(tiny_model, tmp_path / "text")
    run(tiny_model, text, plan_of(phases=phases, heldout_points=0), tmp_path)
    assert recomputes == [True, False]


def test_a_training_without_enough_memory_names_what_takes_less(
    tiny_model: Path, tmp_path: Path
) -> None:
    """An error of the device becomes one line with the settings that save memory."""

    def measure(_: Any) -> dict[str, float]:
        msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
        raise torch.OutOfMemoryError(msg)

    text, plan = two_streams(tiny_model, tmp_path / "text"), plan_of(budget="1 steps")
    with pytest.raises(TrainingError, match=r"cpu ran out of memory \(CUDA .*give --recompute"):
        run(tiny_model, text, plan, tmp_path, heldout=measure)


def test_utilisation_counts_what_a_token_is_multiplied_with(folder: Path) -> None:
    """Six FLOPs per trained weight, four per frozen one; without a known GPU there is no MFU."""
    model = load_model(folder, dtype="stored")
    tied = model.config.tie_word_embeddings
    everything = sum(parameter.numel() for parameter in model.parameters())
    multiplied = everything - (0 if tied else model.get_input_embeddings().weight.numel())
    found = Utilisation.of(model, Execution(), 1)
    assert found.flops_a_token == 6 * multiplied
    assert found.share(1000, 1.0) is None
    for parameter in model.parameters():
        parameter.requires_grad = False
    assert Utilisation.of(model, Execution(), 1).flops_a_token == 4 * multiplied
    assert Utilisation(2e9, 4 * 312e12).share(10**6, 2.0) == pytest.approx(
        1e15 / (4 * 312e12), abs=1e-4
    )
