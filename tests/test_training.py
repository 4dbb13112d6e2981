"""Training runs: what they write, and that interrupting them changes nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from lingraft.checkpoint import load_model
from lingraft.errors import Interrupted, ModelError, RecipeError, StoreError, TrainingError
from lingraft.evaluation import BootstrapSettings, EvaluationSettings
from lingraft.evaluation.score_model import HeldoutMeasure
from lingraft.forecast.training_curve import ProgressForecast
from lingraft.formatting import with_interval
from lingraft.store import remove_drafts
from lingraft.strategies import STRATEGIES
from lingraft.strategies.quantised_layers import is_quantised
from lingraft.tokenizer import open_tokenizer
from lingraft.training import Execution
from lingraft.training.checkpointing import latest_checkpoint, save_checkpoint
from lingraft.training.phase_steps import TextSource, TrainingText
from lingraft.training.state import stop_signals
from tests.commands import start
from tests.conftest import ENGLISH, make_tiny_model
from tests.training_cases import (
    ADDED,
    Killed,
    log_of,
    packed,
    plan_of,
    run,
    two_streams,
    weights_of,
)

PLANS: dict[str, dict[str, Any]] = {
    **{
        name: {
            "strategy": {"layers": {"layers_per_end": 1}} if name == "layers" else name,
            "budget": "11 steps",
            "batch_tokens": 128,
        }
        for name in STRATEGIES.names()
    },
    "two phases": {
        "phases": [
            # The second kill is in step 3: the run resumes from the end of the first phase.
            {"strategy": "rows", "budget": "2 steps", "batch_tokens": 128},
            {"strategy": "differential", "budget": "9 steps", "batch_tokens": 128},
        ]
    },
    "average": {
        "strategy": "full",
        "budget": "11 steps",
        "batch_tokens": 128,
        "average_share": 0.5,
    },
    "dropout": {
        "strategy": {"lora": {"dropout": 0.3, "rank": 2}},
        "budget": "11 steps",
        "batch_tokens": 128,
    },
    "8 bits": {
        "strategy": "full",
        "budget": "11 steps",
        "batch_tokens": 128,
        "optimizer": "adamw8bit",
    },
    "4 bits": {
        "strategy": {"lora": {"base_precision": "nf4", "rank": 2}},
        "budget": "11 steps",
        "batch_tokens": 128,
    },
}
if find_spec("torchao"):  # an extra
    PLANS["bfloat16"] = {
        "phases": [
            {"strategy": "rows", "budget": "3 steps", "batch_tokens": 128},
            {
                "strategy": "full",
                "budget": "8 steps",
                "batch_tokens": 128,
                "optimizer": "adamw8bit_bfloat16",
                "average_share": 0.5,
            },
        ],
    }


@pytest.fixture(scope="module")
def text(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingText:
    return two_streams(tiny_model, tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Path, text: TrainingText, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folder of a finished run for each plan."""
    folders = {name: tmp_path_factory.mktemp("undisturbed") for name in PLANS}
    for name, folder in folders.items():
        run(tiny_model, text, plan_of(**PLANS[name]), folder, heldout=lambda _: {"hi": 1.0})
    return folders


