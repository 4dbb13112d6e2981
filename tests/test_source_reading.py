"""A source tokenizer is read as transformers reads it, from every place that names tokens."""

from __future__ import annotations

import json

import pytest

from lingraft.certificate.readings import read_file_with_transformers, read_with_lingraft
from lingraft.errors import TokenizerError
from lingraft.splice import identity_splice
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.json_format import DEPTH
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from tests.small_bases import BASES

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
CLASS = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}


def written(folder, data, **side):
    """Write a tokenizer with these side files (name of the file without .json: its content)."""
    folder.mkdir(parents=True, exist_ok=True)
    side = {"config": {"model_type": "llama"}, "tokenizer_config": CLASS, **side}
    for name, content in {"tokenizer": data, **side}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def split(folder, data):
    """Write the same tokenizer as vocab.json and merges.txt, as GPT-2 is published."""
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]
    ]
    vocab = data["model"]["vocab"] | {
        token["content"]: token["id"] for token in data["added_tokens"]
    }
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8"
    )
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    return folder


def in_transformers(folder):
    """Return ids and flags of every token, and the special ids, as AutoTokenizer reads them."""
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained(folder)
    flags = {
        token.content: tuple(getattr(token, name) for name in FLAGS)
        for token in read.added_tokens_decoder.values()
    }
    return read.get_vocab(), flags, (read.bos_token_id, read.eos_token_id, read.pad_token_id)


def in_lingraft(folder):
    read = open_tokenizer(folder)
    tokens = read.family.data["added_tokens"]
    flags = {token["content"]: tuple(token[name] for name in FLAGS) for token in tokens}
    return (
        read.family.pieces | {content: i for i, content in read.family.special.items()},
        flags,
        (read.bos_id, read.eos_id, read.pad_id),
    )


N = len(BASES["byte-level BPE"]()["model"]["vocab"]) + 1
"""The first id after the last token of the small byte-level tokenizer."""

PLACES = {
    "added_tokens.json": {"added_tokens": {"<|im_start|>": N, "<|im_end|>": N + 1}},
    "added_tokens.json, one of them by role": {
        "added_tokens": {"<|im_start|>": N, "<|im_end|>": N + 1},
        "tokenizer_config": {**CLASS, "eos_token": "<|im_end|>"},
    },
    "added_tokens_decoder": {
        "tokenizer_config": {
            **CLASS,
            "eos_token": "<|im_end|>",
            "added_tokens_decoder": {
                str(N): {"content": "<|im_end|>", "lstrip": True},
                str(N + 1): {"content": "<x>", "special": True},
            },
        }
    },
    "flags that differ": {
        "tokenizer_config": {
            **CLASS,
            "added_tokens_decoder": {str(N - 1): {"content": "<|endoftext|>", "rstrip": True}},
        }
    },
    "special_tokens_map.json": {
        "special_tokens_map": {
            "pad_token": "<pad>",
            "eos_token": {"content": "<e>", "lstrip": True, "normalized": False},
            "additional_special_tokens": ["<q>"],
        }
    },
    "roles of one model": {
        "tokenizer_config": {
            **CLASS,
            "image_token": "<image>",
            "extra_special_tokens": {"audio_token": "<audio>"},
        }
    },
    "extra special tokens": {
        "tokenizer_config": {
            **CLASS,
            "additional_special_tokens": [
                "<q>",
                {"content": "<r>", "lstrip": True, "__type": "AddedToken"},
            ],
        }
    },
    "a word by role": {"tokenizer_config": {**CLASS, "pad_token": "he"}},
    "files that are not read": {
        "tokenizer_config": {**CLASS, "added_tokens_decoder": {}},
        "special_tokens_map": {"pad_token": "<pad>"},
    },
}


