"""What stands between documents: the end of text of pretraining, never a chat turn's mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.errors import TokenizerError
from lingraft.evaluation.bits_per_byte import start_id
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_texts
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.separators import chat_model_of, separators_of, start_of_document
from tests.chat_models import CHATML, LLAMA2, PHI, write_chat_tokenizer

IM = ("<|im_start|>", "<|im_end|>")

# special tokens, template, roles -> token before, token after, is a chat model
CASES: dict[str, tuple[Any, ...]] = {
    "SmolLM2-Instruct": (
        ("<|endoftext|>", *IM), CHATML, {"bos_token": IM[0], "eos_token": IM[1]},
        None, "<|endoftext|>", True),
    "Qwen2.5-Instruct": (
        ("<|endoftext|>", *IM), CHATML, {"eos_token": IM[1], "pad_token": "<|endoftext|>"},
        None, "<|endoftext|>", True),
    "Qwen2.5, which is a base model with a template": (
        ("<|endoftext|>", *IM), CHATML, {"eos_token": "<|endoftext|>"},
        None, "<|endoftext|>", False),
    "Yi-Chat": (
        ("<unk>", "<|startoftext|>", "<|endoftext|>", *IM), CHATML,
        {"bos_token": "<|startoftext|>", "eos_token": IM[1]},
        "<|startoftext|>", "<|endoftext|>", True),
    "ChatML on Llama-2": (
        ("<unk>", "<s>", "</s>", *IM), CHATML, {"bos_token": "<s>", "eos_token": IM[1]},
        "<s>", "</s>", True),
    "Llama-2-Chat, whose end of text also ends turns": (
        ("<unk>", "<s>", "</s>"), LLAMA2, {"bos_token": "<s>", "eos_token": "</s>"},
        "<s>", "</s>", True),
    "Llama-3-Instruct": (
        ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
        CHATML.replace(IM[0], "").replace(IM[1], "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "<|begin_of_text|>", "<|end_of_text|>", True),
    "Gemma-it": (
        ("<pad>", "<eos>", "<bos>", *IM), CHATML, {"bos_token": "<bos>", "eos_token": "<eos>"},
        "<bos>", "<eos>", False),
    "Phi-3, whose end of text also ends a chat": (
        ("<s>", "</s>", "<|endoftext|>", "<|end|>"), PHI,
        {"bos_token": "<s>", "eos_token": "<|endoftext|>"}, "<s>", "<|endoftext|>", False),
    "GPT-OSS, whose EOS is the end of a chat": (
        ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|end|>"), PHI,
        {"bos_token": "<|startoftext|>", "eos_token": "<|return|>"},
        "<|startoftext|>", "<|endoftext|>", False),
    "a base model": (
        ("<s>", "</s>"), None, {"bos_token": "<s>", "eos_token": "</s>"}, "<s>", "</s>", False),
    "a template that cannot be rendered": (
        ("<|endoftext|>", *IM), "{{ undefined_function(messages) }}<|im_start|><|im_end|>",
        {"bos_token": IM[0], "eos_token": IM[1]}, None, "<|endoftext|>", True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_documents_are_parted_by_the_end_of_text_of_pretraining(name: str, tmp_path: Path) -> None:
    """Whatever the family of chat models: no turn's mark where pretraining had another token."""
    special, template, roles, before, after, chats = CASES[name]
    write_chat_tokenizer(tmp_path, special, template, **roles)
    tokenizer = open_tokenizer(tmp_path)
    found = separators_of(tokenizer)
    assert (found.before, found.after) == (before, after), found.why
    assert (chat_model_of(tokenizer) is not None) == chats


def test_a_model_chats_where_generation_ends_with_the_end_of_an_answer(tmp_path: Path) -> None:
    """Gemma-it's tokenizer names <eos>; generation_config.json lists the end of a turn as well."""
    special, template, roles, *_ = CASES["Gemma-it"]
    write_chat_tokenizer(tmp_path, special, template, **roles)
    end = open_tokenizer(tmp_path).backend.token_to_id(IM[1])
    ends = json.dumps({"eos_token_id": [1, end]})
    (tmp_path / "generation_config.json").write_text(ends, encoding="utf-8")
    chat = chat_model_of(open_tokenizer(tmp_path))
    assert chat is not None
    assert chat.ends == IM[1]
    (tmp_path / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"generation_config\.json: not readable JSON"):
        chat_model_of(open_tokenizer(tmp_path))


def test_a_recipe_may_name_the_separator(tmp_path: Path) -> None:
    """By role, as the tokenizer names it, or by spelling; a token that is not there is refused."""
    write_chat_tokenizer(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    assert separators_of(tokenizer, "bos-eos").ids(tokenizer) == (1, 2)
    assert separators_of(tokenizer, "eos").ids(tokenizer) == (None, 2)
    assert separators_of(tokenizer, "<|endoftext|>").ids(tokenizer) == (None, 0)
    with pytest.raises(TokenizerError, match=r"separator: the tokenizer has no token '</doc>'"):
        separators_of(tokenizer, "</doc>")


def test_a_separator_is_a_token_that_no_document_contains(tmp_path: Path) -> None:
    """A line break would end documents in their middle, and its bytes would be lost."""
    write_chat_tokenizer(tmp_path, ("<s>", "</s>"), None, bos_token="<s>", eos_token="</s>")
    tokenizer = open_tokenizer(tmp_path)
    token = tokenizer.backend.id_to_token(tokenizer.encode(["\n"])[0][0])
    with pytest.raises(TokenizerError, match=r"separator: '.+' is not a special token"):
        separators_of(tokenizer, token)


def test_packing_and_scoring_begin_documents_behind_the_same_token(tmp_path: Path) -> None:
    """Blocks hold <|endoftext|> between documents and no turn's mark, and scoring starts there."""
    write_chat_tokenizer(tmp_path / "model")
    tokenizer = open_tokenizer(tmp_path / "model")
    (tmp_path / "blocks").mkdir()
    texts = ["one document", "another document"]
    pack_texts([texts], tokenizer, PackingSettings(block_size=8), tmp_path / "blocks")
    blocks = Blocks.open(tmp_path / "blocks")
    first, second = tokenizer.encode(texts)
    assert blocks.tokens.tolist() == [0, *first, 0, *second, 0]
    assert start_id(tokenizer) == start_of_document(tokenizer) == blocks.document_start == 0