def stopping(at: set[int], stop: Any) -> Any:
    """Return a held-out measure that calls `stop` when it is called for the given times."""
    calls = iter(range(1000))

    def heldout(_: Any) -> dict[str, float]:
        if next(calls) in at:
            stop()
        return {"hi": 1.0}

    return heldout


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("name", PLANS)
def test_a_killed_run_ends_bit_identical(
    name: str, tiny_model: Path, text: TrainingText, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """A run that is killed at three random steps and resumed gives the same weights and log."""
    draw = random.Random(name)
    for _ in range(3):
        with pytest.raises(Killed):
            run(
                tiny_model,
                text,
                plan_of(**PLANS[name]),
                tmp_path,
                heldout=stopping({draw.randrange(1, 5)}, kill),
            )
    run(tiny_model, text, plan_of(**PLANS[name]), tmp_path, heldout=lambda _: {"hi": 1.0})
    assert log_of(tmp_path) == log_of(undisturbed[name])
    assert_same_weights(tmp_path, undisturbed[name])


def test_a_run_resumes_where_text_does_not_reach_all_weights(
    text: TrainingText, tmp_path: Path
) -> None:
    """Layers that attend to an encoder get no gradient from text, and have no optimizer state."""
    sizes = {"vocab_size": 320, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ids, add_cross_attention=True))
    model.save_pretrained(tmp_path / "model")
    plan = plan_of(strategy="full", budget="5 steps", batch_tokens=64, weight_decay=0.1)
    run(tmp_path / "model", text, plan, tmp_path / "whole")
    stopped = stopping({4}, kill)
    with pytest.raises(Killed):
        run(tmp_path / "model", text, plan, tmp_path / "stopped", heldout=stopped)
    run(tmp_path / "model", text, plan, tmp_path / "stopped")
    assert_same_weights(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_held_out_curve_is_one_measure(
    every: int, tiny_model: Path, text: TrainingText, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """A stopped run that is resumed with another measure begins its curve again, and says so.

    Everything else of the log, and the weights, are those of an undisturbed run.
    """
    execution = Execution(checkpoint_steps=every)
    again = partial(run, tiny_model, text, plan_of(**PLANS["full"]), tmp_path, execution=execution)
    for curve in "ab":
        with pytest.raises(Killed):
            again(heldout=stopping({5}, kill), curve=curve)
    notes = again(heldout=lambda _: {"hi": 2.0}, curve="c")
    points = [record for record in log_of(tmp_path) if "heldout" in record]
    whole = [record for record in log_of(undisturbed["full"]) if "heldout" in record]
    assert {record["heldout"]["hi"] for record in points} == {2.0}
    begin, end = points[0]["step"], whole[-1]["step"]
    assert [record["step"] for record in points] == list(range(begin, end + 1))
    steps = [record for record in log_of(tmp_path) if "heldout" not in record]
    assert steps == [record for record in log_of(undisturbed["full"]) if "heldout" not in record]
    assert_same_weights(tmp_path, undisturbed["full"])
    warned = [text for text in notes.get("warnings", ()) if "held-out curve" in text]
    assert bool(warned) == bool(begin)
    assert all(f"begins at step {begin}: " in text for text in warned)


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = weights_of(one / "output" / "model"), weights_of(other / "output" / "model")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_signal_handler_that_is_not_of_python_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot be restored from Python, so the signal has its default effect after training."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with monkeypatch.context() as patched:
            patched.setattr(signal, "getsignal", lambda _number: None)
            with stop_signals() as stopped:
                signal.raise_signal(signal.SIGTERM)
                assert stopped() == "SIGTERM"
        assert {signal.getsignal(number) for number in earlier} == {signal.SIG_DFL}
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_so(
    number: signal.Signals,
    tiny_model: Path,
    text: TrainingText,
    undisturbed: dict[str, Path],
    tmp_path: Path,
) -> None:
    """SIGTERM and Ctrl-C finish and save the step, then raise; the next call resumes there.

    A second SIGTERM changes nothing: srun and others send it to all when one process has ended.
    """
    plan, before = plan_of(**PLANS["full"]), signal.getsignal(number)
    times = 2 if number == signal.SIGTERM else 1
    with pytest.raises(
        Interrupted, match=rf"stopped by {number.name} after step 4 of 11; progress is saved"
    ):
        run(
            tiny_model,
            text,
            plan,
            tmp_path,
            heldout=stopping({4}, lambda: [os.kill(os.getpid(), number) for _ in range(times)]),
        )
    assert signal.getsignal(number) is before
    saved = latest_checkpoint(tmp_path / "work")
    assert saved is not None
    assert saved.state["step"] == 4
    run(tiny_model, text, plan, tmp_path, heldout=lambda _: {"hi": 1.0})
    assert_same_weights(tmp_path, undisturbed["full"])


def test_a_process_killed_outright_loses_only_the_last_steps(
    tiny_model: Path, text: TrainingText, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """After `kill -9` within a step, the next process resumes and ends with the same weights."""
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import tests.training_cases as c; from lingraft.packing.blocks import Blocks;"
        "from lingraft.training.phase_steps import TrainingText;"
        "import json; seen = iter(range(99));"
        "b = Path(sys.argv[3]);"
        "text = TrainingText.of(Blocks.open(b / 'hi'), Blocks.open(b / 'en'), 0.2);"
        "c.run(Path(sys.argv[2]), text,"
        " c.plan_of(**json.loads(sys.argv[5])), Path(sys.argv[4]),"
        " heldout=lambda m:"
        " os.kill(os.getpid(), signal.SIGKILL) if next(seen) == 8 else {'hi': 1.0})"
    )
    arguments = [
        Path(__file__).parent.parent,
        tiny_model,
        text.target.folder.parent,
        tmp_path,
        json.dumps(PLANS["full"]),
    ]
    done = start("-c", script, *arguments, cwd=tmp_path).finish()
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = latest_checkpoint(tmp_path / "work")
    assert saved is not None
    assert saved.state["step"] == 6
    run(tiny_model, text, plan_of(**PLANS["full"]), tmp_path, heldout=lambda _: {"hi": 1.0})
    assert_same_weights(tmp_path, undisturbed["full"])


def test_the_folder_loads_and_keeps_the_types_of_the_source(tmp_path: Path) -> None:
    """A bfloat16 model trains in float32 and is saved in bfloat16, tied as before."""
    make_tiny_model(tmp_path, tied=True)
    load_model(tmp_path, dtype="bfloat16").save_pretrained(tmp_path)
    text = two_streams(tmp_path, tmp_path / "text")
    run(tmp_path, text, plan_of(**PLANS["rows"]), tmp_path)
    source, made = weights_of(tmp_path), weights_of(tmp_path / "output" / "model")
    assert source.keys() == made.keys()
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    assert [name for name in made if not torch.equal(made[name], source[name])] == [
        "model.embed_tokens.weight"
    ]
    changed = (
        (made["model.embed_tokens.weight"] != source["model.embed_tokens.weight"])
        .any(dim=1)
        .nonzero()
        .flatten()
    )
    assert set(changed.tolist()) <= set(ADDED)
    model = load_model(tmp_path / "output" / "model", dtype="stored")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.use_cache


def test_training_learns(tiny_model: Path, text: TrainingText, tmp_path: Path) -> None:
    """A few epochs over little text lower the loss, and the log counts every byte read."""
    notes = run(
        tiny_model,
        text,
        plan_of(
            strategy={"differential": {"base_rows": "added_rows"}},
            budget="4 epochs",
            batch_tokens=256,
            heldout_points=4,
        ),
        tmp_path,
        heldout=lambda _: {"hi": 1.0},
    )
    rows = [row for row in log_of(tmp_path) if "bits_per_byte" in row]
    assert rows[-1]["bits_per_byte"] < 0.7 * rows[0]["bits_per_byte"]
    assert notes["target_bytes"] == rows[-1]["target_bytes"] == 4 * text.target.summary.bytes
    assert notes["replay_share"] == pytest.approx(0.2, abs=0.01)
    assert notes["phases"][0]["epochs"]["text"] == pytest.approx(4)
    assert "follows the model's size" in notes["phases"][0]["learning_rates"]["why"]
    held = [row["step"] for row in log_of(tmp_path) if "heldout" in row]
    assert len(held) == 5
    assert (held[0], held[-1]) == (0, notes["steps"])


def test_the_loss_is_that_of_the_text_alone(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """The first logged value is the source model's bits per byte, each document read alone."""
    run(
        tiny_model,
        TrainingText.of(text.target),
        plan_of(strategy="full", budget="1 steps", batch_tokens=32),
        tmp_path,
    )
    row, model = log_of(tmp_path)[0], load_model(tiny_model, dtype="stored")
    from lingraft.packing.mixture import Mixture

    batch = Mixture.of([(text.target, 1.0)]).batch(0, 1)
    ids = torch.from_numpy(batch.inputs[0])
    inner = (ids[1:] == text.target.document_start).nonzero().flatten() + 1
    documents = ids.tensor_split(inner)
    assert len(documents) > 1
    read_alone = [model(input_ids=document[None]).logits[0] for document in documents]
    logits = torch.cat(read_alone).log_softmax(-1)
    wanted = [
        i
        for i, label in enumerate(batch.labels[0])
        if label >= 0 and label not in text.target.separators
    ]
    nats = -sum(float(logits[i, batch.labels[0, i]].detach()) for i in wanted)
    assert row["bits_per_byte"] == pytest.approx(nats / 0.6931471805599453 / batch.bytes, rel=1e-5)


def test_accumulation_changes_nothing_beyond_rounding(
    tiny_model: Path, text: TrainingText, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """A step in four forward passes is the step in one: execution is no part of the answer."""
    run(
        tiny_model, text, plan_of(**PLANS["full"]), tmp_path, execution=Execution(tokens_at_once=32)
    )
    whole, parts = (
        weights_of(folder / "output" / "model") for folder in (undisturbed["full"], tmp_path)
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=2e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(
    tiny_model: Path, text: TrainingText, tmp_path: Path, value: float
) -> None:
    """The error names the step and the last good checkpoint, which stays as it was."""

    def spoil(model: Any) -> dict[str, float]:
        if next(calls) == 5:
            model.get_output_embeddings().weight.data[3] = value
        return {"hi": 1.0}

    calls = iter(range(100))
    with pytest.raises(TrainingError, match=r"is (nan|inf) at step 6 of 11.*step-00000003"):
        run(tiny_model, text, plan_of(**PLANS["full"]), tmp_path, heldout=spoil)
    saved = latest_checkpoint(tmp_path / "work")
    assert saved is not None
    assert all(
        tensor.isfinite().all()
        for tensor in load_file(saved.folder / "tensors.safetensors").values()
    )


def test_null_turns_gradient_clipping_off(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """`max_grad_norm: null` trains as with a norm that no gradient reaches."""
    weights = []
    for number, norm in enumerate([{"max_grad_norm": None}, {"max_grad_norm": 1e9}, {}]):
        plan = plan_of(budget="2 steps", batch_tokens=128, strategy="full", **norm)
        run(tiny_model, text, plan, tmp_path / str(number))
        weights.append(weights_of(tmp_path / str(number) / "output" / "model"))
    without, huge, clipped = weights
    assert all(torch.equal(without[name], huge[name]) for name in without)
    assert not all(torch.equal(without[name], clipped[name]) for name in without)


def test_a_diverging_loss_stops_the_run(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A learning rate that is far too high is noticed, not trained through."""
    plan = plan_of(
        strategy="full",
        budget="200 steps",
        batch_tokens=64,
        learning_rates=4.0,
        schedule="constant",
        heldout_points=0,
    )
    with pytest.raises(TrainingError, match=r"diverges.*lower training\.learning_rates"):
        run(tiny_model, text, plan, tmp_path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """Half-written, altered or state-less checkpoints do not count: the one before does."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"a": torch.full((4,), float(step))}, {"n": step})
    (tmp_path / ".draft-step-00000003").mkdir()
    tensors = tmp_path / "step-00000002" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"n": 1}
    tensors_of = {"a": torch.zeros(4)}
    found.read(tensors_of)
    assert tensors_of["a"].tolist() == [1.0] * 4
    remove_drafts(tmp_path)
    assert not (tmp_path / ".draft-step-00000003").exists()
    state = tmp_path / "step-00000001" / "state.json"
    whole = state.read_text(encoding="utf-8")
    for damaged in (whole.replace('"n": 1', '"n": 7'), "[]", "null", whole[:-1]):
        assert damaged != whole
        state.write_text(damaged, encoding="utf-8")
        assert latest_checkpoint(tmp_path) is None
    state.write_text(whole, encoding="utf-8")
    assert latest_checkpoint(tmp_path) is not None
    state.unlink()
    assert latest_checkpoint(tmp_path) is None


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    """Older ones go when a newer one is whole."""
    for step in range(5):
        save_checkpoint(tmp_path, step, {"a": torch.zeros(1)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    """No room: a clear error, no draft left, and the checkpoint before is intact."""
    import resource

    save_checkpoint(tmp_path, 1, {"a": torch.zeros(4)}, {"n": 1})
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StoreError, match="no space left on the disk"):
            save_checkpoint(tmp_path, 2, {"a": torch.zeros(100_000)}, {"n": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert latest_checkpoint(tmp_path) is not None


@pytest.mark.parametrize("what", ["seed", "weights"])
def test_the_progress_of_another_run_is_refused(
    what: str, tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A scratch directory belongs to one plan, text, seed and model, of the same size or not."""
    other = shutil.copytree(tiny_model, tmp_path / "other")
    if what == "weights":
        tensors = load_file(other / "model.safetensors")
        tensors["model.norm.weight"] += 1
        save_file(tensors, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(Killed):
        run(tiny_model, text, plan_of(**PLANS["full"]), tmp_path, heldout=stopping({4}, kill))
    with pytest.raises(TrainingError, match="progress of another run"):
        run(other, text, plan_of(**PLANS["full"]), tmp_path, seed=int(what == "seed"))


def test_another_seed_is_another_run(
    tiny_model: Path, text: TrainingText, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """The seed decides the order of the rows."""
    run(tiny_model, text, plan_of(**PLANS["full"]), tmp_path, seed=1)
    assert log_of(tmp_path)[1] != log_of(undisturbed["full"])[1]


def test_a_quantised_model_is_measured_from_its_first_step_on(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """The held-out curve is that of the 4-bit layers that train, from step 0 on."""
    pytest.importorskip("bitsandbytes")
    quantised = []

    def heldout(model: Any) -> dict[str, float]:
        quantised.append(any(map(is_quantised, model.modules())))
        return {"hi": 1.0}

    plan = plan_of(**{**PLANS["4 bits"], "budget": "1 steps"})
    run(tiny_model, text, plan, tmp_path, heldout=heldout)
    assert quantised == [True, True]


def test_replay_is_asked_for_and_not_there(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A share of text that nobody named is an error, not a run without it."""
    with pytest.raises(RecipeError, match="there is no replay text"):
        run(
            tiny_model,
            TrainingText.of(text.target),
            plan_of(budget="2 steps", replay_share=0.2),
            tmp_path,
        )


def test_target_and_replay_are_logged_apart(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Each step says the bits per byte of both texts, which make up the whole by their bytes."""
    notes = run(
        tiny_model,
        text,
        plan_of(strategy="full", budget="1 epoch", batch_tokens=512, replay_share=0.5),
        tmp_path,
    )
    rows, before = [row for row in log_of(tmp_path) if "bits_per_byte" in row], (0, 0)
    for row in rows:
        target, replayed = (
            row["target_bytes"] - before[1],
            row["bytes"] - row["target_bytes"] - before[0] + before[1],
        )
        before = (row["bytes"], row["target_bytes"])
        bits = row["target_bits_per_byte"] * target + row["replay_bits_per_byte"] * replayed
        assert bits / (target + replayed) == pytest.approx(row["bits_per_byte"], rel=1e-6)
    assert notes["replay_share"] == pytest.approx(0.5, abs=0.02)
    assert notes["epochs"]["replay"] > 1


def test_each_of_several_targets_is_logged(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Bytes and bits per byte of each target in a step make up those of all targets in it."""
    other = packed(tiny_model, tmp_path / "other", ENGLISH)
    targets = TextSource(text.target, "hi", 0.75), TextSource(other, "en", 0.25)
    several = TrainingText(targets, text.replay)
    run(tiny_model, several, plan_of(budget="1 epoch", batch_tokens=96), tmp_path)
    rows = [row for row in log_of(tmp_path) if "bits_per_byte" in row]
    read = Counter()
    for row in rows:
        bits = 0.0
        for name, step in row["targets"].items():
            read[name] += step["bytes"]
            bits += step["bits_per_byte"] * step["bytes"]
        assert read.total() == row["target_bytes"]
        size = sum(step["bytes"] for step in row["targets"].values())
        assert bits / size == pytest.approx(row["target_bits_per_byte"], rel=1e-12)
    assert any(len(row["targets"]) == 1 for row in rows)
    assert read["hi"] / read.total() == pytest.approx(0.75, abs=0.05)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """What transformers cannot load is named in one line."""
    with pytest.raises(ModelError, match="not a causal language model that transformers knows"):
        load_model(tmp_path)


def test_a_plan_without_phases_trains_nothing(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """No phases: the model comes out as it went in."""
    notes = run(tiny_model, text, plan_of(phases=[]), tmp_path)
    made, source = weights_of(tmp_path / "output" / "model"), weights_of(tiny_model)
    assert notes["steps"] == 0
    assert all(torch.equal(made[name], source[name]) for name in source)


def test_the_end_is_predicted_while_training(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """The progress bar shows the predicted end of training, from the log and the planned rates."""
    plan = plan_of(
        strategy="full", budget="40 steps", batch_tokens=128, schedule="wsd", heldout_points=20
    )
    run(tiny_model, text, plan, tmp_path, heldout=lambda _: {"hi": 1.5, "en": 9.0})
    rows = log_of(tmp_path)
    progress = ProgressForecast(plan.phases[0].schedule.factor, 40)
    assert progress.update(tmp_path / "output" / "training.jsonl", 3) == ""
    shown = progress.update(tmp_path / "output" / "training.jsonl", 40)
    forecast = progress.predict(rows, 40)
    assert forecast is not None
    assert shown == f", held-out end {with_interval(forecast.value, forecast.low, forecast.high)}"
    assert 1 < forecast.value < 2  # of the first language, the target
    assert progress.update(tmp_path / "output" / "training.jsonl", 41) == shown


def test_the_log_names_what_training_loses(
    tiny_model: Path, text: TrainingText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Points of the curve have the gains; a loss since step 0 is in the log and printed."""
    gains = iter([2.0, 1.9, 0.5])

    def in_context(_model: Any) -> dict[str, dict[str, float]]:
        gain = next(gains)
        return {"copying gain": {"gain": gain, "low": gain - 0.1, "high": gain + 0.1}}

    plan = plan_of(strategy="full", budget="4 steps", batch_tokens=64, heldout_points=2)
    run(tiny_model, text, plan, tmp_path, heldout=lambda _: {"hi": 1.0}, in_context=in_context)
    points = [record for record in log_of(tmp_path) if "heldout" in record]
    assert [point["in_context"]["copying gain"]["gain"] for point in points] == [2.0, 1.9, 0.5]
    assert [point.get("lost") for point in points] == [None, None, ["copying gain"]]
    printed = "at step 4 of 4, the copying gain is 0.500 bits per byte, 2 before training"
    assert printed in capsys.readouterr().err


def test_a_resumed_run_has_the_gains_of_an_undisturbed_one(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Every point has the gain of documents, and a loss is one since step 0, also after a kill."""
    tokenizer = open_tokenizer(tiny_model)
    documents = {"en": [" ".join(ENGLISH * 6)[start:] for start in range(3)]}
    settings = EvaluationSettings(context=64, bootstrap=BootstrapSettings(resamples=20))
    measure = HeldoutMeasure(tokenizer, documents, settings, tokenizer)
    plan = plan_of(strategy="full", budget="5 steps", batch_tokens=64)

    def train_with(folder: Path, kill_at: int) -> None:
        measured = count()

        def in_context(_model: Any) -> dict[str, dict[str, float]]:
            number = next(measured)
            if number == kill_at:
                raise Killed
            gain = 0.5 if number else 2.0
            return {"copying gain": {"gain": gain, "low": gain, "high": gain}}

        run_again = partial(run, tiny_model, text, plan, folder, heldout=measure)
        if kill_at < 6:
            with pytest.raises(Killed):
                run_again(in_context=in_context)
        run_again(in_context=in_context)

    for name, kill_at in (("undisturbed", 6), ("killed", 5)):
        train_with(tmp_path / name, kill_at)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "undisturbed")
    points = [record for record in log_of(tmp_path / "killed") if "heldout" in record]
    name = "in-context gain at bytes 512 to 1,024 in en"
    assert [len({"copying gain", name} & {*point["in_context"]}) for point in points] == [2] * 6
    assert all("copying gain" in point["lost"] for point in points[1:])
    assert points[0]["in_context"][name]["n"] == 3
