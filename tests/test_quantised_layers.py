"""Bases with quantised layers and plain embeddings: rows are added, training is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.pipeline import plan
from lingraft.pipeline.extension import extend
from lingraft.recipe import Recipe, Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from tests.architecture_sweep import BASE_IDS, build, run
from tests.models import IDS
from tests.short_adapt import write_texts

FP8 = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
    "modules_to_not_convert": ["lm_head"],
}
MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


def quantise_fp8(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a layer in FP8 with one scale per block of 128 by 128, as DeepSeek publishes it."""
    if not name.endswith("_proj.weight"):
        return {name: tensor}
    scale = tensor.float().abs().max() / 448
    blocks = torch.full((-(-tensor.shape[0] // 128), -(-tensor.shape[1] // 128)), float(scale))
    return {name: (tensor.float() / scale).to(torch.float8_e4m3fn), f"{name}_scale_inv": blocks}


def quantise_mxfp4(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return experts as blocks of 32 numbers of 4 bits with a scale, as GPT-OSS is published."""
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: tensor}
    experts, inputs, outputs = tensor.shape
    seed = torch.Generator().manual_seed(0)
    blocks = torch.randint(
        256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, generator=seed
    )
    scales = torch.full((experts, outputs, inputs // 32), 120, dtype=torch.uint8)
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}


CASES = {
    "fp8": ("qwen3", FP8, quantise_fp8, {}),
    "mxfp4": ("gpt_oss", MXFP4, quantise_mxfp4, {"intermediate_size": 64}),
}


@pytest.fixture(params=CASES)
def quantised(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Return the method, and a folder with layers quantised by it."""
    kind, settings, quantise, sizes = CASES[request.param]
    folder = build(kind, tmp_path / "source", dtype="bfloat16", **sizes)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            tensors |= quantise(name, tensor)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return request.param, folder


def recipe_of(folder: Path, root: Path) -> Recipe:
    write_texts(root)
    return parse_recipe(
        Tree(
            {
                "name": "x",
                "model": str(folder),
                "vocabulary": {"size": 20},
                "target": {"language": "hi", "corpus": str(root / "hi.jsonl")},
            }
        )
    )


def dequantised(method: str, folder: Path) -> torch.nn.Module:
    kind = {"fp8": transformers.FineGrainedFP8Config, "mxfp4": transformers.Mxfp4Config}[method]
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=kind(dequantize=True), dtype=torch.bfloat16
    ).eval()


@pytest.mark.filterwarnings("ignore")
def test_rows_are_added_next_to_quantised_layers(
    quantised: tuple[str, Path], tmp_path: Path
) -> None:
    """Layers stay byte for byte, new rows have the embedding's dtype, and the result loads."""
    method, source = quantised
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    extend(recipe_of(source, tmp_path), runtime, tmp_path / "out", log=lambda *_: None)
    before, after = Checkpoint.open(source), Checkpoint.open(tmp_path / "out")
    assert before.tensors.keys() == after.tensors.keys()
    for name, place in before.tensors.items():
        assert after.tensors[name].dtype == place.dtype
        if place.shape[0] != IDS:
            assert after.tensors[name].shape == place.shape
    ids = [BASE_IDS[0], BASE_IDS[0][::-1]]
    one, other = (run(dequantised(method, folder), ids) for folder in (source, tmp_path / "out"))
    assert torch.equal(other[..., :IDS], one[..., :IDS])
    assert bool(
        run(dequantised(method, tmp_path / "out"), [[IDS, IDS + 1, IDS + 5]]).isfinite().all()
    )


def test_quantised_layers_are_not_trained(quantised: tuple[str, Path], tmp_path: Path) -> None:
    """A run that would train and score such a base is refused with the command that dequantises."""
    method, source = quantised
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    with pytest.raises(ModelError, match=rf"quantised \({method}\).*dequantize=True"):
        plan(recipe_of(source, tmp_path), runtime)


def test_quantised_rows_are_refused(quantised: tuple[str, Path], tmp_path: Path) -> None:
    """Where the embedding is quantised as well, rows cannot be added."""
    method, source = quantised
    tensors = load_file(source / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].to(
        torch.float8_e4m3fn
    )
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    with pytest.raises(ModelError, match=rf"quantised \({method}\)"):
        extend(recipe_of(source, tmp_path), runtime, tmp_path / "out", log=lambda *_: None)
    assert not (tmp_path / "out").exists()
