"""A base with random weights and a real tokenizer.

Use it if only the tokenizer of a model is available. Added tokens and splice are those of the real
model, and with its configuration so are speed and memory. Losses and generated text mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.bases.base import BASES, Base, BuildContext
from lingraft.bases.tokenizer_files import tokenizer_digests, write_tokenizer
from lingraft.checkpoint.config_files import context_of
from lingraft.errors import ModelError, TokenizerError, did_you_mean
from lingraft.store import expanded
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file

SMALL_BODY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}


@BASES.register
class RandomBase(Base):
    """A model of the given configuration with random weights."""

    name: ClassVar[str] = "random"
    reads_files: ClassVar[bool] = True

    tokenizer: str = Field(
        description="tokenizer file (tokenizer.json, tokenizer.model, *.tiktoken, vocab.json; "
        "also .gz), or a folder with one"
    )
    body: dict[str, Any] = Field(
        alias="config",
        default_factory=lambda: dict(SMALL_BODY),
        description="settings of the transformers model; model_type names the architecture",
    )
    special_tokens: Mapping[Literal["bos_token", "eos_token", "pad_token"], str] = Field(
        default_factory=dict,
        description="roles of special tokens that the tokenizer's files do not name: {eos_token: "
        "<|endoftext|>}",
    )
    seed: int = Field(default=0, description="seed of the weights")

    def chosen(self) -> dict[str, Any]:
        """Return the form in which recipes name it."""
        return {self.name: self.model_dump(mode="json", by_alias=True)}

    def identity(self) -> dict[str, Any]:
        """Return the hashes of the tokenizer's files, and the other settings."""
        self._open()  # refuses what is no tokenizer
        files = tokenizer_digests(tokenizer_file(expanded(self.tokenizer)))
        settings = self.model_dump(mode="json", by_alias=True, exclude={"tokenizer"})
        return {"random": 2, **settings, "tokenizer": files}

    def materialise(self, context: BuildContext) -> None:
        """Initialise the weights and save them with the tokenizer."""
        tokenizer = self._open()
        config = self._config(tokenizer)
        make_model(config, self.seed).save_pretrained(context.folder)
        write_tokenizer(tokenizer, context.folder, context=context_of(config.to_dict()) or 512)
        context.draft.notes["from"] = f"random weights, tokenizer {self.tokenizer}"

    def config(self) -> dict[str, Any]:
        """Return the content that config.json will have."""
        content: dict[str, Any] = self._config(self._open()).to_dict()
        return content

    def _open(self) -> ModelTokenizer:
        tokenizer = open_tokenizer(expanded(self.tokenizer))
        for token in self.special_tokens.values():
            if tokenizer.backend.token_to_id(token) is None:
                msg = (
                    f"model.random.special_tokens: {self.tokenizer} has no token {token!r}; name a "
                    "token that it has"
                )
                raise TokenizerError(msg)
        return replace(tokenizer, config={**tokenizer.config, **dict(self.special_tokens.items())})

    def _config(self, tokenizer: ModelTokenizer) -> Any:
        return model_config(self.body, tokenizer)


def model_config(body: dict[str, Any], tokenizer: ModelTokenizer) -> Any:
    """Build a transformers configuration for a tokenizer.

    Raises `ModelError` for settings that transformers does not accept.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    settings = {**SMALL_BODY, **body} if body.get("model_type", "llama") == "llama" else dict(body)
    kind = settings.pop("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        nearest = did_you_mean(str(kind), CONFIG_MAPPING_NAMES)
        msg = f"model: config.model_type: transformers has no {kind!r}; {nearest}"
        raise ModelError(msg)
    rows = settings.pop("vocab_size", tokenizer.size)
    if rows < tokenizer.size:
        msg = (
            f"the tokenizer does not fit the model: it has {tokenizer.size} ids, but the "
            f"configuration sets vocab_size {rows}; leave vocab_size out"
        )
        raise ModelError(msg)
    special = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    # The ids of the tokenizer are defaults: settings of the recipe take precedence.
    return AutoConfig.for_model(kind, **{**special, **settings}, vocab_size=rows)


def make_model(config: Any, seed: int) -> Any:
    """Return a causal language model in float32 whose weights depend only on the seed."""
    import torch
    from transformers import AutoModelForCausalLM

    # The caller's random state stays as it was. The weights are drawn on the CPU.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
