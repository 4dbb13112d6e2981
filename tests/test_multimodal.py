"""Multimodal bases: their language model is adapted in place, and they read images as before."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from lingraft.checkpoint.gguf_architectures import complete_config
from lingraft.checkpoint.load_model import load_model
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError, RecipeError
from lingraft.recipe import Runtime
from lingraft.strategies.model_parts import text_module, text_parameters
from lingraft.trainers.callback import HandoverCallback
from lingraft.trainers.engines import ENGINES
from lingraft.trainers.returned_folder import check_format
from lingraft.trainers.write_folder import hand_over
from tests.architecture_sweep import build, extend, image_inputs, load
from tests.architecture_table import IMAGES
from tests.short_adapt import short_adapt, short_recipe

FAMILIES = (
    IMAGES
    if os.environ.get("LINGRAFT_ARCHITECTURES") == "all"
    else ("gemma3", "qwen2_5_vl", "mistral3")
)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_image_prompt_is_answered_as_before(kind: str, tmp_path: Path) -> None:
    """After the extension, the logits behind a random image are those of the source, to the bit."""
    found = extend(kind, tmp_path)
    inputs = image_inputs(found.before)
    other = {**inputs, "pixel_values": 1 - inputs["pixel_values"]}
    with torch.inference_mode():
        before, after, elsewhere = (
            model(**given, use_cache=False).logits
            for model, given in (
                (found.before, inputs),
                (found.after, inputs),
                (found.before, other),
            )
        )
    assert torch.equal(after[..., : before.shape[-1]], before)
    assert not torch.allclose(before, elsewhere)


def test_a_multimodal_model_is_adapted_in_place(tmp_path: Path) -> None:
    """Only weights that read text change, and the card says how to load the model."""
    source = build("gemma3", tmp_path / "source", dtype="bfloat16")
    companions = {
        "preprocessor_config.json": "{}",
        "processor_config.json": '{"image_seq_length": 4}',
        "additional_chat_templates/tools.jinja": "{{ tools }}",
        "LICENSE": "a licence",
    }
    for name, text in companions.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    finished = short_adapt(source, tmp_path)
    before, after = load(source)[0], load(finished.model_path)[0]
    assert type(before) is type(after)
    names = [Checkpoint.open(folder).tensors.keys() for folder in (source, finished.model_path)]
    assert names[0] == names[1]
    read = set(text_parameters(before))
    rest = {name: tensor for name, tensor in before.state_dict().items() if name not in read}
    assert any("vision_tower" in name for name in rest)
    assert any("projector" in name for name in rest)
    for name, tensor in rest.items():
        if name in dict(before.named_parameters()):
            assert torch.equal(after.state_dict()[name], tensor), name
    moved = [
        name
        for name in read
        if not torch.equal(
            after.state_dict()[name][: len(before.state_dict()[name])], before.state_dict()[name]
        )
    ]
    assert len(moved) > 20
    for name, text in companions.items():
        assert (finished.model_path / name).read_text() == text
    configs = [
        json.loads((folder / "config.json").read_text()) for folder in (source, finished.model_path)
    ]
    assert configs[0]["image_token_index"] == configs[1]["image_token_index"] == 301
    card = (finished.model_path / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-text-to-text"
    assert "AutoModelForImageTextToText.from_pretrained(" in card
    with torch.inference_mode():
        assert bool(after(**image_inputs(after), use_cache=False).logits.isfinite().all())


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_5_vl", "paligemma"])
def test_another_trainer_trains_a_multimodal_model_as_a_whole(kind: str, tmp_path: Path) -> None:
    """train.py loads and saves every part of it; text is read causally, what sees stays equal."""
    source = build(kind, tmp_path / "source")
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    recipe = short_recipe(source, tmp_path / "text", "training.packing.block_size=64")
    over = tmp_path / "over"
    hand_over(recipe, runtime, ENGINES["hf"], over)
    runpy.run_path(str(over / "train.py"))
    before, after = load(over / "model")[0], load(over / "trained")[0]
    assert type(before) is type(after)
    read, tensors = set(text_parameters(before)), after.state_dict()
    for name, tensor in before.named_parameters():
        if name not in read:
            assert torch.equal(tensors[name], tensor), name
    assert sum(not torch.equal(tensors[name], before.state_dict()[name]) for name in read) > 10
    names = [Checkpoint.open(over / folder).tensors.keys() for folder in ("model", "trained")]
    assert names[0] == names[1]


def test_the_language_model_of_a_multimodal_one_is_not_trained_alone(tmp_path: Path) -> None:
    """A trainer that loads it without the part that sees is stopped, and names the class."""
    plan = object.__new__(HandoverCallback)
    plan.folder = tmp_path
    record = SimpleNamespace(
        loads_with="AutoModelForImageTextToText", architecture="Qwen3_5ForX", folder="model"
    )
    plan.handover = SimpleNamespace(model=record)
    alone = AutoModelForCausalLM.from_pretrained(build("qwen3_5", tmp_path / "model"))
    with pytest.raises(RecipeError, match=r"load it with AutoModelForImageTextToText\."):
        plan.save(alone, tmp_path / "trained")
    assert not (tmp_path / "trained").exists()


def test_an_adapter_is_merged_into_the_whole_model(tmp_path: Path) -> None:
    """The call that merges it loads a multimodal model with its own class."""
    extended = build("gemma3", tmp_path / "model")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    name = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({name: torch.zeros(4, 32)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="import AutoModelForImageTextToText as M;"):
        check_format(tmp_path, extended)


def test_text_is_never_read_in_both_directions(tmp_path: Path) -> None:
    """PaliGemma reads prompts in both directions; its text is marked as text to be predicted."""
    model = load_model(build("paligemma", tmp_path))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, 7, 8, 20, 21]])
    with torch.inference_mode():
        for called in (model, model.base_model):
            out = called(input_ids=ids, use_cache=False)
            states = out.logits if called is model else out.last_hidden_state
            torch.testing.assert_close(states[0, :4], states[1, :4], rtol=0, atol=1e-6)


def test_the_language_model_of_a_multimodal_one_is_found(tmp_path: Path) -> None:
    """Strategies train the text module and the head; of a language model, everything."""
    multimodal, text = (load(build(kind, tmp_path / kind))[0] for kind in ("llava", "llama"))
    assert text_module(multimodal) == "model.language_model"
    assert text_module(text) == ""
    assert all(
        name.startswith(("model.language_model.", "lm_head."))
        for name in text_parameters(multimodal)
    )
    assert text_parameters(text).keys() == dict(text.named_parameters()).keys()


def test_a_model_that_needs_an_image_is_refused(tmp_path: Path) -> None:
    """Where the forward pass fails without an image, the error says so when the model is opened."""
    from lingraft.checkpoint.text_reading import read_text_alone

    model = load(build("llava", tmp_path))[0]
    model.register_forward_pre_hook(_wants_an_image)
    with pytest.raises(ModelError, match="does not run on text alone"):
        read_text_alone(model, tmp_path)


def _wants_an_image(*_: object) -> None:
    msg = "pixel_values must be given"
    raise ValueError(msg)


def test_gguf_of_a_multimodal_model_is_left_to_llama_cpp(tmp_path: Path) -> None:
    """It is two files there; the error says so."""
    source = build("gemma3", tmp_path)
    with pytest.raises(ModelError, match="image encoder in two files"):
        complete_config(json.loads((source / "config.json").read_text()))
    shutil.rmtree(source)