@pytest.mark.parametrize("layout", ["tokenizer.json", "vocab.json"])
@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_names_tokens_is_read_as_transformers_reads_it(tmp_path, place, layout):
    """Ids, flags and roles are those of AutoTokenizer, and they stay in the result."""
    side = PLACES[place]
    folder = written(tmp_path / "source", BASES["byte-level BPE"](), **side)
    if layout == "vocab.json":
        config = side.get("tokenizer_config", CLASS) | {"tokenizer_class": "GPT2Tokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        split(folder, BASES["byte-level BPE"]())
    vocab, flags, roles = in_lingraft(folder)
    expected_vocab, expected_flags, expected_roles = in_transformers(folder)
    assert vocab == expected_vocab
    assert flags == expected_flags
    if (
        layout == "tokenizer.json"
    ):  # GPT2Tokenizer has roles of its own, which only transformers knows
        assert roles == expected_roles
    source = open_tokenizer(folder)
    data = source.family.with_tokens(["नमस्ते".encode()])
    assert data["model"]["vocab"][source.family.piece_of("नमस्ते".encode())] == len(vocab)
    save_tokenizer(source, source.family.data, identity_splice(source.size), tmp_path / "target")
    assert in_transformers(tmp_path / "target")[:2] == (expected_vocab, expected_flags)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (
            {"added_tokens": {"<x>": N + 7}},
            rf"added_tokens\.json: '<x>' has the id {N + 7} there.*gives it {N}",
        ),
        ({"added_tokens": {"<x>": 5}}, rf"'<x>' has the id 5 there, but transformers gives it {N}"),
        (
            {
                "tokenizer_config": {
                    **CLASS,
                    "added_tokens_decoder": {"5": {"content": "<|endoftext|>"}},
                }
            },
            "has the id 5",
        ),
        (
            {"tokenizer_config": {**CLASS, "added_tokens_decoder": {}}, "added_tokens": {"<x>": N}},
            r"added_tokens\.json: '<x>' has the id .* which transformers does not read",
        ),
        (
            {"tokenizer_config": {**CLASS, "added_tokens_decoder": ["<x>"]}},
            "added_tokens_decoder is a list",
        ),
        (
            {"tokenizer_config": {**CLASS, "added_tokens_decoder": {"x": {"content": "<x>"}}}},
            "has the id 'x'",
        ),
        (
            {"tokenizer_config": {**CLASS, "additional_special_tokens": [3]}},
            "an extra special token is 3",
        ),
        ({"tokenizer_config": {**CLASS, "eos_token": ["</s>"]}}, r"eos_token is \['</s>'\]"),
    ],
)
def test_ids_that_contradict_what_transformers_reads_are_refused(tmp_path, side, message):
    """A file that contradicts the id of transformers is refused in one line."""
    folder = written(tmp_path, BASES["byte-level BPE"](), **side)
    with pytest.raises(TokenizerError, match=message):
        open_tokenizer(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "config.json", "added_tokens.json"]
)
@pytest.mark.parametrize("depth", [DEPTH + 1, 10_000])
def test_deep_nesting_is_refused_in_one_line(tmp_path, name, depth):
    """10,000 nested lists end in one line that names the file, not in a RecursionError."""
    folder = written(tmp_path, BASES["byte-level BPE"]())
    (folder / name).write_text('{"model": {"vocab": {}}, "x": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(TokenizerError, match=rf"{name}.*nested more than"):
        open_tokenizer(folder)


def test_dropout_padding_and_truncation_do_not_act(tmp_path):
    """Truncation, padding and dropout are disabled; the result keeps the first two only."""
    data = BASES["byte-level BPE"]()
    plain = open_tokenizer(written(tmp_path / "plain", data))
    data["model"]["dropout"] = 0.9
    data["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    data["truncation"] = {
        "direction": "Right",
        "max_length": 16,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    source = open_tokenizer(written(tmp_path / "source", data))
    texts = ["the cat sat on the mat and the dog ran to the other cat"] * 20
    assert source.encode(texts) == plain.encode(texts)
    assert [source.family.segment(list(source.family.cut(text))) for text in texts] == [
        plain.family.segment(list(plain.family.cut(text))) for text in texts
    ]
    save_tokenizer(source, source.family.data, identity_splice(source.size), tmp_path / "target")
    saved = json.loads((tmp_path / "target" / "tokenizer.json").read_text())
    assert (saved["padding"], saved["truncation"]) == (data["padding"], data["truncation"])
    assert saved["model"]["dropout"] is None


def test_a_panic_of_the_library_is_an_error_in_one_line(tmp_path):
    """A normalizer that strips text between added tokens panics in Rust; both readings say so."""
    data = BASES["byte-level BPE"]()
    (end,) = data["added_tokens"]
    spaces = {"id": end["id"] + 1, "content": "  ", "special": False, "normalized": True}
    data["added_tokens"].append({**end, **spaces})
    data["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    folder = written(tmp_path / "base", data)
    readings = [read_with_lingraft(open_tokenizer(folder)), read_file_with_transformers(folder)]
    for encode in (readings[0].ids, readings[0].plain, readings[1].ids, readings[1].plain):
        with pytest.raises(TokenizerError, match="tokenizers cannot use it"):
            encode(["é é"])
