"""The settings of a recipe for text: target languages and replay."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from lingraft.corpus import CorpusSettings, parse_language
from lingraft.corpus.source import Sources
from lingraft.errors import CorpusError, RecipeError
from lingraft.file_kinds import TEXT_KINDS


def _language(tag: object) -> str:
    if not isinstance(tag, str):
        msg = f"a language is a tag such as hi, pt-BR or zh-Hant, got {tag!r}"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return parse_language(tag)
    except RecipeError as error:
        # Pydantic adds the path of the setting to a ValueError; it lets other errors through.
        raise ValueError(str(error)) from error


class Text(CorpusSettings):
    """Text in one language."""

    later: ClassVar[tuple[str, ...]] = (*CorpusSettings.later, "max_epochs")

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    language: Annotated[str, BeforeValidator(_language)] = Field(
        description="BCP-47 tag (hi, pt-BR, zh-Hant), or domain:NAME for text of a domain"
    )
    sources: Sources = Field(
        alias="corpus",
        description=f"training text: a file ({TEXT_KINDS}), a hub data set owner/name, a preset "
        "such as fineweb-2, `miniature`, a mapping with details, or a list of these",
    )

    weight: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="with several target languages: factor on this language's amount of text",
    )

    max_epochs: float | None = Field(
        default=4.0,
        ge=1,
        description="how often training may read this text; with a share that needs more, the "
        "share is lowered and other text has the rest. Up to 4 epochs, repeated text is worth "
        "almost as much as new text (Muennighoff et al. 2023, arXiv 2305.16264); null: no limit",
    )

    @model_validator(mode="after")
    def _check_presets(self) -> Self:
        try:
            self.corpus.resolve(self.language)
        except CorpusError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def corpus(self) -> CorpusSettings:
        """The settings of the corpus alone: the key of a corpus depends on these only."""
        settings = {name: getattr(self, name) for name in CorpusSettings.model_fields}
        return CorpusSettings.model_construct(**settings)


class Replay(Text):
    """Text in a language that the model knows, for training and to measure forgetting."""

    portion: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        alias="share",
        description="share of the bytes of training text that is replayed; 0: measured only",
    )
