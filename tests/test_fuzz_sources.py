"""Sources that are valid but hostile give what transformers reads, or a one-line error.

Tokens are named in random subsets of the four places, with ids that fit, leave holes or contradict
each other; rows are padded or too few; configuration and weights disagree on tied embeddings;
configured ids name any token or none.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.bases.tokenizer_files import complete_tokenizer, given_folder
from lingraft.certificate import write_certificate
from lingraft.certificate.result_claims import (
    certify_named_ids,
    certify_rows,
    certify_source_ids,
    certify_tokens,
)
from lingraft.certificate.source_claims import certify_source
from lingraft.checkpoint import resize_embeddings
from lingraft.embeddings import INITS
from lingraft.errors import LingraftError
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.vocabulary.base import Selected
from lingraft.vocabulary.build_splice import build_splice
from tests.small_bases import BASES
from tests.test_fuzz import fuzzed
from tests.test_source_reading import N, split, written

TOKENS = ("<|im_start|>", "<|im_end|>", "<pad>")
OTHERS = ("<|endoftext|>", "he", "a b", " x")
SURFACES = tuple(text.encode() for text in ("नम", "दुनि", "कहा"))
FLAGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.booleans() for name in ("lstrip", "rstrip", "normalized", "single_word", "special")
    },
)


def seldom(draw: st.DrawFn) -> bool:
    """Say yes one time in eight: most sources are consistent, so that many come out."""
    return draw(st.integers(0, 7)) == 7


@st.composite
def sources(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what the files of a source say: a few tokens, each named in some of the places."""
    tokens = TOKENS[: draw(st.integers(0, 3))]
    in_file = draw(st.integers(0, len(tokens)))
    layout = draw(st.sampled_from(("tokenizer.json", "vocab.json")))

    def listed(first: int) -> dict[str, int]:
        start = draw(st.integers(0, first))
        found = {content: N + tokens.index(content) for content in tokens[start:]}
        if seldom(draw):
            found[draw(st.sampled_from((*TOKENS, *OTHERS)))] = draw(ids)
        return found

    last = N + len(tokens)
    ids = st.one_of(st.integers(N - 2, last + 1), st.sampled_from((0, 5, N + 30)))
    of_tokens = st.one_of(st.just(N - 1), st.integers(0, last - 1))
    named = st.sampled_from((*tokens, "<|endoftext|>", *(OTHERS if seldom(draw) else ())))
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2Tokenizer"
        if layout == "vocab.json" or seldom(draw)
        else "PreTrainedTokenizerFast"
    }
    for role in draw(
        st.lists(
            st.sampled_from(("bos_token", "eos_token", "pad_token", "image_token")), unique=True
        )
    ):
        config[role] = draw(named)
    side: dict[str, Any] = {}
    first = in_file if layout == "tokenizer.json" else 0
    if draw(st.booleans()):
        config["added_tokens_decoder"] = {
            str(i): {"content": content, **draw(FLAGS)} for content, i in listed(first).items()
        }
    if draw(st.booleans()):
        side["added_tokens"] = listed(first)
    if draw(st.booleans()):
        side["special_tokens_map"] = {
            "pad_token": draw(named),
            "additional_special_tokens": [draw(named)],
        }
    return {
        "side": {**side, "tokenizer_config": config},
        "flags": draw(FLAGS),
        "layout": layout,
        "in_file": {content: N + place for place, content in enumerate(tokens[:in_file])},
        "rows": last + draw(st.sampled_from((0, 0, 2, 40))) - seldom(draw),
        "said_tied": (tied := draw(st.booleans())),
        "stored_head": tied if seldom(draw) else not tied,
        "ids": {
            "eos_token_id": draw(ids if seldom(draw) else of_tokens),
            "pad_token_id": draw(st.one_of(st.none(), of_tokens)),
            "bos_token_id": N - 1,
        },
        "ends": [draw(ids if seldom(draw) else of_tokens), N - 1],
    }


