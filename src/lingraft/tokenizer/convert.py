"""Building a tokenizer.json from tiktoken ranks, or from vocab.json and merges.txt.

Each function returns the content of the tokenizer.json with the same ids. `sentencepiece_model`
converts SentencePiece files.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any, NamedTuple

from lingraft.errors import TokenizerError
from lingraft.tokenizer.byte_level_bpe import byte_characters, splits
from lingraft.tokenizer.json_format import Data, split_step

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")

_GPT2_END = "<|endoftext|>"

_LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|reserved_special_token_2|>",
    "<|reserved_special_token_3|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class _TiktokenModel(NamedTuple):
    """The parts of a tiktoken tokenizer that its file of ranks does not hold."""

    pattern: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    ignore_merges: bool = False
    normalizer: dict[str, Any] | None = None


# A file of ranks names no model, so its number of ranks identifies it.
_TIKTOKEN = {
    128_000: _TiktokenModel(
        LLAMA3_REGEX,
        _LLAMA3_SPECIAL,
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        ignore_merges=True,
    ),
    151_643: _TiktokenModel(
        QWEN_REGEX, _QWEN_SPECIAL, eos="<|endoftext|>", normalizer={"type": "NFC"}
    ),
}


def special_token(token_id: int, content: str) -> dict[str, Any]:
    """Return a special token in the form of tokenizer.json."""
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def tokenizer_data(model: dict[str, Any], **parts: Any) -> Data:
    """Return a tokenizer.json with every key that `tokenizers` expects."""
    empty = dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    return {"version": "1.0", **empty, "added_tokens": [], **parts, "model": model}


def bpe_model(vocab: dict[str, int], merges: list[Any], **settings: Any) -> dict[str, Any]:
    """Return a BPE model in the form of tokenizer.json."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **settings,
        "vocab": vocab,
        "merges": merges,
    }


def byte_level_parts(pattern: str) -> dict[str, Any]:
    """Return the pre-tokenizer and the decoder of a byte-level BPE with this regex."""
    return {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                split_step(pattern),
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
    }


def from_vocab_and_merges(source: Path) -> Data:
    """Read GPT-2's vocab.json, and merges.txt from the same folder."""
    merges_file = source.with_name("merges.txt")
    try:
        vocab = json.loads(source.read_text(encoding="utf-8"))
        lines = merges_file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        msg = f"{source}: expected vocab.json and merges.txt in one folder ({error})"
        raise TokenizerError(msg) from error
    # merges.txt begins with a line that states its version.
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = [special_token(vocab[_GPT2_END], _GPT2_END)] if _GPT2_END in vocab else []
    parts = byte_level_parts(GPT2_REGEX)
    data = tokenizer_data(bpe_model(vocab, merges), added_tokens=special, **parts)
    if special:
        data["lingraft_roles"] = {"bos_token": _GPT2_END, "eos_token": _GPT2_END}
    return data


def from_tiktoken(source: Path) -> Data:
    """Read tiktoken ranks; the merges are all splits of each token into two tokens, by its rank."""
    ranks = _read_ranks(source)
    known = _TIKTOKEN.get(len(ranks))
    if known is None:
        msg = (
            f"{source}: {len(ranks)} tiktoken ranks; the regex is known for Llama-3 (128000) and "
            "Qwen (151643) only: give the model's tokenizer.json instead"
        )
        raise TokenizerError(msg)
    table = byte_characters()
    vocab: dict[str, int] = {}
    for token, rank in ranks.items():
        vocab["".join(map(table.__getitem__, token))] = rank
    merges: list[list[str]] = []
    for piece in sorted(vocab, key=vocab.__getitem__):
        merges += map(list, splits(piece, vocab))
    added = []
    for token_id, content in enumerate(known.special, len(ranks)):
        added.append(special_token(token_id, content))
    # A BOS is the first special token, which follows the ranks.
    before = (known.bos, len(ranks)) if known.bos else None
    data = tokenizer_data(
        bpe_model(vocab, merges, ignore_merges=known.ignore_merges),
        added_tokens=added,
        normalizer=known.normalizer,
        post_processor=special_token_template(before=before),
        **byte_level_parts(known.pattern),
    )
    data["lingraft_roles"] = {"bos_token": known.bos, "eos_token": known.eos}
    return data


def _read_ranks(source: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(source.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            msg = (
                f"{source}, line {number}: not a tiktoken line; expected a base64 token and a rank"
            )
            raise TokenizerError(msg) from error
    return ranks


def special_token_template(
    *, before: tuple[str, int] | None = None, after: tuple[str, int] | None = None
) -> dict[str, Any] | None:
    """Return the post-processor that puts a special token (content, id) before or after a text."""
    special_tokens = {}
    for name, token_id in filter(None, (before, after)):
        special_tokens[name] = {"id": name, "ids": [token_id], "tokens": [name]}
    if not special_tokens:
        return None

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"Sequence": {"id": sequence, "type_id": type_id}}]
        if before:
            parts.insert(0, {"SpecialToken": {"id": before[0], "type_id": type_id}})
        if after:
            parts.append({"SpecialToken": {"id": after[0], "type_id": type_id}})
        return parts

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": special_tokens,
    }
