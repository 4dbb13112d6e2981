"""A base with random weights and a real tokenizer.

Use it if only the tokenizer of a model is available. Added tokens and splice are those of the real
model, and with its configuration so are speed and memory. Losses and generated text mean nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.bases.base import BASES, Base, BuildContext
from lingraft.bases.tokenizer_files import tokenizer_digests, write_tokenizer
from lingraft.checkpoint.config_files import context_of, is_token_id
from lingraft.checkpoint.model_class import UNREADABLE, check_kind, reads_setting
from lingraft.errors import ModelError, TokenizerError, did_you_mean, one_line, shown
from lingraft.store import expanded
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file

DEFAULT_CONTEXT = 512
"""Tokens that a small model reads, and the context of a kind of model that has no limit."""

SMALL_BODY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": DEFAULT_CONTEXT,
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
        write_tokenizer(tokenizer, context.folder, context=context_length(config.to_dict()))
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
        return model_config(self.body, tokenizer.size, special_ids(tokenizer))


def context_length(config: dict[str, Any]) -> int:
    """Return the context of a model that is built here; 512 tokens if its kind has no limit."""
    return context_of(config) or DEFAULT_CONTEXT


def special_ids(tokenizer: ModelTokenizer) -> dict[str, int | None]:
    """Return the settings of config.json with the special ids of a tokenizer."""
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def model_config(body: Mapping[str, Any], tokens: int, special: Mapping[str, int | None]) -> Any:
    """Build a transformers configuration for a tokenizer with so many tokens and special ids.

    Raises `ModelError` for a kind of model that is not adapted, and for settings that it does not
    have or that transformers does not accept.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    # A deep copy, because transformers changes nested settings (rope_scaling) in place.
    settings = copy.deepcopy(dict(body))
    if settings.get("model_type", "llama") == "llama":
        settings = {**SMALL_BODY, **settings}
    kind = str(settings.pop("model_type"))
    if kind not in CONFIG_MAPPING_NAMES:
        nearest = did_you_mean(kind, CONFIG_MAPPING_NAMES)
        msg = f"model: config.model_type: transformers has no {kind!r}; {nearest}"
        raise ModelError(msg)
    rows = settings.pop("vocab_size", tokens)
    if not isinstance(rows, int) or rows < tokens:
        msg = (
            f"the tokenizer does not fit the model: it has {tokens} ids, but the "
            f"configuration sets vocab_size {shown(rows)}; leave vocab_size out"
        )
        raise ModelError(msg)
    with _refused_settings():
        # The ids of the tokenizer are defaults: settings of the recipe take precedence.
        config = AutoConfig.for_model(kind, **{**special, **settings}, vocab_size=rows)
        check_kind(config, "model: config.model_type")
        _check_names(settings, config)
    return config


def _check_names(settings: Mapping[str, Any], config: Any, where: str = "config") -> None:
    """Raise `ModelError` for a setting that no code of the model reads.

    transformers stores a setting of any name as an attribute. Some models read settings that their
    configuration does not declare, such as `head_dim` of Qwen2.
    """
    from transformers import PretrainedConfig

    default = type(config)()
    for name, value in settings.items():
        # Older names, such as rope_theta, are replaced by others and not stored.
        is_stored = name in vars(config)
        # A setting of null is one that is not set.
        is_declared = value is None or hasattr(default, name) or is_token_id(name)
        if is_stored and not is_declared and not reads_setting(type(config), name):
            known = [*default.attribute_map, *(key for key in vars(default) if key[0] != "_")]
            msg = (
                f"model: {where}.{name}: {config.model_type} has no such setting; "
                f"{did_you_mean(name, known)}"
            )
            raise ModelError(msg)
        part = getattr(config, name, None)
        if isinstance(part, PretrainedConfig) and isinstance(value, Mapping):
            _check_names(value, part, f"{where}.{name}")


@contextmanager
def _refused_settings() -> Iterator[None]:
    """Raise `ModelError` for settings that transformers cannot build a configuration or model of.

    Settings that do not fit together fail as wrong shapes, divisions by 0 or failed assertions.
    """
    try:
        yield
    except (*UNREADABLE, RuntimeError, ArithmeticError, AssertionError) as error:
        msg = (
            f"model: config: transformers refuses these settings ({one_line(error)}); correct the "
            "setting, or leave it out for its default"
        )
        raise ModelError(msg) from error


def check_buildable(config: Any) -> None:
    """Raise `ModelError` for a configuration that no model can be built from; takes no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), _refused_settings():
        AutoModelForCausalLM.from_config(config)


def make_model(config: Any, seed: int) -> Any:
    """Return a causal language model in float32 whose weights depend only on the seed.

    Raises `ModelError` for settings that the model cannot be built from.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # The caller's random state stays as it was. The weights are drawn on the CPU.
    with torch.random.fork_rng(devices=[]), _refused_settings():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
