"""GGUF files: tokens and numbers read back equal; a model that would differ is refused.

Real llama.cpp, which `make test` installs if there is npm, gives equal ids, logits and greedy
tokens on a small model of each architecture.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from lingraft.checkpoint.gguf_architectures import ARCHITECTURES, complete_config
from lingraft.checkpoint.gguf_rope import full_rope, rope_tensors
from lingraft.errors import ModelError, RecipeError
from lingraft.export import export_gguf
from lingraft.export.gguf import Exported
from lingraft.export.gguf_converter import converter_call
from lingraft.export.gguf_tokenizer import BYTE, CONTROL, UNKNOWN, UNUSED, gguf_tokens
from lingraft.pipeline.export_limits import why_no_gguf_architecture
from lingraft.pretokenizer import make_mark_aware
from lingraft.pretokenizer.llama_cpp_names import llama_cpp_name
from lingraft.pretokenizer.named_pretokenizers import NAMED_PRETOKENIZERS, use_named_pretokenizer
from lingraft.pretokenizer.word_internal import make_letter_aware
from lingraft.store import DiskError
from lingraft.tokenizer import open_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.gguf_models import (
    LLAMA3_ROPE,
    LLAMA_CPP,
    MODELS,
    ROWS,
    SMALL,
    YARN,
    Job,
    ask_llama_cpp,
    build,
    write_sentencepiece,
)
from tests.small_bases import byte_level, sentencepiece

gguf = pytest.importorskip("gguf")

HALF_ROPE = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
GEMMA_2 = {"model_type": "gemma2", "tie_word_embeddings": True, "query_pre_attn_scalar": 8}
TANH = {"hidden_act": "gelu_pytorch_tanh"}
LINEAR = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}

TEXTS = [
    *ENGLISH,
    *HINDI,
    "12 shells, naïve 🙂  two  spaces\n\nand lines",
    " leads",
    "it's WE'LL don't",
]


@dataclass(frozen=True)
class Pair:
    """A model folder and its GGUF file."""

    folder: Path
    exported: Exported


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> dict[str, Pair]:
    """Return a small random model of each architecture with its GGUF file."""
    root = tmp_path_factory.mktemp("gguf")
    pairs = {}
    for number, name in enumerate(MODELS):
        folder = build(name, root / str(number))
        pairs[name] = Pair(folder, export_gguf(folder, root / f"{number}.gguf"))
    return pairs


@pytest.fixture(params=MODELS)
def pair(request, pairs) -> Pair:
    return pairs[request.param]


@pytest.fixture(scope="module")
def answers(pairs, tmp_path_factory) -> dict[str, list]:
    """Return what real llama.cpp answers about every file, from one process."""
    if not (LLAMA_CPP / ".ready").is_file():
        pytest.skip("no .venv/llama.cpp: `make test` sets it up where there is npm")
    jobs = [Job(pair.exported.path, TEXTS, compared=2) for pair in pairs.values()]
    found = ask_llama_cpp(jobs, tmp_path_factory.mktemp("llama.cpp"))
    return dict(zip(pairs, found, strict=True))


def fields(reader) -> dict:
    return {name: field.contents() for name, field in reader.fields.items()}


def test_a_file_reads_back(pair, tmp_path):
    """Each weight is stored once, each row has a token; a second export is equal."""
    from lingraft.checkpoint.safetensors_files import Checkpoint

    done = pair.exported
    reader = gguf.GGUFReader(done.path)
    assert len(reader.tensors) == done.tensors
    stored = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    extra = sum(size for name, size in stored.items() if name.startswith("rope_"))
    if json.loads((pair.folder / "config.json").read_text())["tie_word_embeddings"]:
        extra += stored.get("output.weight", 0)
    assert sum(stored.values()) - extra == Checkpoint.open(pair.folder).parameters
    told = fields(reader)
    assert told["general.architecture"] == done.architecture
    assert len(told["tokenizer.ggml.tokens"]) == len(told["tokenizer.ggml.token_type"]) == ROWS
    assert told["tokenizer.ggml.pre"] == done.pretokenizer
    again = export_gguf(pair.folder, tmp_path / "again.gguf")
    assert again.path.read_bytes() == done.path.read_bytes()


@pytest.mark.parametrize("name", ["llama", "llama, tied", "mistral", "qwen2", "gpt2"])
def test_transformers_reads_the_same_numbers(name, pairs):
    """The GGUF reader of transformers returns equal weights, for architectures that it knows."""
    import torch
    from transformers import AutoModelForCausalLM

    folder, file = pairs[name].folder, pairs[name].exported.path
    before = AutoModelForCausalLM.from_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).state_dict()
    assert before.state_dict().keys() == weights.keys()
    for key, weight in before.state_dict().items():
        assert torch.equal(weight, weights[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_the_same(name, pairs, answers):
    """Real llama.cpp cuts text into the same ids, and its logits are those of transformers.

    Both compute in float32, so that logits, which spread over several units, differ by rounding.
    llama.cpp's table of GELU values is in float16, which leaves a larger difference.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = pairs[name].folder
    wanted = open_tokenizer(folder).encode(TEXTS)
    assert [answer["ids"] for answer in answers[name]] == wanted
    model = AutoModelForCausalLM.from_pretrained(folder)
    tolerance = 2e-2 if "gelu" in str(model.config) else 1e-4
    for answer, ids in zip(answers[name][:2], wanted, strict=False):
        row = torch.tensor([[*ids[:24], *answer["greedy"]]])
        with torch.no_grad():
            logits = model(row).logits[0]
        assert logits.std() > 0.5
        found = torch.tensor(answer["logits"])
        torch.testing.assert_close(found, logits[: len(found)], rtol=0, atol=tolerance)
        assert logits[len(found) - 1 : -1].argmax(-1).tolist() == answer["greedy"]


