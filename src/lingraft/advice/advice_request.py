"""The input of `lingraft advise`: the texts, the GPUs and the budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from lingraft.advice.costs import Gpus
from lingraft.advice.text_sample import SAMPLE_BYTES
from lingraft.corpus import parse_language
from lingraft.corpus.presets import DEFAULT_LIMIT, presets
from lingraft.errors import RecipeError
from lingraft.recipe import Given
from lingraft.recipe.default_text import with_default_text
from lingraft.training import Budget


@dataclass(frozen=True)
class AdviceRequest:
    """What to advise on: the languages with their text, the GPUs, and the budgets.

    Attributes:
        language: the target language.
        text: files, globs or Hub data sets with target text.
        base_language: the language to be kept.
        base_text: text in it; without text, replay is not counted in the cost.
        gpus: the GPUs of the real run; without them, hours are not computed.
        budget: bytes of target text in the real run; by default all text that is given, as far as
            it is read.
        probe: bytes of target text in a probe of each base; 0 for no probe.
        replay: the share of base-language text in training.
        sample_bytes: how much text per language is read into the sample.
        text_field: the field of the target text; by default `text`.
        base_text_field: the field of the base text.
        learned_from: bytes of text that tokens are learned from; by default all that is given.
    """

    language: str
    text: Sequence[str]
    base_language: str = "en"
    base_text: Sequence[str] = ()
    gpus: Gpus | None = None
    budget: int | None = None
    probe: int = 0
    replay: float = 0.2
    sample_bytes: int = SAMPLE_BYTES
    text_field: str | None = None
    base_text_field: str | None = None
    learned_from: int | None = None

    def given(self, model: str | None = None) -> Given:
        """Return the texts, with a model, as a command gets them."""
        return Given(
            model,
            self.language,
            self.text,
            self.base_language,
            self.base_text,
            self.text_field,
            self.base_text_field,
        )


def parse_request(
    language: str | None,
    text: Sequence[str] | None,
    base_language: str | None,
    base_text: Sequence[str] | None,
    *,
    gpus: str | None,
    budget: str | None,
    probe: str | None,
    text_field: str | None = None,
    base_text_field: str | None = None,
) -> AdviceRequest:
    """Read the options of the command line; text that is not named is a preset of the Hub.

    Raises `RecipeError` if an option is missing or wrong.
    """
    if not language:
        msg = "--language must be given: lingraft advise MODEL --language hi"
        raise RecipeError(msg)
    given = with_default_text(Given(None, language, text or (), base_language, base_text or ()))
    # Only a sample of a preset is read, but a run without a budget reads up to its limit.
    has_preset = not presets().keys().isdisjoint(given.text)
    read = _parse_bytes("--budget", budget) if budget else DEFAULT_LIMIT if has_preset else None
    return AdviceRequest(
        parse_language(language),
        tuple(given.text),
        parse_language(base_language or "en"),
        tuple(given.base_text),
        gpus=Gpus.parse(gpus) if gpus else None,
        budget=read,
        probe=_parse_bytes("--probe", probe) if probe else 0,
        text_field=text_field,
        base_text_field=base_text_field,
        learned_from=read if has_preset else None,
    )


def _parse_bytes(option: str, text: str) -> int:
    """Return the bytes of a size like `200 MB`; raises `RecipeError` if it is not a size.

    >>> _parse_bytes("--budget", "1.5 MB")
    1500000
    """
    try:
        size = Budget.model_validate(text).bytes
    except ValidationError:
        size = None
    # `Budget` also reads tokens and epochs, which are not a size of text.
    if size is None:
        msg = f"{option} {text!r}: expected a size of text, like '200 MB'"
        raise RecipeError(msg)
    return size
