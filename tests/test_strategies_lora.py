"""The targets of low-rank matrices in each kind of architecture, seen from the merged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lingraft.checkpoint.load_model import load_for_training, meta_model
from lingraft.checkpoint.model_class import auto_class
from lingraft.errors import RecipeError
from lingraft.strategies import Lora, quantised_layers
from lingraft.training.mfu import multiplied_weights
from tests.architecture_sweep import BASE_IDS, build, random_model, run
from tests.tiny_configs import tiny_config

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
LATENT_ATTENTION = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}
EXPERTS = {"experts.gate_up_proj", "experts.down_proj"}
MOVED = {
    "llama": {*ATTENTION, *MLP},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "falcon": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "mamba2": {"in_proj"},
    "qwen3_moe": {*ATTENTION, *EXPERTS},
    "gpt_oss": {*ATTENTION, *EXPERTS},
    "deepseek_v3": {*LATENT_ATTENTION, *MLP, *EXPERTS},
    # Without the router, whose weight is read without calling it.
    "longcat_flash": {*LATENT_ATTENTION, *MLP, *EXPERTS},
    "hrm_text": {*ATTENTION, *MLP},
    "gemma3": {*ATTENTION, *MLP},
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


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_moe", "zamba", "gemma3"])
def test_the_matrices_are_counted_before_they_are_inserted(kind: str) -> None:
    """On a model without weights: those that PEFT inserts, and those that a token goes through."""
    config = tiny_config(kind)
    strategy = Lora(rank=4)
    model = random_model(auto_class(config), config)
    before = sum(count for _, count in multiplied_weights(model))
    (group,) = strategy.prepare(model, [])
    inserted = sum(parameter.numel() for parameter in group.parameters.values())
    used = sum(count for _, count in multiplied_weights(model)) - before
    assert strategy.inserted_weights(meta_model(config)) == (inserted, pytest.approx(used))
    assert (used < inserted) == (kind == "qwen3_moe")


@pytest.mark.parametrize("modules", [(), ("q_proj",)])
def test_weights_in_4_bits_are_counted_before_they_are_packed(modules: tuple[str, ...]) -> None:
    """On a model without weights: those of the layers that `move` replaces, and no others."""
    config = tiny_config("qwen3_moe")
    strategy = Lora(rank=4, base_precision="nf4", target_modules=modules)
    model = random_model(auto_class(config), config)
    before = {name: parameter.numel() for name, parameter in model.named_parameters()}
    strategy.move(model, "cpu")
    packed = [name for name, one in model.named_parameters() if one.dtype == torch.uint8]
    assert packed
    assert strategy.packed_weights(meta_model(config)) == sum(before[name] for name in packed)
    assert Lora(target_modules=modules).packed_weights(meta_model(config)) == 0


SHARED: list[tuple[str, dict[str, Any]]] = [
    ("zamba", {}),
    ("zamba2", {"num_hidden_layers": 4, "layers_block_type": ["mamba", *["hybrid"] * 3]}),
    (
        "zamba2",
        {"num_hidden_layers": 4, "layers_block_type": ["hybrid"] * 4, "num_mem_blocks": 2},
    ),
]


@pytest.mark.parametrize(("kind", "settings"), SHARED)
def test_layers_that_share_a_weight_share_its_matrices(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Zamba uses one block in several layers: merged and saved, it computes what was trained."""
    config = tiny_config(kind, **settings)
    model = random_model(auto_class(config), config)
    names = [name for name, _ in model.named_parameters()]
    strategy = Lora(rank=2, alpha=4)
    (body,) = strategy.prepare(model, [])
    with torch.no_grad():
        for parameter in body.parameters.values():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.2
            )
    trained = run(model, BASE_IDS)
    targets = {name.removesuffix("_A") for name in strategy.adapter_state(model)}
    assert len([name for name in body.parameters if ".lora_A." in name]) == len(targets) / 2
    strategy.finish(model)
    assert [name for name, _ in model.named_parameters()] == names
    torch.testing.assert_close(run(model, BASE_IDS), trained, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    saved = auto_class(config).from_pretrained(tmp_path).eval()
    assert torch.equal(run(saved, BASE_IDS), run(model, BASE_IDS))


def test_a_shared_weight_that_cannot_be_adapted_everywhere_is_refused() -> None:
    """A weight with another use, which has no matrices, is named, with what to do."""
    config = tiny_config("llama")
    model = random_model(auto_class(config), config)
    first, second = model.model.layers
    second.self_attn.q_proj = first.self_attn.q_proj
    with pytest.raises(
        RecipeError, match=r"layers.1.self_attn.q_proj.weight is the weight of .*0.*"
    ):
        Lora(rank=2).prepare(model, [])


def test_shared_weights_are_not_quantised() -> None:
    """4-bit copies of a shared weight would be merged each by itself: nf4 says so."""
    pytest.importorskip("bitsandbytes")
    config = tiny_config("zamba")
    model = random_model(auto_class(config), config)
    with pytest.raises(RecipeError, match=r"nf4: .* shares the weight of .*float32"):
        Lora(base_precision="nf4").check(model, "cpu")


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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mamba", {"in_proj"}),
        ("falcon_mamba", {"in_proj"}),
        # Its kernel has no arguments for the other two.
        ("jamba", {"in_proj", "x_proj", "out_proj"}),
    ],
)
def test_a_weight_that_is_read_in_any_form_is_no_target(kind: str, expected: set[str]) -> None:
    """Positional arguments of kernels and matrix products read past a layer, as keywords do."""
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    body = Lora(rank=2).prepare(model, [])[0].parameters
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in body}
    assert adapted & {"in_proj", "x_proj", "dt_proj", "out_proj"} == expected
    with torch.no_grad():
        for parameter in body.values():
            parameter.add_(0.01)
    model(input_ids=torch.tensor(BASE_IDS), use_cache=False).logits.square().sum().backward()
    # No token of this text may have gone to some expert.
    dead = {name for name, one in body.items() if one.grad is None or not one.grad.any()}
    assert not {name for name in dead if "expert" not in name}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("bloom", "dense dense_4h_to_h"),
        ("reformer", "query_key value"),
        ("gemma3n_text", "prediction_coefs"),
    ],
)
def test_a_weight_that_is_read_in_other_cases_than_training_is_a_target(
    kind: str, names: str
) -> None:
    """Bloom slices a weight for `slow_but_exact`; Reformer reshapes one where it has a cache.

    Gemma 3n clips the numbers of one before it calls the layer.
    """
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    Lora(target_modules=tuple(names.split())).check(model)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("deepseek_v4", "o_a_proj"), ("llama4_text", "router"), ("phimoe", "router")],
)
def test_a_linear_layer_that_computes_something_else_is_no_target(kind: str, name: str) -> None:
    """Grouped layers and routers are subclasses of `Linear`, but no product of input and weight."""
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    layers = [one for path, one in model.named_modules() if path.endswith(f".{name}")]
    assert layers
    assert all(isinstance(one, torch.nn.Linear) for one in layers)
    with pytest.raises(RecipeError, match=f"target_modules: {name} not in this"):
        Lora(target_modules=(name,)).check(model)


