"""The first and last claims: transformers reads the same source, and the result keeps it."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from lingraft.bases.as_transformers import add_class_settings
from lingraft.bases.tokenizer_files import complete_tokenizer
from lingraft.certificate import write_certificate
from lingraft.certificate.result_claims import certify_named_ids, certify_rows, certify_tokens
from lingraft.certificate.source_claims import certify_source
from lingraft.errors import CertificateError
from lingraft.pipeline import extend
from lingraft.pipeline.check_stages import CLAIMS
from lingraft.pipeline.stage_warnings import claim_warnings
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.splice import Splice
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.convert import LLAMA3_REGEX
from tests.conftest import ENGLISH, HINDI, write_lines
from tests.small_bases import BASES, byte_level
from tests.test_source_reading import CLASS, N, split, written

END = {
    "tokenizer_config": {**CLASS, "tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>"},
    "added_tokens": {"<|im_start|>": N, "<|im_end|>": N + 1},
}


def gpt2(folder, *, rows=N + 2, **side):
    """Write a random GPT-2 with vocab.json, merges.txt and two tokens in a side file."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    data = BASES["byte-level BPE"]()
    split(written(folder, data, **{**END, **side}), data)
    config = GPT2Config(
        vocab_size=rows,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=N - 1,
        eos_token_id=N + 1,
        pad_token_id=N,
    )
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    ends = {"eos_token_id": [N - 1, N + 1], "pad_token_id": N}
    (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
    return folder


def extended(source, place, **vocabulary):
    """Extend a source by 20 Hindi tokens; return the result and its claims by name."""
    place.mkdir(parents=True, exist_ok=True)
    texts = {
        "hi": write_lines(place / "hi.txt", HINDI),
        "en": write_lines(place / "en.txt", ENGLISH),
    }
    recipe = parse_recipe(
        Tree(
            {
                "name": "x",
                "model": str(source),
                "vocabulary": {"size": 20, **vocabulary},
                "target": {"language": "hi", "corpus": str(texts["hi"]), "heldout_share": 0.1},
                "replay": {"language": "en", "corpus": str(texts["en"]), "heldout_share": 0.1},
            }
        )
    )
    runtime = Runtime(runs=place / "runs", store=place / "store", device="cpu")
    folder = extend(recipe, runtime, place / "out", log=lambda _line: None)
    claims = json.loads((folder / "lingraft" / "certificate.json").read_text())["claims"]
    return folder, {claim["name"]: claim for claim in claims}


@pytest.mark.parametrize("rows", [N + 2, N + 40])
def test_tokens_of_a_side_file_keep_ids_rows_and_roles(tmp_path, rows):
    """A token that only added_tokens.json names keeps its row, even among padding rows."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = gpt2(tmp_path / "source", rows=rows)
    result, claims = extended(source, tmp_path)
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (source, result))
    assert before.get_vocab().items() <= after.get_vocab().items()
    added = sorted(after.get_vocab().values())[len(before) :]
    assert added == list(range(N + 2, N + 22))
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (source, result)]
    old, new = (model.get_input_embeddings().weight for model in models)
    assert torch.equal(old[: N + 2], new[: N + 2])
    assert [after.convert_ids_to_tokens(i) for i in models[1].generation_config.eos_token_id] == [
        "<|endoftext|>",
        "<|im_end|>",
    ]
    assert (
        after.convert_ids_to_tokens(models[1].config.eos_token_id)
        == "<|im_end|>"
        == after.eos_token
    )
    names = list(claims)
    assert names[0] == "source read as transformers reads it"
    assert names[-3:] == [
        "source tokens where they were",
        "source rows where they were",
        "configured ids name the same tokens",
    ]
    assert all(claim["holds"] for claim in claims.values() if claim["fatal"])


def test_a_token_that_only_transformers_sees_is_named(tmp_path):
    """If our reading lacks a token, the first claim fails and names the token."""
    data = BASES["byte-level BPE"]()
    ours = open_tokenizer(written(tmp_path / "ours", data))
    given = written(tmp_path / "given", data, added_tokens={"<|im_end|>": N})
    claim = certify_source(ours, given)
    assert not claim.holds
    assert "id of '<|im_end|>': None, not" in str(claim)
    assert certify_source(open_tokenizer(given), given, ["a text"]).holds


def test_a_text_that_transformers_reads_otherwise_is_named(tmp_path):
    """A class that overrides tokenizer.json is named in a warning, and so is a text it changes."""
    data = byte_level(["a(the a(the a(the a(the"], pattern=LLAMA3_REGEX)
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    given = written(
        tmp_path,
        data,
        tokenizer_config={**end, "tokenizer_class": "GPT2Tokenizer"},
        config={"model_type": "gpt2"},
    )
    claim = certify_source(open_tokenizer(given), given, ["over(the bridge"])
    assert not claim.holds
    assert not claim.fatal
    write_certificate([claim], tmp_path / CLAIMS, broken="")
    (warning,) = claim_warnings(tmp_path)
    assert warning.startswith(f"source tokenizer: {claim.exceptions[0]} (")
    assert "such as ids of 'over(the bridge'" in warning
    assert claim.exceptions[0] == (
        "GPT2Tokenizer of transformers builds another tokenizer than tokenizer.json says, and "
        "lingraft follows the file"
    )
    assert claim.exceptions[1].startswith("ids of 'over(the bridge'")


def test_a_configured_id_without_a_token_is_refused_before_anything_is_learned(tmp_path):
    """A configured id that is no token is an error in one line before anything is learned."""
    source = gpt2(tmp_path / "source", rows=N + 40)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "eos_token_id": N + 5}))
    with pytest.raises(
        CertificateError, match=rf"config\.json: no token has the eos_token_id {N + 5}"
    ):
        extended(source, tmp_path)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store" / "answers").glob("vocabulary-*"))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return a source and its result; tests must not change them."""
    place = tmp_path_factory.mktemp("checked")
    source = gpt2(place / "source")
    folder, _ = extended(source, place)
    return (
        source,
        folder,
        Splice.from_json(json.loads((folder / "lingraft" / "splice.json").read_text())),
    )


@pytest.mark.parametrize(
    ("file", "change", "name"),
    [
        (
            "tokenizer_config.json",
            lambda text: text.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|im_start|>"'),
            "source tokens where they were",
        ),
        (
            "tokenizer.json",
            lambda text: text.replace('"<|im_end|>"', '"<|other|>"'),
            "source tokens where they were",
        ),
        (
            "config.json",
            lambda text: text.replace(f'"eos_token_id": {N + 1}', f'"eos_token_id": {N + 2}'),
            "configured ids name the same tokens",
        ),
        (
            "generation_config.json",
            lambda text: text.replace(str(N + 1), str(N + 3)),
            "configured ids name the same tokens",
        ),
    ],
)
def test_what_was_moved_in_a_result_is_found(result, tmp_path, file, change, name):
    """A changed role, token or configured id in the result breaks the claim about it."""
    source, folder, splice = result
    changed = shutil.copytree(folder, tmp_path / "changed")
    text = (changed / file).read_text(encoding="utf-8")
    assert change(text) != text
    (changed / file).write_text(change(text), encoding="utf-8")
    claims = [certify_tokens(source, changed, splice), *certify_named_ids(source, changed)]
    assert name in [claim.name for claim in claims if not claim.holds]


def test_one_changed_bit_of_a_row_is_found(result, tmp_path):
    """Rows are compared bit for bit, and a changed row is named."""
    from safetensors.torch import load_file, save_file

    source, folder, splice = result
    assert certify_rows(source, folder, splice).holds
    changed = shutil.copytree(folder, tmp_path / "changed")
    tensors = load_file(folder / "model.safetensors")
    table = tensors["transformer.wte.weight"].clone()
    table[7, 3] = table[7, 3].nextafter(table[7, 3] + 1)
    save_file({**tensors, "transformer.wte.weight": table}, changed / "model.safetensors")
    claim = certify_rows(source, changed, splice)
    assert (claim.value, claim.exceptions) == (1, ("transformer.wte.weight: row 7",))


def sentencepiece(path, **settings):
    """Train a small SentencePiece model."""
    import sentencepiece

    made = io.BytesIO()
    texts = [f"{text} {number}" for number in range(30) for text in (*HINDI, *ENGLISH)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=made,
        vocab_size=400,
        minloglevel=9,
        hard_vocab_limit=False,
        **settings,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.getvalue())
    return path


def test_what_the_named_class_adds_is_read(tmp_path):
    """The 100 tokens that T5's class adds and no file names are written down with their ids."""
    from transformers import AutoTokenizer

    model = tmp_path / "model"
    path = sentencepiece(
        model / "spiece.model", model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1
    )
    size = open_tokenizer(path).size
    (model / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": size + 128}))
    (model / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    loaded = AutoTokenizer.from_pretrained(model)
    completed = complete_tokenizer(model)
    assert completed.size == open_tokenizer(model).size == len(loaded) == size + 100
    assert certify_source(open_tokenizer(model), tmp_path / "given").holds
    assert (
        AutoTokenizer.from_pretrained(model)("a word")["input_ids"] == loaded("a word")["input_ids"]
    )


@pytest.mark.parametrize(("kind", "name"), [("bpe", "SentencePiece"), ("unigram", "SentencePiece")])
def test_a_lone_file_is_compared_with_the_library_that_wrote_it(tmp_path, kind, name):
    """A SentencePiece file without a named class is compared with SentencePiece."""
    path = sentencepiece(tmp_path / "tokenizer.model", model_type=kind, byte_fallback=kind == "bpe")
    claim = certify_source(open_tokenizer(path), path, HINDI)
    assert claim.holds
    assert name in claim.name
    assert claim.of > 100


@pytest.mark.parametrize("named", [{"tokenizer_class": "LlamaTokenizer"}, {}])
def test_a_side_file_next_to_a_sentencepiece_file_is_read(tmp_path, named):
    """Tokens are read as in transformers, texts as in SentencePiece, for any named class."""
    from transformers import AutoTokenizer

    path = sentencepiece(
        tmp_path / "tokenizer.model",
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
    )
    size = open_tokenizer(path).size
    side = {
        "config": {"model_type": "llama", "vocab_size": size + 2},
        "added_tokens": {"<|im_end|>": size},
        "tokenizer_config": {**named, "eos_token": "<|im_end|>"},
    }
    for name, content in side.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = add_class_settings(open_tokenizer(path), tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.size == len(loaded) == size + 1
    assert tokenizer.eos_id == loaded.eos_token_id == size
    claim = certify_source(tokenizer, tmp_path, [*HINDI, "runs   of  spaces"])
    assert claim.holds, claim
    assert "SentencePiece" in claim.detail
    (tmp_path / "added_tokens.json").write_text("{}", encoding="utf-8")
    alone = {
        key: content for key, content in side["tokenizer_config"].items() if key != "eos_token"
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(alone), encoding="utf-8")
    without = open_tokenizer(path)
    for name in ("added_tokens", "tokenizer_config"):
        (tmp_path / f"{name}.json").write_text(json.dumps(side[name]), encoding="utf-8")
    assert "<|im_end|>" in str(certify_source(without, tmp_path))


def test_real_sources_are_read_alike(assets):
    """Each real tokenizer is compared with transformers, SentencePiece or its own lines."""
    readers = {}
    for name in ("gpt2", "pythia", "llama2", "t5", "llama3", "hindi-llama-bpe1k"):
        folder = assets / "tokenizers" / name
        tokenizer = add_class_settings(open_tokenizer(folder), folder)
        claim = certify_source(tokenizer, folder, ["Ein Text.", *HINDI])
        assert claim.holds, claim
        readers[name] = claim.name
    assert readers["gpt2"] == readers["pythia"] == "source read as transformers reads it"
    assert readers["llama3"] == "source read as its file lists it"
    assert readers["llama2"] == readers["t5"] == "source read as SentencePiece reads it"


def test_dropout_is_taken_out_and_said(tmp_path, capsys):
    """Dropout in tokenizer.json is removed with a warning, and every fatal claim holds."""
    source = gpt2(tmp_path / "source")
    data = BASES["byte-level BPE"]()
    data["model"]["dropout"] = 0.5
    (source / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    config = {**END["tokenizer_config"], "tokenizer_class": "PreTrainedTokenizerFast"}
    (source / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    folder, claims = extended(source, tmp_path)
    assert "sets dropout 0.5" in capsys.readouterr().err
    assert all(claim["holds"] for claim in claims.values() if claim["fatal"])
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["dropout"] is None
