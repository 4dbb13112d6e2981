"""A tiny model with its tokenizer, made in a second without a download, for examples and tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from lingraft.miniature import stories

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def example_model(
    language: str = "en", *, vocabulary: int = 512, width: int = 32, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a two-layer Llama with random weights, and a byte-level tokenizer of this language.

    The tokenizer is learned from generated stories (`lingraft.miniature`). Each call returns new
    objects, with the same ids and weights for the same arguments.

    >>> model, tokenizer = example_model()
    >>> len(tokenizer), model.get_input_embeddings().weight.shape
    (512, torch.Size([512, 32]))
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_tokenizer_json(language, vocabulary))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    # Without a fork, the seed would change what the caller draws afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval(), tokenizer


@cache
def _tokenizer_json(language: str, vocabulary: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories(language, count=100), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL.values()])
    return str(tokenizer.to_str())
