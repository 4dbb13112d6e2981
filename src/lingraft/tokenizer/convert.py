"""Files without tokenizer.json: tiktoken ranks, vocab.json + merges.txt (SentencePiece: `sentencepiece_model`).

Each function returns the content of the tokenizer.json that gives the same ids.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.byte_level_bpe import splits
from lingraft.tokenizer.json_format import Data

GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")

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
)
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def added_token(token_id: int, content: str, *, special: bool = True) -> dict[str, Any]:
    """Return an added token as tokenizer.json writes it."""
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def tokenizer_data(model: dict[str, Any], **parts: Any) -> Data:
    """Return a tokenizer.json with every part that `tokenizers` expects."""
    empty = dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    return {"version": "1.0", **empty, "added_tokens": [], **parts, "model": model}


def bpe_model(vocab: dict[str, int], merges: list[Any], **settings: Any) -> dict[str, Any]:
    """Return a BPE model as tokenizer.json writes it."""
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
    """Return pre-tokenizer and decoder of a byte-level BPE with this regex."""
    return {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
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
    """Read GPT-2's vocab.json and the merges.txt beside it."""
    merges_file = source.with_name("merges.txt")
    try:
        vocab = json.loads(source.read_text(encoding="utf-8"))
        lines = merges_file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        msg = f"{source}: expected vocab.json with merges.txt beside it ({error})"
        raise TokenizerError(msg) from error
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = [added_token(vocab[name], name) for name in ("<|endoftext|>",) if name in vocab]
    data = tokenizer_data(
        bpe_model(vocab, merges), added_tokens=special, **byte_level_parts(GPT2_REGEX)
    )
    if special:
        data["lingraft_roles"] = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return data


def from_tiktoken(source: Path) -> Data:
    """Read tiktoken ranks: the merges are every split of a token into two others, in the order of ranks.

    The file holds neither regex nor special tokens; both are known for Llama-3 (128,000 ranks) and Qwen (151,643).
    """
    from lingraft.tokenizer.byte_level_bpe import byte_characters

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
    special: tuple[str, ...]
    if len(ranks) == 128_000:
        reserved = tuple(f"<|reserved_special_token_{i}|>" for i in range(5, 251))
        pattern, special, (bos, eos), ignore = (
            LLAMA3_REGEX,
            _LLAMA3_SPECIAL + reserved,
            _LLAMA3_SPECIAL[:2],
            True,
        )
    elif len(ranks) == 151_643:
        pattern, special, (bos, eos), ignore = (
            QWEN_REGEX,
            _QWEN_SPECIAL,
            (None, "<|endoftext|>"),
            False,
        )
    else:
        msg = (
            f"{source}: {len(ranks)} tiktoken ranks; the regex is known for Llama-3 (128000) and Qwen (151643) "
            "only: give the model's tokenizer.json instead"
        )
        raise TokenizerError(msg)
    table = byte_characters()
    vocab = {"".join(table[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = [
        list(pair)
        for piece in sorted(vocab, key=vocab.__getitem__)
        for pair in splits(piece, vocab)
    ]
    tokens = [added_token(len(ranks) + i, name) for i, name in enumerate(special)]
    normalizer = {"type": "NFC"} if pattern == QWEN_REGEX else None
    data = tokenizer_data(
        bpe_model(vocab, merges, ignore_merges=ignore),
        added_tokens=tokens,
        normalizer=normalizer,
        post_processor=special_token_template(before=(bos, len(ranks)) if bos else None),
        **byte_level_parts(pattern),
    )
    data["lingraft_roles"] = {"bos_token": bos, "eos_token": eos}
    return data


def special_token_template(
    *, before: tuple[str, int] | None = None, after: tuple[str, int] | None = None
) -> dict[str, Any] | None:
    """Return the post-processor that puts a special token (content, id) before or after a text."""
    tokens = [token for token in (before, after) if token]
    if not tokens:
        return None

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        special = [
            {"SpecialToken": {"id": token[0], "type_id": type_id}} if token else None
            for token in (before, after)
        ]
        return [
            part
            for part in (special[0], {"Sequence": {"id": sequence, "type_id": type_id}}, special[1])
            if part
        ]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in tokens},
    }
