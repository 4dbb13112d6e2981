r"""The names that llama.cpp gives to the pre-tokenizers of byte-level models.

A GGUF file stores no regular expression, only a name; llama.cpp has the expression built in. Names
whose built-in expression only approximates the original are left out: `tekken`, for example, tells
upper case from lower case by ASCII and does not know combining marks.
"""

from __future__ import annotations

from typing import Any, NoReturn

from lingraft.errors import ModelError
from lingraft.pretokenizer.mark_aware import MARK_AWARE_WORD
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

_GPT4_START = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
_GPT4_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN35_END = r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

NAMES = {
    (GPT2_REGEX, False): "gpt-2",
    (_GPT4_START + r"\p{L}+|\p{N}" + _GPT4_END, False): "qwen2",
    (_GPT4_START + r"\p{L}+|\p{N}{1,3}" + _GPT4_END, True): "llama-bpe",
    (_GPT4_START + r"\p{L}+|\p{N}{1,3}" + _GPT4_END, False): "smaug-bpe",
    (_GPT4_START + r"[\p{L}\p{M}]+|\p{N}" + _QWEN35_END, False): "qwen35",
}
"""llama.cpp's name by regular expression and by whether whole words are looked up before merges."""

SHOWN = 40
"""Characters of an unknown expression that a message shows."""


def llama_cpp_name(data: Data) -> str:
    """Return llama.cpp's name for a byte-level pre-tokenizer; raises `ModelError` without one."""
    parts = pre_tokenizers(data)
    whole_words = bool(data["model"].get("ignore_merges"))
    kinds = [part["type"] for part in parts]
    if any(part.get("add_prefix_space") for part in parts):
        _refuse("a space is put before every text")
    # SmolLM splits digits in a step of its own; llama.cpp has one name for both steps.
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and not whole_words:
        return "smollm"
    if kinds == ["ByteLevel"]:
        expression = GPT2_REGEX
    elif kinds == ["Split", "ByteLevel"] and _isolates(parts[0]):
        expression = parts[0]["pattern"]["Regex"]
    else:
        _refuse(f"its steps are {', '.join(kinds) or 'none'}")
    if MARK_AWARE_WORD in expression:
        _refuse("its regular expression was made mark-aware")
    name = NAMES.get((expression, whole_words))
    if name is None:
        lookup = ", with words looked up before merges" if whole_words else ""
        _refuse(f"its regular expression is {_short(expression)!r}{lookup}")
    return name


def find_llama_cpp_name(data: Data) -> str | None:
    """Return llama.cpp's name for a byte-level pre-tokenizer, `None` where it has none."""
    try:
        return llama_cpp_name(data)
    except ModelError:
        return None


def _isolates(part: dict[str, Any]) -> bool:
    isolated = part.get("behavior") == "Isolated" and not part.get("invert")
    return isolated and "Regex" in part.get("pattern", {})


def _short(expression: str) -> str:
    return expression if len(expression) <= SHOWN else expression[:SHOWN] + "..."


def _refuse(reason: str) -> NoReturn:
    # llama.cpp would load the model under a wrong name and silently split text in another way.
    msg = (
        f"the pre-tokenizer has no name in llama.cpp ({reason}); use the model in transformers or "
        "vLLM, or adapt a model that llama.cpp knows with -o vocabulary.pretokenizer=keep"
    )
    raise ModelError(msg)