class OnDevice(TorchDispatchMode):
    """Follows the memory of the meta device: `peak` is the most bytes that it held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[StorageWeakRef, int]] = []
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {reference for reference, _ in self.held}
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.is_meta:
                reference = StorageWeakRef(one.untyped_storage())
                if reference not in known:
                    self.held.append((reference, one.untyped_storage().nbytes()))
        self.held = [(each, size) for each, size in self.held if not each.expired()]
        self.peak = max(self.peak, sum(size for _, size in self.held))
        return result


def test_a_base_is_quantised_on_its_way_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device holds one layer at a time in more than 4 bits; originals stay where they were."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(quantised_layers, "DEVICES", ("meta",))
    # bitsandbytes keeps a table on the device of its first call.
    monkeypatch.setattr("bitsandbytes.functional.name2qmap", {})
    config = tiny_config("llama", hidden_size=128, intermediate_size=256, num_hidden_layers=4)
    model = random_model(auto_class(config), config).bfloat16()
    weights = {name: one.weight for name, one in model.named_modules() if name.endswith("_proj")}
    sizes = [weight.numel() for weight in weights.values()]
    others = sum(one.numel() for one in model.parameters()) - sum(sizes)
    with OnDevice() as device:
        Lora(base_precision="nf4").move(model, "meta")
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        assert layer.weight.dtype == torch.uint8
        assert getattr(layer, quantised_layers.ORIGINAL).data_ptr() == weight.data_ptr()
    assert {one.device.type for one in model.parameters()} == {"meta"}
    # 4 bits with their scales, what is not quantised, and a layer in bfloat16 and in float32.
    assert device.peak < 0.6 * sum(sizes) + 4 * others + 6 * max(sizes) < 2 * sum(sizes)


def test_quantised_weights_do_not_depend_on_the_data_type_of_the_file(tmp_path: Path) -> None:
    """A base in bfloat16 computes and merges bit for bit what its copy in float32 does."""
    pytest.importorskip("bitsandbytes")
    folder = build("llama", tmp_path, dtype="bfloat16")
    results = []
    for dtype in ("stored", "float32"):
        model, _ = load_for_training(folder, dtype=dtype)
        strategy = Lora(rank=4, base_precision="nf4")
        strategy.move(model, "cpu")
        torch.manual_seed(0)
        (body,) = strategy.prepare(model, [])
        with torch.no_grad():
            for parameter in body.parameters.values():
                parameter.add_(torch.randn(parameter.shape) * 0.05)
        logits = run(model, BASE_IDS)
        strategy.finish(model)
        results.append([logits, *model.parameters()])
    for stored, copied in zip(*results, strict=True):
        assert stored.dtype == torch.float32
        assert torch.equal(stored, copied)
