"""The targets of low-rank matrices in each kind of architecture, seen from the merged weights."""

from __future__ import annotations

import pytest
import torch

from lingraft.checkpoint.model_class import auto_class
from lingraft.errors import RecipeError
from lingraft.strategies import Lora
from tests.architecture_sweep import BASE_IDS, random_model, run
from tests.tiny_configs import tiny_config

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MOVED = {
    "llama": {*ATTENTION, "gate_proj", "up_proj", "down_proj"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "mamba2": {"in_proj"},
    "qwen3_moe": {*ATTENTION, "experts.gate_up_proj", "experts.down_proj"},
    "gpt_oss": {*ATTENTION, "experts.gate_up_proj", "experts.down_proj"},
    "deepseek_v3": {
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_b_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "experts.gate_up_proj",
        "experts.down_proj",
    },
    "gemma3": {*ATTENTION, "gate_proj", "up_proj", "down_proj"},
}


@pytest.mark.parametrize("kind", MOVED)
def test_matrices_are_on_every_map_that_the_layers_call(kind: str) -> None:
    """Fused layers, transposed ones and experts change, and merging does not change the logits."""
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    strategy = Lora(rank=4, alpha=8)
    groups = strategy.prepare(model, [])
    with torch.no_grad():
        for parameter in groups[0].parameters.values():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.05
            )
    trained = run(model, BASE_IDS)
    strategy.finish(model)
    torch.testing.assert_close(run(model, BASE_IDS), trained, rtol=1e-4, atol=1e-4)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    moved = {name for name, parameter in after.items() if not torch.equal(parameter, before[name])}
    assert {last_name(name) for name in moved} == MOVED[kind]
    assert not any("vision" in name for name in moved)


def last_name(name: str) -> str:
    """Return the last name of a map, or that of an experts' parameter with its module."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[-2] == "experts" else parts[-2]


def test_experts_can_be_left_frozen() -> None:
    """`experts: frozen` leaves them out; otherwise an expert has a share of the dense rank."""
    config = tiny_config("qwen3_moe")
    for experts, expected in (("train", {4, 8}), ("frozen", {8})):
        model = random_model(auto_class(config), config)
        matrices = Lora(rank=8, experts=experts).prepare(model, [])[0].parameters
        of_experts = {
            name: matrix
            for name, matrix in matrices.items()
            if "experts" in name and "lora_A" in name
        }
        ranks = {
            matrix.shape[0] // (4 if name in of_experts else 1)
            for name, matrix in matrices.items()
            if "lora_A" in name
        }
        assert ranks == expected
        assert bool(of_experts) == (experts == "train")


def test_a_map_that_kernels_read_past_is_named() -> None:
    """Mamba's kernel reads the weight of `out_proj` without calling the layer: it is no target."""
    config = tiny_config("mamba2")
    with pytest.raises(
        RecipeError, match=r"modules: out_proj not in this Mamba2ForCausalLM; it has in_proj"
    ):
        Lora(target_modules=("out_proj",)).prepare(random_model(auto_class(config), config), [])
