"""GGUF files: tokens and numbers read back equal; a model that would differ is refused.

Real llama.cpp, which `make test` installs if there is npm, gives equal ids and equal greedy tokens
on small trained models.
"""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from lingraft.errors import ModelError, RecipeError
from lingraft.export import export_gguf
from lingraft.export.gguf_architectures import ARCHITECTURES, rope_factors
from lingraft.export.gguf_tokenizer import BYTE, CONTROL, UNKNOWN, UNUSED, gguf_tokens
from lingraft.pretokenizer import make_mark_aware
from lingraft.pretokenizer.llama_cpp_names import NAMES, llama_cpp_name
from lingraft.splice import identity_splice
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.small_bases import byte_level, sentencepiece

gguf = pytest.importorskip("gguf")

LLAMA_CPP = Path(__file__).parent.parent / ".venv" / "llama.cpp"
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def write_byte_level(folder: Path) -> None:
    """Write a byte-level tokenizer of the folder's own."""
    (folder / "tokenizer.json").write_text(
        json.dumps(byte_level([*ENGLISH, *HINDI], size=400)), encoding="utf-8"
    )


def write_sentencepiece(folder: Path) -> None:
    """Write a tokenizer.model, as SentencePiece learns it, and the tokenizer.json that it means."""
    learned = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*ENGLISH, *HINDI]),
        model_writer=learned,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(learned.getvalue())
    opened = open_tokenizer(folder)
    save_tokenizer(opened, opened.family.data, identity_splice(opened.size), folder)


MODELS = {
    "llama": ("LlamaConfig", SMALL, write_sentencepiece),
    "llama-tied": ("LlamaConfig", {**SMALL, "tie_word_embeddings": True}, write_byte_level),
    "llama-scaled": ("LlamaConfig", {**SMALL, "rope_parameters": SCALED}, write_byte_level),
    "mistral": ("MistralConfig", {**SMALL, "sliding_window": None}, write_sentencepiece),
    "qwen2": ("Qwen2Config", SMALL, write_byte_level),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024},
        write_byte_level,
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        {key: value for key, value in SMALL.items() if key != "num_key_value_heads"},
        write_byte_level,
    ),
}
ROWS = 420
TEXTS = [
    *ENGLISH,
    *HINDI,
    "12 shells, naïve 🙂  two  spaces\n\nand lines",
    " leads",
    "it's WE'LL don't",
]


@pytest.fixture(scope="module", params=MODELS)
def trained(request, tmp_path_factory) -> Path:
    """Return a small model, trained on a few sentences until its greedy tokens are stable."""
    import torch
    import transformers

    config_name, settings, tokenizer = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    config = getattr(transformers, config_name)(
        vocab_size=ROWS, bos_token_id=None, eos_token_id=None, pad_token_id=None, **settings
    )
    opened = open_tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        rows = [torch.tensor([ids[:48]]) for ids in opened.encode([*ENGLISH, *HINDI])]
        for step in range(64):
            optimizer.zero_grad()
            model(rows[step % len(rows)], labels=rows[step % len(rows)]).loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    return folder


def fields(reader) -> dict:
    return {name: field.contents() for name, field in reader.fields.items()}


