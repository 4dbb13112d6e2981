r"""The names by which llama.cpp knows how byte-level tokenizers cut text.

The file holds no regular expression, only its name; the expression is built into llama.cpp. Some of the built-in ones
are approximations (`tekken` tells upper from lower case by ASCII and knows no marks) and are left out here.
"""

from __future__ import annotations

from typing import Any

from lingraft.errors import ModelError
from lingraft.pretokenizer.mark_aware import MARK_AWARE_WORD
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

_GPT4_START = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
_GPT4_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

NAMES = {
    (GPT2_REGEX, False): "gpt-2",
    (_GPT4_START + r"\p{L}+|\p{N}" + _GPT4_END, False): "qwen2",
    (_GPT4_START + r"\p{L}+|\p{N}{1,3}" + _GPT4_END, True): "llama-bpe",
    (_GPT4_START + r"\p{L}+|\p{N}{1,3}" + _GPT4_END, False): "smaug-bpe",
    (
        _GPT4_START
        + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        False,
    ): "qwen35",
}
"""(regular expression, whether a word that is a token is taken without looking at merges) -> llama.cpp's name."""


def llama_cpp_name(data: Data) -> str:
    """Return llama.cpp's name for a byte-level tokenizer's pre-tokenizer; raises `ModelError` where it has none."""
    parts = pre_tokenizers(data)
    whole_words = bool(data["model"].get("ignore_merges"))
    expressions = [part["pattern"]["Regex"] for part in parts if "Regex" in part.get("pattern", {})]
    kinds = [part["type"] for part in parts]
    if any(part.get("add_prefix_space") for part in parts):
        _refuse("a space is put before every text")
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and not whole_words:
        return "smollm"
    if kinds == ["ByteLevel"]:
        expressions = [GPT2_REGEX]
    elif kinds != ["Split", "ByteLevel"] or not _isolates(parts[0]):
        _refuse(f"it is made of {', '.join(kinds) or 'nothing'}")
    if MARK_AWARE_WORD in expressions[0]:
        _refuse("its regular expression was repaired so that words are not cut at vowel signs")
    name = NAMES.get((expressions[0], whole_words))
    return name or _refuse(
        f"its regular expression is {expressions[0]!r}"
        + (", with words looked up before merges" if whole_words else "")
    )


def find_llama_cpp_name(data: Data) -> str | None:
    """Return llama.cpp's name for a byte-level tokenizer's pre-tokenizer, `None` where it has none."""
    try:
        return llama_cpp_name(data)
    except ModelError:
        return None


def _isolates(part: dict[str, Any]) -> bool:
    return part.get("behavior") == "Isolated" and not part.get("invert")


def _refuse(reason: str) -> str:
    msg = (
        f"the pre-tokenizer has no name in llama.cpp ({reason}), and another name would cut text in another way; "
        "adapt with -o vocabulary.pretokenizer=keep from a base whose expression it knows "
        f"({', '.join(sorted({*NAMES.values(), 'smollm'}))}), or use the model in transformers or vLLM"
    )
    raise ModelError(msg)
