"""Layers compiled by torch, when they are used, and attention within documents by flex attention.

torch's backend `eager` traces the layers and runs what it traced: names, weights, resuming and the
choice of steps are those of the real backend, which takes half a minute for a layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from lingraft.checkpoint import load_model
from lingraft.errors import RecipeError, TrainingError
from lingraft.packing.mixture import Mixture
from lingraft.training import Execution, compiled_layers, phase_setup
from lingraft.training.compiled_layers import (
    CompiledLayers,
    CompileTrial,
    StepCompiler,
    compile_problem,
)
from lingraft.training.distributed import ProcessGroup
from lingraft.training.document_attention import (
    FLEX,
    DocumentAttention,
    flex_attention_autocast,
    flex_problem,
)
from lingraft.training.document_mask import ROUNDING, masked_influence
from tests.conftest import HINDI
from tests.training_cases import (
    Killed,
    log_of,
    other_model,
    packed,
    plan_of,
    run,
    two_streams,
    weights_of,
)

# torch's tracer looks at gradients of intermediate results, and hides its own warning otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the graphs that are compiled in the test."""
    sizes: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(compiled_layers, "BACKEND", backend)
    return sizes


def test_a_run_resumes_with_compiled_layers(
    tiny_model: Path, tmp_path: Path, compiled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, log and names are those of a run without; held-out text is scored without them.

    Whether compiling is worth its time is decided by the steps that are left.
    """
    text, plan = two_streams(tiny_model, tmp_path / "text"), plan_of(budget="8 steps")
    run(tiny_model, text, plan, tmp_path / "plain", heldout=lambda _: {"hi": 1.0})
    assert not compiled

    def heldout(model: Any) -> dict[str, float]:
        assert not any("forward" in vars(module) for module in model.modules())
        # Step 3 is stored; the run is killed in step 5, and the next one compiles again.
        heldout.calls += 1
        if heldout.calls == 6:
            raise Killed
        return {"hi": 1.0}

    steps_left = []

    def compiler(model: Any, execution: Execution, steps: int, world: ProcessGroup) -> StepCompiler:
        steps_left.append(steps)
        return StepCompiler(model, execution, steps, world)

    monkeypatch.setattr(phase_setup, "StepCompiler", compiler)
    heldout.calls = 0
    off = Execution(compile="false", checkpoint_steps=3)
    on = Execution(compile="true", checkpoint_steps=3, recompute=True)
    with pytest.raises(Killed):
        run(tiny_model, text, plan, tmp_path / "both", execution=off, heldout=heldout)
    notes = run(tiny_model, text, plan, tmp_path / "both", execution=on, heldout=heldout)
    assert steps_left == [8, 5]
    assert notes["compile"] == "torch.compile: used"
    assert len(compiled) == 1, "layers of one class share their code"
    assert log_of(tmp_path / "both") == log_of(tmp_path / "plain")
    one, other = (weights_of(tmp_path / name / "output" / "model") for name in ("both", "plain"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_auto_measures_long_trainings_on_a_gpu_and_nothing_else(compiled: list[int]) -> None:
    """A CPU never compiles by itself; a short training does not; a gain too small is not used."""
    model, world = other_model("llama"), ProcessGroup()
    assert StepCompiler(model, Execution(), 10**6, world).layers is None
    assert StepCompiler(model, Execution(device="cuda", compile="false"), 9, world).layers is None
    assert StepCompiler(model, Execution(device="cuda"), 9, world).trial == CompileTrial(9)
    short, small = CompileTrial(remaining=500), CompileTrial(remaining=5000)
    for trial in (short, small):
        for seconds in [9.0, 1, 1, 1, 1, 1, 1, 60, 0.99, 0.99, 0.99, 0.99, 0.99, 0.99]:
            trial.step(seconds)
        assert trial.done
        assert not trial.uses
    assert short.line == ""
    assert (
        small.line == "torch.compile: 0.99 s for the passes of a step instead of 1.00 s: not used"
    )


def test_the_steps_of_a_trial_are_compiled_in_its_second_half(
    compiled: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first process decides for all, and says so in one line."""
    model, now = other_model("llama"), [0.0]
    monkeypatch.setattr(compiled_layers.time, "monotonic", lambda: now[0])
    compiler = StepCompiler(model, Execution(device="cuda"), 10**4, ProcessGroup())
    ids, used = torch.arange(8)[None], []
    for _ in range(16):
        with compiler.step():
            used.append("forward" in vars(compiler.layers.layers[0]))
            model(input_ids=ids, use_cache=False)
            now[0] += 1.0 if used[-1] else 2.0
    assert used == [False] * 7 + [True] * 9
    assert len(compiled) == 1
    line = "torch.compile: 1.00 s for the passes of a step instead of 2.00 s: used"
    assert capsys.readouterr().err.splitlines() == [compiler.note] == [line]


def test_where_layers_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`true` is refused with the reason; a failure in a step names the option."""
    model = other_model("llama")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compile_problem("cpu") == "on a CPU it needs the C++ compiler no-such-compiler"
    with pytest.raises(RecipeError, match="--compile true: on a CPU it needs the C"):
        StepCompiler(model, Execution(compile="true"), 9, ProcessGroup())
    monkeypatch.setattr(compiled_layers, "BACKEND", lambda *_: 1 / 0)
    monkeypatch.setattr(compiled_layers, "layer_stacks", lambda _: ["0"])
    stack, ones = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(2, 2)])), torch.ones(2)
    layers, (layer,) = CompiledLayers(stack), stack[0]
    with (
        pytest.raises(TrainingError, match=r"torch\.compile failed .*; use --compile false"),
        layers.applied(),
    ):
        layer(ones)
    with layers.applied(falls_back=True):
        found = layer(ones)
    assert torch.equal(found, layer(ones))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about transformers and torch
def test_flex_attention_attends_as_the_dense_mask(tiny_model: Path, tmp_path: Path) -> None:
    """Logits are equal up to rounding, and so they are where only another document differs."""
    blocks = packed(tiny_model, tmp_path, HINDI, block_size=60)
    model = load_model(tiny_model, dtype="stored")
    ids = Mixture.of([(blocks, 1.0)]).batch(0, 4).inputs
    dense = DocumentAttention.of(model, blocks.document_start, Execution())
    assert dense.note == "sdpa (flex attention has no backward pass on cpu)"
    flex = DocumentAttention(model, blocks.document_start, FLEX)
    inputs = {"input_ids": torch.from_numpy(ids), "position_ids": dense.positions(ids)}
    # Compiling flex attention for a CPU takes half a minute.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        with flex.applied():
            assert masked_influence(model) <= ROUNDING
        logits = []
        for attention in (dense, flex):
            with attention.applied():
                logits.append(model(**inputs, use_cache=False).logits)
        mixed = model(input_ids=inputs["input_ids"], use_cache=False).logits
        with torch.autocast("cpu", torch.bfloat16), flex.applied():
            rounded = model(**inputs, use_cache=False).logits
        heads = [
            torch.ones(1, 2, 8, 4, dtype=dtype) for dtype in (*[torch.float32] * 2, torch.bfloat16)
        ]
        with torch.autocast("cpu", torch.bfloat16):
            mixed_types, _ = flex_attention_autocast(model, *heads, None)
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(rounded.float(), logits[0], rtol=0.05, atol=0.05)
    assert mixed_types.dtype == torch.bfloat16
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(mixed, logits[0], atol=1e-2)


def test_where_flex_attention_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a GPU, compiled code, bfloat16, an architecture with it, and no dropout."""
    gpu = Execution(device="cuda")
    module = "lingraft.training.document_attention"
    monkeypatch.setattr(f"{module}.compile_problem", lambda _: "")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert flex_problem(other_model("llama"), gpu) == ""
    assert "has no backward pass on cpu" in flex_problem(other_model("llama"), Execution())
    assert "--compile is false" in flex_problem(
        other_model("llama"), Execution(device="cuda", compile="false")
    )
    exact = Execution(device="cuda", precision="float32")
    assert "in bfloat16 only" in flex_problem(other_model("llama"), exact)
    assert "does not support flex attention" in flex_problem(other_model("bloom"), gpu)
    dropping = other_model("llama")
    dropping.config.attention_dropout = 0.1
    assert "has no dropout" in flex_problem(dropping, gpu)
    monkeypatch.setattr(f"{module}.compile_problem", lambda _: "it needs the package triton")
    assert "it needs the package triton" in flex_problem(other_model("llama"), gpu)


def test_a_failure_of_compiled_layers_does_not_end_an_automatic_run(
    tiny_model: Path,
    tmp_path: Path,
    compiled: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Out of memory in a backward pass: the step is computed again, with the same random numbers.

    With `compile: true`, the run ends with an error.
    """
    text, plan = two_streams(tiny_model, tmp_path / "text"), plan_of(budget="3 steps")

    def out_of_memory(_: Any) -> None:
        torch.rand(9)
        raise torch.OutOfMemoryError("CUDA out of memory")

    def failing(*inputs: Any, **_: Any) -> Any:
        hidden = inputs[0] * 1
        hidden.register_hook(out_of_memory)
        return hidden

    def heldout(_: Any) -> dict[str, float]:
        return {"hi": float(torch.rand(1))}

    def compiler(model: Any, execution: Execution, steps: int, world: ProcessGroup) -> StepCompiler:
        made = StepCompiler(model, execution, steps, world)
        made.layers.forwards = [failing for _ in made.layers.layers]
        made.trial = trials.pop()
        return made

    run(tiny_model, text, plan, tmp_path / "plain", heldout=heldout)
    monkeypatch.setattr(phase_setup, "StepCompiler", compiler)
    on, trials = Execution(compile="true"), [None, CompileTrial(3, uses=True)]
    notes = run(tiny_model, text, plan, tmp_path / "failed", execution=on, heldout=heldout)
    said = "torch.compile: failed (OutOfMemoryError: CUDA out of memory): not used"
    assert notes["compile"] == said
    assert said in capsys.readouterr().err
    assert log_of(tmp_path / "failed")[1:] == log_of(tmp_path / "plain")[1:]
    one, other = (weights_of(tmp_path / name / "output" / "model") for name in ("failed", "plain"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(TrainingError, match=r"ran out of memory \(CUDA out of memory\)"):
        run(tiny_model, text, plan, tmp_path / "on", execution=on, heldout=heldout)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about transformers and torch
def test_flex_attention_that_cannot_train_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """If its backward pass fails, documents are kept apart by the dense mask; no gradient stays."""
    model, module = other_model("llama"), "lingraft.training.document_attention"

    def no_backward(module: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        output = (query + key + value).transpose(1, 2).contiguous()
        output.register_hook(lambda _: 1 / 0)
        return output, None

    monkeypatch.setattr(f"{module}.flex_problem", lambda *_: "")
    # Without a GPU, the mask of flex attention would be compiled.
    monkeypatch.setitem(AttentionInterface._global_mapping, FLEX, no_backward)
    with torch.compiler.set_stance("force_eager"):
        attention = DocumentAttention.of(model, 1, Execution())
    assert attention.note == ("sdpa (flex attention failed: ZeroDivisionError: division by zero)")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.config._attn_implementation == "sdpa"