@pytest.mark.parametrize(
    ("numbers", "error"),
    [("f32", 0), ("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 8e-3), ("q5_1", 0.05), ("q4_0", 0.15)],
)
def test_numbers_are_stored_as_asked(numbers, error, tmp_path):
    """Matrices are stored in the type asked for, close to what they were; vectors stay float32."""
    import numpy as np
    from gguf.quants import dequantize

    from lingraft.checkpoint.safetensors_files import Checkpoint

    model = plain_llama(tmp_path)
    reader = gguf.GGUFReader(export_gguf(model, tmp_path / "m.gguf", numbers=numbers).path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    # Embedding rows have at least 8 bits.
    rows_type = "Q8_0" if numbers.startswith(("q4", "q5")) else numbers.upper()
    assert tensors["token_embd.weight"].tensor_type.name == rows_type
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    matrix = tensors["blk.0.attn_v.weight"]
    assert matrix.tensor_type.name == numbers.upper()
    stored = dequantize(matrix.data, matrix.tensor_type)
    wanted = Checkpoint.open(model).tensor("model.layers.0.self_attn.v_proj.weight").numpy()
    assert np.abs(stored.reshape(wanted.shape) - wanted).max() <= error * np.abs(wanted).max()


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


@pytest.mark.parametrize("named", NAMED_PRETOKENIZERS, ids=lambda named: named.name)
def test_a_regular_expression_has_its_name(named):
    """Each known expression is named; its mark-aware and letter-aware forms are refused."""
    if not named.expressions:
        pytest.skip("no tokenizer.json splits text as this name does")
    data = use_named_pretokenizer(byte_level(), named)
    data["model"]["ignore_merges"] = named.whole_words
    assert llama_cpp_name(data) == named.name
    for form, rewrite in (("mark-aware", make_mark_aware), ("letter-aware", make_letter_aware)):
        changed = rewrite(data)
        if changed is not None:
            with pytest.raises(ModelError, match=rf"{form}.*pretokenizer=keep"):
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
    expected = rf"^{re.escape(str(tmp_path))}: .*llama\.cpp (would|has one rank)"
    with pytest.raises(ModelError, match=expected):
        gguf_tokens(tokenizer, tokenizer.size)


def test_a_token_with_a_character_that_is_no_token_is_refused(tmp_path):
    """llama.cpp would form it from the character, which transformers has split into bytes."""
    data = sentencepiece()
    vocabulary = data["model"]["vocab"]
    assert "e" in vocabulary
    assert "ñ" not in vocabulary
    vocabulary["ñe"] = len(vocabulary)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=r"llama\.cpp would merge 'ñ' and 'e'"):
        gguf_tokens(tokenizer, tokenizer.size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bloom"}, "bloom"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'.*computes llama models with 'silu'"),
        ({"model_type": "qwen3", "attention_bias": True}, "attention_bias is True"),
        ({"model_type": "gemma2"}, "tie_word_embeddings is False"),
        ({"model_type": "gemma3_text", "query_pre_attn_scalar": 3}, "query_pre_attn_scalar is 3"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, "no_rope_layers"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"model_type": "qwen2", "rope_parameters": LLAMA3_ROPE}, "'llama3' of qwen2 models"),
        ({"rope_parameters": {**YARN, "beta_slow": 2}}, "yarn with beta_slow 2"),
        ({"rope_parameters": {**YARN, "truncate": False}}, "yarn with truncate False"),
        ({"rope_parameters": HALF_ROPE}, "a part of a head .partial_rotary_factor 0.5. of llama"),
        (
            {**GEMMA_2, "attn_logit_softcapping": None},
            "attn_logit_softcapping is not set",
        ),
        ({"model_type": "cohere2", "tie_word_embeddings": True, "head_dim": 24}, "head_dim is 24"),
        ({"model_type": "starcoder2", "use_bias": False, **TANH}, "use_bias is False"),
        ({"model_type": "gpt_neox", "attention_bias": False, **TANH}, "attention_bias is False"),
        ({"num_hidden_layers": 9}, r"layers\.\d\.input_layernorm\.weight is missing"),
        ({"intermediate_size": 40}, r"down_proj\.weight has the shape .*, not .*40\]"),
        ({"vocab_size": 999}, r"weight has the shape .*, not .999"),
        ({"hidden_size": "32"}, "config.json: transformers refuses it .*hidden_size"),
    ],
)
def test_what_would_compute_otherwise_is_refused(change, words, tmp_path):
    """An architecture, a setting or a scaling that is not written is named; no file is left."""
    model = plain_llama(tmp_path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words):
        export_gguf(model, tmp_path / "x" / "m.gguf")
    assert not (tmp_path / "x").exists()


