"""Small stand-ins of repositories on the Hub, each with the layout of the real one.

A model has the file names, the configuration (with smaller sizes), the data type, the names of
tensors and the kind of tokenizer of the published one; its weights are random. A data set has the
configurations, file names and columns of the published one, with a few sentences as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lingraft.tokenizer.convert import QWEN_REGEX
from tests.conftest import ENGLISH, HINDI
from tests.published_layouts import LAYOUTS, take_tensors, write_shards
from tests.small_bases import byte_level, gemma, llama3

Json = dict[str, Any]


def _pythia_tokenizer() -> Json:
    data = byte_level(specials=("<|endoftext|>", "<|padding|>"))
    byte_level_parts = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {**data, "normalizer": {"type": "NFC"}, "pre_tokenizer": byte_level_parts}


def _smollm2_tokenizer() -> Json:
    data = byte_level(specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    parts = [
        {"type": "Digits", "individual_digits": True},
        {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
    ]
    return {**data, "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}}


def _qwen_tokenizer() -> Json:
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return {**byte_level(pattern=QWEN_REGEX, specials=specials), "normalizer": {"type": "NFC"}}


def _llama3_tokenizer() -> Json:
    return _with_first(llama3(), "<|begin_of_text|>")


def _gemma_tokenizer() -> Json:
    text = json.dumps(gemma()).replace('"<s>"', '"<eos>"').replace('"</s>"', '"<bos>"')
    data = json.loads(text)
    first, size = data["added_tokens"][0], len(data["model"]["vocab"])
    for content in ("<pad>", "<mask>"):
        data["added_tokens"].append({**first, "id": size, "content": content})
        size += 1
    return _with_first(data, "<bos>")


def _with_first(data: Json, name: str) -> Json:
    """Return a tokenizer that puts a token before each text."""
    begin = next(one for one in data["added_tokens"] if one["content"] == name)
    first = {"SpecialToken": {"id": begin["content"], "type_id": 0}}
    text, other = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    known = {"id": begin["content"], "ids": [begin["id"]], "tokens": [begin["content"]]}
    template = {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, first, other],
        "special_tokens": {begin["content"]: known},
    }
    return {**data, "post_processor": template}


_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|endoftext|>",
    "head_dim": 8,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 384,
}
_QWEN_NAMES = {
    "tokenizer_class": "Qwen2Tokenizer",
    "bos_token": None,
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}",
}
_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
_LLAMA3_ROPE = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
_GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": "<eos>",
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 4,
    "model_type": "gemma3",
    "text_config": {  # published without vocab_size, which is the default of the type
        "head_dim": 8,
        "hidden_size": 8,
        "intermediate_size": 16,
        "model_type": "gemma3_text",
        "num_attention_heads": 2,
        "num_hidden_layers": 6,
        "num_key_value_heads": 1,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 64,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {
        "hidden_size": 32,
        "image_size": 56,
        "intermediate_size": 48,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


@dataclass(frozen=True)
class Published:
    """A published model: configuration, tokenizer, and which files its repository has.

    The configuration names special tokens; `write_model` puts their ids in.
    """

    config: Json
    tokenizer: Callable[[], Json]
    tokenizer_config: Json
    dtype: str = "bfloat16"
    shards: int = 1
    renames: tuple[tuple[str, str], ...] = ()
    has_vocabulary_files: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False


MODELS: Mapping[str, Published] = {
    "EleutherAI/pythia-14m": Published(
        {
            "architectures": ["GPTNeoXForCausalLM"],
            "attention_bias": True,
            "bos_token_id": "<|endoftext|>",
            "classifier_dropout": 0.1,
            "eos_token_id": "<|endoftext|>",
            "hidden_act": "gelu",
            "hidden_size": 32,
            "initializer_range": 0.02,
            "intermediate_size": 48,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 2048,
            "model_type": "gpt_neox",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "use_cache": True,
            "use_parallel_residual": True,
            "vocab_size": 352,
        },
        _pythia_tokenizer,
        {"tokenizer_class": "GPTNeoXTokenizer", "eos_token": "<|endoftext|>"},
        dtype="float16",
        files={"pytorch_model.bin": "pickled weights"},
    ),
    "HuggingFaceTB/SmolLM2-135M": Published(
        {
            **_LLAMA,
            "bos_token_id": "<|endoftext|>",
            "eos_token_id": "<|endoftext|>",
            "is_llama_config": True,
            "max_position_embeddings": 8192,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "vocab_size": 333,
        },
        _smollm2_tokenizer,
        {
            "tokenizer_class": "GPT2Tokenizer",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
        },
        has_vocabulary_files=True,
    ),
    "Qwen/Qwen3-0.6B-Base": Published(
        {**_QWEN3, "tie_word_embeddings": True},
        _qwen_tokenizer,
        _QWEN_NAMES,
        has_vocabulary_files=True,
        files={"LICENSE": "Apache License"},
    ),
    "Qwen/Qwen3-8B-Base": Published(
        {**_QWEN3, "tie_word_embeddings": False},
        _qwen_tokenizer,
        _QWEN_NAMES,
        shards=5,
        has_vocabulary_files=True,
        files={"LICENSE": "Apache License"},
    ),
    "meta-llama/Llama-3.2-1B": Published(
        {
            **_LLAMA,
            "bos_token_id": "<|begin_of_text|>",
            "eos_token_id": "<|end_of_text|>",
            "head_dim": 8,
            "max_position_embeddings": 131072,
            "rope_scaling": _LLAMA3_ROPE,
            "rope_theta": 500000.0,
            "vocab_size": 333,
        },
        _llama3_tokenizer,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
        },
        files={
            "LICENSE.txt": "Llama 3.2 Community License",
            "USE_POLICY.md": "policy",
            "original/consolidated.00.pth": "pickled weights",
            "original/params.json": "{}",
            "original/tokenizer.model": "ranks",
        },
        gated=True,
    ),
    "google/gemma-3-4b-pt": Published(
        _GEMMA3,
        _gemma_tokenizer,
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        shards=2,
        renames=LAYOUTS["Gemma 3"].renames,
        files={
            "preprocessor_config.json": '{"image_processor_type": "Gemma3ImageProcessor"}',
            "processor_config.json": '{"image_seq_length": 4}',
        },
        gated=True,
    ),
}


def write_model(name: str, folder: Path) -> None:
    """Write the stand-in of a model of `MODELS`."""
    import torch
    from transformers import AutoConfig

    from lingraft.checkpoint.model_class import auto_class

    published = MODELS[name]
    tokenizer = published.tokenizer()
    written_config = _with_ids(published.config, tokenizer)
    config = AutoConfig.for_model(**json.loads(json.dumps(written_config)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto_class(config).from_config(config).to(getattr(torch, published.dtype))
    model.save_pretrained(folder)
    write_shards(take_tensors(folder, published.renames), folder, published.shards)
    files: dict[str, Any] = {
        "config.json": written_config,
        "generation_config.json": {"eos_token_id": written_config["eos_token_id"]},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": published.tokenizer_config,
    }
    written = {name: json.dumps(content) for name, content in files.items()}
    if published.has_vocabulary_files:
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in _merges(tokenizer))
        written["vocab.json"] = json.dumps(tokenizer["model"]["vocab"])
        written["merges.txt"] = "\n".join(["#version: 0.2", *pairs])
    for path, content in {**written, **published.files}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def _with_ids(config: Json, tokenizer: Json) -> Json:
    """Return a configuration with the ids of the special tokens that it names."""
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    return {
        key: ids.get(value, value) if isinstance(value, str) else value
        for key, value in config.items()
    }


def _merges(tokenizer: Json) -> list[Any]:
    return list(tokenizer["model"]["merges"])


@dataclass(frozen=True)
class Configuration:
    """A configuration of a data set: its name, the folder of its files, and its text."""

    name: str
    folder: str
    sentences: Sequence[str]
    columns: tuple[str, ...]
    splits: tuple[str, ...] = ("train",)


_WEB = ("id", "dump", "url", "date", "file_path", "language", "language_script")
_PAGE = ("id", "url", "title")
TELUGU = (
    "ముసలి రైతు తన కూతురికి ఎర్రని ఆపిల్ ఇచ్చాడు.",
    "పచ్చని చెట్టు మీద చిన్న పక్షి పాడుతోంది.",
    "ఉదయం పిల్లలు నది వైపు నడుస్తారు.",
    "ఆమె తన అన్న రాసిన ఉత్తరం చదువుతోంది.",
)

DATA_SETS: Mapping[str, tuple[Configuration, ...]] = {
    "HuggingFaceFW/fineweb-2": (
        Configuration("hin_Deva", "data/hin_Deva/{split}", HINDI, _WEB, ("train", "test")),
        Configuration("tel_Telu", "data/tel_Telu/{split}", TELUGU, _WEB, ("train", "test")),
    ),
    "HuggingFaceFW/fineweb-edu": (
        Configuration("sample-10BT", "sample/10BT", ENGLISH, (*_WEB[:3], "token_count", "score")),
    ),
    "wikimedia/wikipedia": (
        Configuration("20231101.en", "20231101.en", ENGLISH, _PAGE),
        Configuration("20231101.hi", "20231101.hi", HINDI, _PAGE),
        Configuration("20231101.te", "20231101.te", TELUGU, _PAGE),
    ),
}


def write_data_set(name: str, folder: Path) -> None:
    """Write the stand-in of a data set of `DATA_SETS`."""
    listed = []
    for configuration in DATA_SETS[name]:
        data_files = []
        for split in configuration.splits:
            place = configuration.folder.format(split=split)
            (folder / place).mkdir(parents=True)
            pq.write_table(
                _table(configuration), folder / place / "000_00000.parquet", row_group_size=50
            )
            data_files.append({"split": split, "path": f"{place}/*.parquet"})
        listed.append({"config_name": configuration.name, "data_files": data_files})
    card = f"---\n{yaml.safe_dump({'configs': listed})}---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")


def _table(configuration: Configuration) -> pa.Table:
    rows = range(200)
    columns = {name: [f"{name} {row}" for row in rows] for name in configuration.columns}
    texts = [f"{configuration.sentences[row % 4]} {row}" for row in rows]
    return pa.table({"text": texts, **columns})
