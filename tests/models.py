"""Small random models of the supported architectures, each a real folder with a real tokenizer.

`ARCHITECTURES` maps a name to its builder. All models share one byte-level tokenizer of 320 ids,
learned from a few sentences; some have more rows than ids, as their published models do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.corpus.corpus import Counts
from lingraft.splice import AddedToken, Splice, identity_splice
from lingraft.tokenizer import open_tokenizer
from tests.conftest import ENGLISH, HINDI

IDS = 320
WIDTH = 32
SURFACES = ("कि", " ने", " पेड़", " children", "नदी", " बेटी", "ाता")


@dataclass(frozen=True)
class Architecture:
    """How to build a small random model of a kind."""

    config: str
    settings: Mapping[str, Any]
    rows: int = IDS
    tied: bool = False

    def build(
        self, folder: Path, *, dtype: str = "float32", seed: int = 0, shards: str | None = None
    ) -> Path:
        """Save the model and its tokenizer into a folder."""
        import torch
        import transformers

        folder.mkdir(parents=True, exist_ok=True)
        config = getattr(transformers, self.config)(
            vocab_size=self.rows,
            bos_token_id=318,
            eos_token_id=319,
            pad_token_id=None,
            **self.settings,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
            head = model.get_output_embeddings()
            if head.bias is not None:
                torch.nn.init.normal_(head.bias)
        model.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
        write_tokenizer(folder)
        return folder

    def build_with(self, rows: int, folder: Path, **settings: Any) -> Path:
        """Build it with so many rows."""
        return dataclasses.replace(self, rows=rows).build(folder, **settings)


def _llama_like(**settings: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        **settings,
    }


_GPT = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 64}
_FAIRSEQ = {"d_model": WIDTH, "ffn_dim": 48, "attention_heads": 4, "max_position_embeddings": 64}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("LlamaConfig", _llama_like()),
    "llama-tied": Architecture("LlamaConfig", _llama_like(tie_word_embeddings=True), tied=True),
    "mistral": Architecture("MistralConfig", _llama_like()),
    "gemma": Architecture("GemmaConfig", _llama_like(head_dim=8), tied=True),
    "qwen2": Architecture("Qwen2Config", _llama_like(), rows=336),
    "qwen2-tied": Architecture(
        "Qwen2Config", _llama_like(tie_word_embeddings=True), rows=336, tied=True
    ),
    "qwen3": Architecture("Qwen3Config", _llama_like(head_dim=8), rows=384),
    "gpt2": Architecture("GPT2Config", _GPT, tied=True),
    "gpt-j": Architecture("GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "neox": Architecture(
        "GPTNeoXConfig",
        {
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        },
        rows=352,
    ),
    "bloom": Architecture(
        "BloomConfig", {"hidden_size": WIDTH, "n_layer": 2, "n_head": 4}, tied=True
    ),
    "phi": Architecture("PhiConfig", _llama_like()),
    "opt": Architecture(
        "OPTConfig",
        {
            **_FAIRSEQ,
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": WIDTH,
        },
        tied=True,
    ),
    "xglm": Architecture("XGLMConfig", {**_FAIRSEQ, "num_layers": 2}, tied=True),
}


def write_tokenizer(folder: Path, surfaces: Sequence[str] = ()) -> None:
    """Write the tokenizer of 320 ids, extended by these surfaces."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_tokenizer_json(), encoding="utf-8")
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    if surfaces:
        data = open_tokenizer(folder).family.with_tokens([surface.encode() for surface in surfaces])
        (folder / "tokenizer.json").write_text(
            json.dumps(data, ensure_ascii=False), encoding="utf-8"
        )


def _tokenizer_json() -> str:
    from tokenizers import AddedToken as Special
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(
        Regex(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+"), "isolated"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=318, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(ENGLISH, trainer)
    tokenizer.add_special_tokens([Special("<s>", special=True), Special("</s>", special=True)])
    return str(tokenizer.to_str())


def extended_tokenizer(source: Path, folder: Path, surfaces: Sequence[str] = SURFACES) -> Splice:
    """Write the extended tokenizer into `folder`; return the splice from the one in `source`."""
    write_tokenizer(folder, surfaces)
    before, after = open_tokenizer(source), open_tokenizer(folder)
    added = [
        AddedToken(
            after.vocabulary.ids[text.encode()],
            text.encode(),
            tuple(before.encode([text])[0]),
            count=9 - i,
        )
        for i, text in enumerate(surfaces)
    ]
    return identity_splice(before.size, sorted(added, key=lambda token: token.id))


@dataclass(frozen=True)
class MemoryCorpus:
    """A corpus without files: the same interface, the texts in memory."""

    texts: tuple[str, ...] = (*HINDI, *ENGLISH)
    language: str = "hi"
    folder: Path = Path("in-memory")
    has_chats: bool = False

    def counts(self, _split: str) -> Counts:
        """Return how much text there is."""
        return Counts(
            len(self.texts),
            sum(map(len, self.texts)),
            sum(len(text.encode()) for text in self.texts),
        )

    def documents(self, _split: str) -> Any:
        """Yield the texts."""
        return iter(self.texts)

    def batches(self, _split: str, documents: int = 1000) -> Any:
        """Yield the texts in lists."""
        for begin in range(0, len(self.texts), documents):
            yield list(self.texts[begin : begin + documents])


Build = Callable[..., Path]


def resize_with_mean(source: Path, folder: Path, splice: Splice) -> dict[str, Any]:
    """Resize `source` with mean rows: from `folder`/tokenizer into `folder`/model; return notes."""
    from lingraft.checkpoint import resize_embeddings
    from lingraft.embeddings import INITS

    mean = INITS.parse("mean")
    return resize_embeddings(
        source,
        folder / "tokenizer",
        splice,
        input_init=mean,
        output_init=mean,
        output=folder / "model",
    )