def test_rope_by_kind_of_layer_is_used_where_the_model_uses_it():
    """Settings next to those of the kinds of layers are ignored, as transformers ignores them."""
    stated = {"model_type": "olmo3", "rope_parameters": {**YARN, "rope_theta": 7.0}}
    assert full_rope(complete_config(stated))["rope_type"] == "default"
    assert full_rope(complete_config({"model_type": "llama", **LINEAR}))["factor"] == 2.0


def test_what_is_not_written_names_the_call_of_the_converter(tmp_path):
    """The call has absolute paths and the name of the pre-tokenizer; `plan` says it before."""
    model = plain_llama(tmp_path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "bloom"}))
    assert why_no_gguf_architecture(model).startswith("config.json: model_type 'bloom' cannot")
    with pytest.raises(ModelError) as caught:
        export_gguf(model, tmp_path / "m x.gguf")
    command = str(caught.value).partition("clone of llama.cpp: ")[2]
    python, option, code, *rest = shlex.split(command)
    assert (python, option) == ("python", "-c")
    assert 'get_vocab_base_pre = lambda *_: "gpt-2"; c.main()' in code
    assert rest == [str(model), "--outfile", str(tmp_path / "m x.gguf"), "--outtype", "auto"]
    (model / "tokenizer.json").unlink()
    write_sentencepiece(model)
    assert converter_call(model, tmp_path / "m.gguf").startswith(
        f"python convert_hf_to_gguf.py {model} --outfile"
    )
    mark_aware = make_mark_aware(byte_level(size=319))
    (model / "tokenizer.json").write_text(json.dumps(mark_aware), encoding="utf-8")
    with pytest.raises(ModelError, match="no name in llama"):
        converter_call(model, tmp_path / "m.gguf")


