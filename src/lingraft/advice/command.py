"""`lingraft advise`: the words of a command line as what is asked."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from lingraft.advice.advising import Wanted
from lingraft.advice.costs import Gpus
from lingraft.corpus import parse_language
from lingraft.errors import RecipeError
from lingraft.training.budget import Budget


def wanted_of(language: str | None, text: Sequence[str] | None, base_language: str | None,
              base_text: Sequence[str] | None, *, gpus: str | None, budget: str | None, probe: str | None) -> Wanted:
    """Read the options; raises `RecipeError` where one is missing or no size."""
    missing = " and ".join(option for option, value in (("--language", language), ("--text", text)) if not value)
    if missing or not language or not text:
        msg = f"{missing} must be given: lingraft advise MODEL --language hi --text hindi.jsonl.gz"
        raise RecipeError(msg)
    return Wanted(parse_language(language), tuple(text), parse_language(base_language or "en"),
                  tuple(base_text or ()), Gpus.parse(gpus) if gpus else None,
                  _bytes("--budget", budget) if budget else None, _bytes("--probe", probe) if probe else 0)


def _bytes(option: str, text: str) -> int:
    """Read a size; raises `RecipeError` where it is none.

    >>> _bytes("--budget", "1.5 MB")
    1500000
    """
    try:
        size = Budget.model_validate(text).bytes
    except ValidationError:
        size = None
    if size is None:
        msg = f"{option} {text!r}: expected a size of text, like '200 MB'"
        raise RecipeError(msg)
    return size