def test_a_file_reads_back(trained, tmp_path):
    """Each tensor has its number of values, each row a token; a second export is equal."""
    from lingraft.checkpoint.safetensors_files import Checkpoint

    done = export_gguf(trained, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(done.path)
    assert len(reader.tensors) == done.tensors + (
        "rope_freqs.weight" in {tensor.name for tensor in reader.tensors}
    )
    values = sum(
        int(tensor.n_elements) for tensor in reader.tensors if tensor.name != "rope_freqs.weight"
    )
    assert values == Checkpoint.open(trained).parameters
    told = fields(reader)
    assert told["general.architecture"] == done.architecture
    assert len(told["tokenizer.ggml.tokens"]) == len(told["tokenizer.ggml.token_type"]) == ROWS
    assert told["tokenizer.ggml.pre"] == done.pretokenizer
    again = export_gguf(trained, tmp_path / "again.gguf")
    assert again.path.read_bytes() == done.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.gguf", "model.gguf"]


def test_transformers_reads_the_same_numbers(trained, tmp_path):
    """The GGUF reader of transformers returns equal weights, for the architectures that it knows.

    Logits are equal up to rounding: Conv1D weights are transposed views, and the kernel that
    multiplies them depends on the processor.
    """
    import torch
    from transformers import AutoModelForCausalLM

    kind = json.loads((trained / "config.json").read_text())["model_type"]
    if kind == "gpt_neox" or "llama-scaled" in trained.name:
        pytest.skip("transformers reads no GPT-NeoX and no rope_freqs from GGUF")
    export_gguf(trained, tmp_path / "model.gguf")
    ids = torch.tensor([[5, 300, 17, 260, 99]])
    before = AutoModelForCausalLM.from_pretrained(trained)
    after = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    weights = after.state_dict()
    assert before.state_dict().keys() == weights.keys()
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    torch.testing.assert_close(before(ids).logits, after(ids).logits, rtol=1e-5, atol=1e-5)


def test_llama_cpp_gives_equal_ids_and_tokens(trained, tmp_path):
    """Real llama.cpp cuts text into the same ids and goes on with the same greedy tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    if not (LLAMA_CPP / ".ready").is_file():
        pytest.skip("no .venv/llama.cpp: `make test` sets it up where there is npm")
    done = export_gguf(trained, tmp_path / "model.gguf")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    subprocess.run(
        [
            "node",
            Path(__file__).with_name("llama_cpp.mjs"),
            LLAMA_CPP,
            done.path,
            tmp_path / "texts.json",
            "8",
            tmp_path / "answers.json",
        ],
        capture_output=True,
        check=True,
    )
    model = AutoModelForCausalLM.from_pretrained(trained)
    wanted = open_tokenizer(trained).encode(TEXTS)
    for answer, ids in zip(
        json.loads((tmp_path / "answers.json").read_text()), wanted, strict=True
    ):
        assert answer["ids"] == ids
        row = ids[:12]
        for token in answer["greedy"]:
            with torch.no_grad():
                assert int(model(torch.tensor([row])).logits[0, -1].argmax()) == token
            row = [*row, token]


@pytest.mark.parametrize("numbers", ["f32", "f16", "bf16", "q8_0"])
def test_numbers_are_stored_as_asked(numbers, tmp_path):
    """Matrices are stored in the type asked for, close to what they were; vectors stay float32."""
    import numpy as np
    from gguf.quants import dequantize

    from lingraft.checkpoint.safetensors_files import Checkpoint

    model = plain_llama(tmp_path)
    reader = gguf.GGUFReader(export_gguf(model, tmp_path / "m.gguf", numbers=numbers).path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["token_embd.weight"].tensor_type.name == numbers.upper()
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    stored = dequantize(tensors["token_embd.weight"].data, tensors["token_embd.weight"].tensor_type)
    rows = Checkpoint.open(model).tensor("model.embed_tokens.weight").numpy()
    assert np.abs(stored.reshape(rows.shape) - rows).max() <= {"f32": 0, "f16": 1e-4}.get(
        numbers, 4e-3 * 2
    )


def plain_llama(folder: Path) -> Path:
    from tests.models import ARCHITECTURES as KINDS

    kind = KINDS["llama"]
    built = dataclasses.replace(kind, settings={**kind.settings, "intermediate_size": 64}).build(
        folder / "plain"
    )
    (built / "tokenizer.json").write_text(json.dumps(byte_level(size=319)), encoding="utf-8")
    (built / "tokenizer_config.json").unlink()
    return built


def test_special_tokens_bytes_and_padding_have_their_types(tmp_path):
    """Control, unknown and byte tokens are marked; a row without an id is an unused token."""
    write_sentencepiece(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    found = gguf_tokens(tokenizer, tokenizer.size + 2)
    assert list(found.types[:4]) == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert list(found.types[-2:]) == [UNUSED, UNUSED]
    assert found.space_prefix
    with pytest.raises(ModelError, match="use the tokenizer of the model"):
        gguf_tokens(tokenizer, tokenizer.size - 1)


@pytest.mark.parametrize(("expression", "whole_words"), NAMES)
def test_a_regular_expression_has_its_name(expression, whole_words):
    """Each known expression is named; its mark-aware form is refused with a reason."""
    data = byte_level(pattern=expression)
    data["model"]["ignore_merges"] = whole_words
    assert llama_cpp_name(data) == NAMES[expression, whole_words]
    changed = make_mark_aware(data)
    if changed is not None:
        with pytest.raises(ModelError, match=r"mark-aware.*pretokenizer=keep"):
            llama_cpp_name(changed)


def test_an_unknown_expression_is_refused():
    """Another expression, a leading space, or another way of looking words up has no name."""
    for pattern in (r"\p{L}+|\p{N}|.", r" ?\p{L}+"):
        with pytest.raises(ModelError, match=r"no name in llama\.cpp"):
            llama_cpp_name(byte_level(pattern=pattern))
    data = byte_level()
    data["model"]["ignore_merges"] = True
    with pytest.raises(ModelError, match="looked up before merges"):
        llama_cpp_name(data)
    data = byte_level()
    data["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    with pytest.raises(ModelError, match="a space is put"):
        llama_cpp_name(data)


def test_merges_that_say_otherwise_are_refused(tmp_path):
    """A SentencePiece vocabulary with merges that llama.cpp would not reproduce is refused."""
    data = sentencepiece()
    merges = data["model"]["merges"]
    data["model"]["merges"] = [*merges[1:40], merges[0], *merges[40:], merges[0]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=r"llama\.cpp would|llama\.cpp ranks"):
        gguf_tokens(tokenizer, tokenizer.size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bloom"}, "bloom"),
        ({"model_type": "mistral", "sliding_window": 4096}, "window attention .4096"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
    ],
)
def test_what_would_compute_otherwise_is_refused(change, words, tmp_path):
    """An architecture, a window or a scaling that is not written is named, and no file is left."""
    model = plain_llama(tmp_path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words):
        export_gguf(model, tmp_path / "x" / "m.gguf")
    assert not (tmp_path / "x").exists()
    with pytest.raises(RecipeError, match="did you mean 'q8_0'"):
        export_gguf(model, tmp_path / "m.gguf", numbers="q8")


def test_scaled_positions_follow_llama_3():
    """The RoPE factors of Llama 3 equal those that transformers computes."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(**SMALL, rope_parameters=SCALED)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = [500.0 ** (-i / 16) for i in range(0, 16, 2)]
    wanted = [before / float(after) for before, after in zip(plain, scaled, strict=True)]
    assert rope_factors(config.to_dict()) == pytest.approx(wanted, rel=1e-5)
    assert {"llama", "qwen2", "gpt2", "gpt_neox", "mistral"} == set(ARCHITECTURES)
