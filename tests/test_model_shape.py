"""The sizes of a model: what a token costs is what torch counts while the model runs."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from lingraft.checkpoint import load_model
from lingraft.checkpoint.experts import is_expert
from lingraft.pipeline.model_shape import Shape, model_of
from lingraft.strategies import STRATEGIES
from lingraft.training import Execution
from lingraft.training.mfu import Utilisation, multiplied_weights
from tests.conftest import make_tiny_model
from tests.tiny_configs import tiny_config

TOKENS = 64
ADDED = (300, 305, 306, 311)


@pytest.mark.parametrize(
    "kind",
    ["llama", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", "glm4_moe", "granitemoe", "olmoe"],
)
def test_a_token_is_multiplied_with_the_experts_that_it_goes_through(kind):
    """Products with matrices are counted; norms and biases, which are no matrices, are added.

    The head counts, the lookup of the input embedding does not. qwen2_moe and glm4_moe have experts
    that every token goes through.
    """
    from transformers import AutoModelForCausalLM

    config = tiny_config(kind)
    # The products that run experts as one batch are not counted by torch.
    model = AutoModelForCausalLM.from_config(
        config, experts_implementation="eager", attn_implementation="sdpa"
    ).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(TOKENS)[None] % 50, use_cache=False)
    vectors = sum(one.numel() for one in model.parameters() if one.dim() < 2)
    shape = Shape.of_config(config.to_dict())
    assert counter.get_total_flops() == 2 * TOKENS * (shape.multiplied - vectors)
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    assert Utilisation.of(model, Execution(), 1).flops_a_token == 6 * shape.multiplied
    assert shape.serving.per_token(0) == 2 * shape.multiplied


def test_layers_that_attend_to_images_are_skipped_by_text():
    """Mllama leaves out its layers of cross-attention where there is no image."""
    from transformers import AutoModelForImageTextToText

    config = tiny_config("mllama")
    config.text_config.cross_attention_layers = [1]
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(TOKENS)[None] % 50, use_cache=False)
    counted = counter.get_total_flops() / (2 * TOKENS)
    multiplied = [weight for weight, _ in multiplied_weights(model) if weight.dim() > 1]
    assert counted == sum(weight.numel() for weight in multiplied)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("strategy", ["differential", "rows"])
def test_added_rows_of_an_untied_input_embedding_are_looked_up(tmp_path, tied, strategy):
    """In training they are a parameter of their own; those of the head multiply."""
    make_tiny_model(tmp_path, tied=tied)
    model = load_model(tmp_path)
    before = sum(count for _, count in multiplied_weights(model))
    STRATEGIES.parse(strategy).prepare(model, ADDED)
    after = sum(count for _, count in multiplied_weights(model))
    width = model.config.hidden_size
    assert after == before + len(ADDED) * width


@pytest.mark.parametrize("kind", ["gemma3", "mistral3", "llama4"])
def test_text_does_not_go_through_the_encoder_of_images(kind):
    """What a token is multiplied with is that of the language model alone."""
    config = tiny_config(kind)
    shape = Shape.of_config(config.to_dict())
    text = Shape.of_config(config.get_text_config().to_dict())
    assert shape.multiplied == text.multiplied
    assert shape.parameters > text.parameters


@pytest.mark.parametrize("kind", ["gemma3n_text", "gpt2"])
def test_tables_that_are_looked_up_multiply_nothing(kind):
    """Embeddings of ids for each layer, and of positions, cost a token no products."""
    config = tiny_config(kind)
    model, shape = model_of(config.to_dict()), Shape.of_config(config.to_dict())
    head = model.get_output_embeddings().weight.numel()
    linear = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if not re.search(r"embed_tokens|wte|wpe|lm_head", name)
    )
    assert shape.multiplied == linear + head


def test_a_new_row_is_one_of_each_table():
    """Gemma 3n grows by the rows of its embedding and of its embeddings for each layer."""
    sizes = {"vocab_size": 320, "vocab_size_per_layer_input": 320}
    small = tiny_config("gemma3n_text", **sizes)
    large = tiny_config("gemma3n_text", **dict.fromkeys(sizes, 384))
    grown = Shape.of_config(small.to_dict()).resized(320, 20)
    assert grown == Shape.of_config(large.to_dict())
    assert grown.table_width > 0


def test_weights_that_transformers_does_not_load_cost_nothing(tmp_path):
    """A layer for the prediction of several tokens is stored, and no text goes through it."""
    from transformers import AutoModelForCausalLM

    config = tiny_config("glm4_moe")
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    before = Shape.of(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    last = f"layers.{config.num_hidden_layers - 1}."
    further = f"layers.{config.num_hidden_layers}."
    more = {
        name.replace(last, further): one.clone() for name, one in weights.items() if last in name
    }
    save_file({**weights, **more}, tmp_path / "model.safetensors", {"format": "pt"})
    after = Shape.of(tmp_path)
    assert after.parameters == before.parameters + sum(one.numel() for one in more.values())
    assert (after.multiplied, after.serving) == (before.multiplied, before.serving)
    assert before.multiplied == Shape.of_config(config.to_dict()).multiplied


def test_experts_that_differ_by_layer_count_by_their_mean():
    """HunYuan's configurations have a list; JetMoE names the experts of its MLP otherwise."""
    idle = {}
    for active in (1, 2, 3, [1, 2], [1, 3]):
        config = tiny_config("hunyuan_v1_moe", num_hidden_layers=2, num_experts=4, moe_topk=active)
        idle[str(active)] = Shape.of_config(config.to_dict()).idle
    assert idle["1"] > idle["2"] > idle["3"] > 0
    assert idle["[1, 3]"] == idle["2"]
    assert idle["[1, 2]"] == pytest.approx((idle["1"] + idle["2"]) / 2, abs=1)
    jet = model_of(tiny_config("jetmoe").to_dict())
    stacked = {
        name for name, one in jet.named_parameters() if one.dim() == 3 and "conv" not in name
    }
    assert stacked
    assert all(map(is_expert, stacked))


def test_of_an_unknown_type_only_rows_and_layers_are_known():
    """Its code comes with the model; nothing of it runs."""
    config = {"model_type": "unheard_of", "vocab_size": 320, "num_hidden_layers": 4}
    shape = Shape.of_config(config)
    assert shape == Shape(rows=320, layers=4)
    assert shape.flops(6, 1000) is None
    assert shape.resized(320, 20) == Shape(rows=384, layers=4)
    assert Shape.of_config({}) == Shape()
