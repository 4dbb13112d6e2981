"""Opening a model for several processes: shapes first, each process's numbers later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import TrainingError
from lingraft.strategies.lora import Lora
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.training import Execution
from lingraft.training.distributed import ProcessGroup
from lingraft.training.job import Job
from lingraft.training.phase_steps import TrainingText
from lingraft.training.prepare_model import load_phase_model, load_sharded, on_every_process
from lingraft.training.sharded_loading import MetaModel, NotByShardsError
from tests.models import ARCHITECTURES
from tests.training_cases import plan_of


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_opened_by_shards_a_model_is_what_it_is_whole(
    name: str, dtype: str, tmp_path: Path
) -> None:
    """A model built as shapes and read later has the same parameters, types and logits."""
    folder = ARCHITECTURES[name].build(tmp_path / "model", dtype=dtype, shards="20kB")
    whole, types = load_for_training(folder, "cpu")
    if name == "neox":
        with pytest.raises(NotByShardsError, match=r"the files have no|translates"):
            MetaModel.open(folder)
        return
    shapes = MetaModel.open(folder)
    read = embedding_parameters(shapes.model)
    assert {one for one, parameter in shapes.model.named_parameters() if not parameter.is_meta} == {
        *read
    }
    assert (
        shapes.model.get_input_embeddings().weight is shapes.model.get_output_embeddings().weight
    ) == (ARCHITECTURES[name].tied)
    assert shapes.types == types
    shapes.materialize()
    expected = dict(whole.named_parameters())
    assert {*expected} == {one for one, _ in shapes.model.named_parameters()}
    for one, parameter in shapes.model.named_parameters():
        assert torch.equal(parameter, expected[one]), one
        assert parameter.requires_grad == expected[one].requires_grad
    ids = torch.arange(1, 33)[None]
    with torch.no_grad():
        assert torch.equal(shapes.model.eval()(ids).logits, whole.eval()(ids).logits)


@pytest.mark.parametrize("case", ["kept in float32", "config.json says float32"])
def test_data_types_are_those_of_the_model_opened_whole(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers keeps in float32 is not rounded, and files in 16 bits are saved in 16."""
    folder = ARCHITECTURES["llama"].build(tmp_path / "model", dtype="bfloat16")
    norm, path = "model.layers.0.input_layernorm.weight", folder / "model.safetensors"
    if case == "kept in float32":
        monkeypatch.setattr(LlamaForCausalLM, "_keep_in_fp32_modules_strict", ["layernorm"])
        precise = {norm: torch.full((32,), 1.001)}
        save_file(load_file(path) | precise, path, {"format": "pt"})
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    whole, types = load_for_training(folder, "cpu")
    shapes = MetaModel.open(folder)
    assert shapes.types == types
    assert types[norm] == (torch.float32 if case == "kept in float32" else torch.bfloat16)
    shapes.materialize()
    expected = dict(whole.named_parameters())
    for name, parameter in shapes.model.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_a_strategy_that_reads_the_body_has_the_model_opened_whole(tiny_model: Path) -> None:
    """Where shapes are not enough, every process opens the model whole, and the notes say why."""
    opened = load_sharded(tiny_model, "cpu", whole=Lora.full_load_reason)
    assert opened.how == f"whole by every process: {Lora.full_load_reason}"
    assert not any(parameter.is_meta for parameter in opened.model.parameters())
    opened.materialize()
    assert load_sharded(tiny_model, "cpu").how == "shard by shard"


def test_a_base_that_will_be_quantised_is_loaded_in_main_memory(tmp_path: Path) -> None:
    """Its weights are not on the device, and as the files store them; no process has a shard."""
    folder = ARCHITECTURES["llama"].build(tmp_path / "model", dtype="bfloat16")
    plan = plan_of(strategy={"lora": {"base_precision": "nf4"}})
    job = Job(folder, TrainingText(()), plan, tmp_path, (), 0, Execution(device="meta"), None)
    loaded = load_phase_model(job, 0, 0, sharded=False)
    for parameter in loaded.model.parameters():
        assert (parameter.device.type, parameter.dtype) == ("cpu", torch.bfloat16)
    with pytest.raises(TrainingError, match=r"strategy lora stores weights in 4 bits.*one process"):
        load_phase_model(job, 0, 0, sharded=True)


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_a_model_in_main_memory_is_measured_in_its_stored_types(name: str, tmp_path: Path) -> None:
    """On the device it takes the memory of the finished model; the weights to merge stay."""
    folder = ARCHITECTURES[name].build(tmp_path / "model", dtype="bfloat16")
    model, types = load_for_training(folder)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def job(device: str) -> Job:
        execution = Execution(device=device)
        return Job(folder, TrainingText(()), plan_of(), tmp_path, (), 0, execution, None)

    with on_every_process(model, types, job("meta"), ProcessGroup()) as measured:
        for parameter in measured.parameters():
            assert (parameter.device.type, parameter.dtype) == ("meta", torch.bfloat16)
        assert all(buffer.is_meta for buffer in measured.buffers())
        assert len(list(measured.parameters())) == len(list(model.parameters()))
    for one, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[one])
        assert tensor.dtype is torch.float32
    with on_every_process(model, types, job("cpu"), ProcessGroup()) as measured:
        assert measured is model
