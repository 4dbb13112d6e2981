"""The sizes of a model: what a token costs is what torch counts while the model runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lingraft.pipeline.model_shape import Shape
from lingraft.training import Execution
from lingraft.training.mfu import Utilisation
from tests.tiny_configs import tiny_config

TOKENS = 64


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


@pytest.mark.parametrize("kind", ["gemma3", "mistral3", "llama4"])
def test_text_does_not_go_through_the_encoder_of_images(kind):
    """What a token is multiplied with is that of the language model alone."""
    config = tiny_config(kind)
    shape = Shape.of_config(config.to_dict())
    text = Shape.of_config(config.get_text_config().to_dict())
    assert shape.multiplied == text.multiplied
    assert shape.parameters > text.parameters


def test_of_an_unknown_type_only_rows_and_layers_are_known():
    """Its code comes with the model; nothing of it runs."""
    config = {"model_type": "unheard_of", "vocab_size": 320, "num_hidden_layers": 4}
    shape = Shape.of_config(config)
    assert shape == Shape(rows=320, layers=4)
    assert shape.flops(6, 1000) is None
    assert shape.resized(320, 20) == Shape(rows=384, layers=4)
    assert Shape.of_config({}) == Shape()