def test_a_window_that_llama_cpp_lacks_bounds_the_context(pairs):
    """A file of a model with a sliding window is made for texts within one window, and says so."""
    for name, length in (("mistral", 40), ("phi3", 100), ("gemma2", 512)):
        exported = pairs[name].exported
        told = fields(gguf.GGUFReader(exported.path))
        assert told[f"{exported.architecture}.context_length"] == length
        assert any("sliding-window" in note for note in exported.notes) == (length < 512)


@pytest.mark.parametrize("limit", [1000, 100_000])
def test_a_disk_that_becomes_full_is_named(limit, tmp_path):
    """A full disk is one line, among the metadata and among the weights; no file is left."""
    resource = pytest.importorskip("resource")  # not on Windows
    model = build("llama", tmp_path / "model")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskError, match=r"no space left on the disk .*--gguf"):
            export_gguf(model, tmp_path / "m.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def with_added_tokens(kind, folder, *flags_by_token):
    """Build a small model whose tokenizer has more added tokens, each with flags that are on."""
    model = build(kind, folder)
    data = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    size = open_tokenizer(model).size
    off = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    for place, (content, *flags) in enumerate(flags_by_token):
        token = {"id": size + place, "content": content, **off, **dict.fromkeys(flags, True)}
        data["added_tokens"].append(token)
    (model / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    return model


@pytest.mark.parametrize(
    ("kind", "flag", "is_noted"),
    [
        ("llama", "lstrip", True),
        ("llama", "rstrip", True),
        ("llama", "single_word", True),
        ("llama", "normalized", True),
        ("qwen2", "rstrip", True),
        ("qwen2", "normalized", False),  # no normalizer changes the token
        ("qwen2", "special", False),
    ],
)
def test_added_tokens_that_llama_cpp_finds_otherwise_are_noted(kind, flag, is_noted, tmp_path):
    """GGUF has no place for these flags; the ids of text with such a token differ."""
    model = with_added_tokens(kind, tmp_path / "phi-3", ("<x>", flag))
    exported = export_gguf(model, tmp_path / "m.gguf")
    assert any("'<x>' in a text" in note for note in exported.notes) == is_noted
    # llama.cpp does not load a file with the name of Phi-3 and without its tokens.
    assert fields(gguf.GGUFReader(exported.path))["general.name"] == "Phi 3"


def test_tokens_that_swallow_spaces_make_a_model_phi_3(tmp_path):
    """With the tokens of Phi-3, its name makes llama.cpp read the spaces after special tokens."""
    tokens = [("<|endoftext|>", "special"), ("<x>", "rstrip", "special")]
    exported = export_gguf(with_added_tokens("llama", tmp_path / "m", *tokens), tmp_path / "m.gguf")
    assert fields(gguf.GGUFReader(exported.path))["general.name"] == "m Phi-3"
    assert exported.notes == ()


def test_an_unknown_number_type_is_refused(tmp_path):
    """A misspelt --numbers names the nearest type."""
    with pytest.raises(RecipeError, match="did you mean 'q8_0'"):
        export_gguf(tmp_path, tmp_path / "m.gguf", numbers="q8")


def test_scaled_positions_follow_llama_3():
    """The RoPE factors of Llama 3 equal those that transformers computes."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(**SMALL, rope_parameters=LLAMA3_ROPE)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = [500.0 ** (-i / 16) for i in range(0, 16, 2)]
    wanted = [before / float(after) for before, after in zip(plain, scaled, strict=True)]
    assert dict(rope_tensors(config)) == {"rope_freqs.weight": pytest.approx(wanted, rel=1e-5)}


def test_every_architecture_is_compared():
    """Each architecture of the table has a small model here."""
    assert {name.partition(",")[0] for name in MODELS} == set(ARCHITECTURES)