@cache
def body() -> dict[str, Any]:
    """Return the tensors of a one-layer Llama that have no row for each id."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    tensors = LlamaForCausalLM(llama(N)).state_dict()
    return {
        name: tensor
        for name, tensor in tensors.items()
        if "embed_tokens" not in name and "lm_head" not in name
    }


def llama(rows: int, **settings: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=rows,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        **settings,
    )


def write_source(folder: Path, drawn: dict[str, Any]) -> None:
    """Write tokenizer, configuration and weights as drawn."""
    import torch
    from safetensors.torch import save_file

    data = BASES["byte-level BPE"]()
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    if drawn["layout"] == "tokenizer.json":
        data["added_tokens"] += [
            {"id": i, "content": content, **flags, **drawn["flags"]}
            for content, i in drawn["in_file"].items()
        ]
    written(folder, data, **drawn["side"])
    if drawn["layout"] == "vocab.json":
        split(folder, data)
    config = llama(drawn["rows"], tie_word_embeddings=drawn["said_tied"]).to_dict() | drawn["ids"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": drawn["ends"]}), encoding="utf-8"
    )
    generator = torch.Generator().manual_seed(1)
    tables = {"model.embed_tokens.weight": torch.randn(drawn["rows"], 8, generator=generator)}
    if drawn["stored_head"]:
        tables["lm_head.weight"] = torch.randn(drawn["rows"], 8, generator=generator)
    save_file({**body(), **tables}, folder / "model.safetensors", metadata={"format": "pt"})


def extended(model: Path, place: Path) -> Path:
    """Extend a model as a run does, with its checks; raises `LingraftError` where it is refused."""
    complete_tokenizer(model, warn=lambda _warning: None)
    source, source_files = open_tokenizer(model), given_folder(model)
    write_certificate(
        [certify_source(source, source_files), *certify_source_ids(source_files)],
        place / "before.json",
    )
    data, splice = build_splice(source.family, source.family, Selected(SURFACES), model)
    save_tokenizer(source, data, splice, place / "tokenizer")
    mean = INITS.parse("mean")
    resize_embeddings(
        model,
        place / "tokenizer",
        splice,
        input_init=mean,
        output_init=mean,
        output=place / "result",
    )
    claims = [
        certify_tokens(source_files, place / "result", splice),
        certify_rows(model, place / "result", splice),
    ]
    claims += certify_named_ids(source_files, place / "result")
    write_certificate(claims, place / "after.json")
    return place / "result"


def judged(source: Path, result: Path) -> None:
    """Compare a source as it was written with its result, both read by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(result)
    vocab = before.get_vocab()
    assert vocab.items() <= after.get_vocab().items()
    assert len(after) == len(vocab) + len(SURFACES)
    assert {i: str(token) for i, token in before.added_tokens_decoder.items()}.items() <= {
        i: str(token) for i, token in after.added_tokens_decoder.items()
    }.items()
    rows = max(vocab.values()) + 1
    old, new = (AutoModelForCausalLM.from_pretrained(folder) for folder in (source, result))
    for one, other in (
        (old.get_input_embeddings(), new.get_input_embeddings()),
        (old.get_output_embeddings(), new.get_output_embeddings()),
    ):
        assert torch.equal(one.weight[:rows], other.weight[:rows])
    ends = old.generation_config.eos_token_id
    assert before.convert_ids_to_tokens(ends) == after.convert_ids_to_tokens(
        new.generation_config.eos_token_id
    )
    assert before.convert_ids_to_tokens(old.config.eos_token_id) == after.convert_ids_to_tokens(
        new.config.eos_token_id
    )


@pytest.mark.filterwarnings("ignore")
@fuzzed
@given(drawn=sources())
def test_hostile_sources_come_out_right_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any]
) -> None:
    """The result has every token, row and configured id of the source, or one line refuses it."""
    place = tmp_path_factory.mktemp("hostile")
    write_source(place / "source", drawn)
    shutil.copytree(place / "source", place / "kept" / "model")
    refused = ""
    try:
        result = extended(place / "kept" / "model", place)
    except LingraftError as error:
        refused = str(error)
        assert refused.strip()
        assert "\n" not in refused
    if not refused:
        judged(place / "source", result)
    shutil.rmtree(place)
