"""The name that llama.cpp gives to the pre-tokenizer of a byte-level tokenizer.

A name whose built-in expression only approximates the model's own is never returned: `tekken`, for
example, tells upper case from lower case by ASCII and does not know combining marks.
"""

from __future__ import annotations

from typing import Any

from lingraft.errors import ModelError
from lingraft.pretokenizer.mark_aware import MARK_AWARE_WORD
from lingraft.pretokenizer.named_pretokenizers import NAMED_PRETOKENIZERS
from lingraft.pretokenizer.word_internal import INTERNAL
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

NAMES = {
    (named.expressions, named.whole_words): named.name
    for named in NAMED_PRETOKENIZERS
    if named.expressions
}
"""llama.cpp's name by expressions and by whether whole words are looked up before merges."""

SHOWN = 40
"""Characters of an unknown expression that a message shows."""


def llama_cpp_name(data: Data) -> str:
    """Return llama.cpp's name for a byte-level pre-tokenizer; raises `ModelError` without one."""
    # llama.cpp would load the model under a wrong name and silently split text in another way.
    try:
        return _name(data)
    except _NoNameError as error:
        instead = "or adapt a model whose pre-tokenizer llama.cpp has"
        if error.rewritten:
            instead = (
                "or extend the base again with -o vocabulary.pretokenizer=keep (more tokens per "
                "word), or named where one fits; `lingraft plan` says what does"
            )
        msg = f"{error}; use the model in transformers or vLLM, {instead}"
        raise ModelError(msg) from None


def why_no_name(data: Data) -> str:
    """Return why llama.cpp has no name for a byte-level pre-tokenizer, "" if it has one."""
    try:
        _name(data)
    except _NoNameError as error:
        return str(error)
    return ""


def find_llama_cpp_name(data: Data) -> str | None:
    """Return llama.cpp's name for a byte-level pre-tokenizer, `None` where it has none."""
    try:
        return _name(data)
    except _NoNameError:
        return None


class _NoNameError(Exception):
    """Why there is no name, and whether it is because lingraft rewrote the expression."""

    def __init__(self, reason: str, *, rewritten: bool = False) -> None:
        self.rewritten = rewritten
        super().__init__(f"the pre-tokenizer has no name in llama.cpp ({reason})")


def _name(data: Data) -> str:
    parts = pre_tokenizers(data)
    whole_words = bool(data["model"].get("ignore_merges"))
    if any(part.get("add_prefix_space") for part in parts):
        raise _NoNameError("a space is put before every text")
    expressions = _expressions(parts)
    if expressions is None:
        steps = ", ".join(part["type"] for part in parts) or "none"
        reason = f"its steps are {steps}"
        raise _NoNameError(reason)
    for mark, kind in ((MARK_AWARE_WORD, "mark-aware"), (INTERNAL, "letter-aware")):
        if any(mark in expression for expression in expressions):
            reason = f"its regular expression was made {kind}"
            raise _NoNameError(reason, rewritten=True)
    name = NAMES.get((expressions, whole_words))
    if name is None:
        lookup = ", with words looked up before merges" if whole_words else ""
        shown = _short(" then ".join(expressions))
        reason = f"its regular expression is {shown!r}{lookup}"
        raise _NoNameError(reason)
    return name


def _expressions(parts: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Return the expressions by which the steps split, `None` if one splits in another way."""
    if not parts or parts[-1]["type"] != "ByteLevel":
        return None
    expressions = []
    for part in parts[:-1]:
        if part["type"] == "Digits" and part.get("individual_digits"):
            expressions.append(r"\p{N}")
        elif part["type"] == "Split" and _isolates(part):
            expressions.append(part["pattern"]["Regex"])
        else:
            return None
    if parts[-1].get("use_regex", True):
        expressions.append(GPT2_REGEX)
    return tuple(expressions)


def _isolates(part: dict[str, Any]) -> bool:
    isolated = part.get("behavior") == "Isolated" and not part.get("invert")
    return isolated and "Regex" in part.get("pattern", {})


def _short(expression: str) -> str:
    return expression if len(expression) <= SHOWN else expression[:SHOWN] + "..."
