"""Settings of a corpus: the sources of text, the filters, and the held-out text."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    model_validator,
)

from lingraft.corpus.health_checks import REFUSING
from lingraft.corpus.presets import DEFAULT_HELDOUT_LIMIT, DEFAULT_LIMIT
from lingraft.corpus.script_check import check_scripts
from lingraft.corpus.source import Limit, Source, Sources
from lingraft.corpus.text_repairs import Cleaning, TextRepairs
from lingraft.registry import Settings

HELDOUT_SHARE = 0.01
"""Share of the documents that is held out by default."""


def _as_check(value: object) -> Any:
    return None if value is False else value


class LanguageCheck(Settings):
    """Drop documents that lingua assigns to another language (needs the extra `language-id`).

    Lingua divides its confidence among all its languages, and related languages take a large part.
    On real held-out text (en, hi, tr, ar, ta, th), a minimum of 0.05 wrongly drops 0.0 to 0.8% of
    the documents and keeps none of the other five languages; 0.5 wrongly drops 53% of the English
    and 9% of the Hindi documents. Raise the minimum to drop closely related languages.
    """

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read `true` as the defaults."""
        return {} if value is True else value

    min_confidence: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="minimum confidence (0 to 1) in the stated language, as lingua gives it among "
        "all its languages for the first 1,000 characters",
    )


def _known_scripts(scripts: tuple[str, ...]) -> tuple[str, ...]:
    check_scripts(scripts)
    return scripts


class CorpusSettings(Settings):
    """The sources of a corpus, its filters and its held-out text."""

    later: ClassVar[tuple[str, ...]] = ("scripts",)

    sources: Sources = Field(description="one source or several: a path, owner/name, or a mapping")
    heldout: Sources | None = Field(
        default=None, description="sources of the held-out text, cleaned like the others"
    )
    heldout_share: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="share of the documents that is held out, by their hash; "
        f"{HELDOUT_SHARE} if `heldout` is not set",
    )
    heldout_bytes: ByteSize | None = Field(
        default=None, gt=0, description="maximum bytes of held-out text"
    )
    min_characters: int = Field(default=1, ge=1, description="shorter documents are dropped")
    max_characters: int | None = Field(
        default=None, ge=1, description="longer documents are dropped"
    )
    max_document_bytes: ByteSize = Field(
        default=ByteSize(16_000_000),
        gt=0,
        description="a longer document that would be kept is an error: tokenising needs 110 MB of "
        "memory per MB of it",
    )
    cleaning: Cleaning | None = Field(
        default=None,
        description="repairs of the text, all counted: {normalise: NFC, unmojibake: true, strip: "
        "[html, soft_hyphens], join_lines: true}; by default it stays as read, and problems are "
        "reported",
    )
    scripts: Annotated[tuple[str, ...], AfterValidator(_known_scripts)] = Field(
        default=(),
        description="scripts that the text is written in (ISO 15924: [Deva, Latn]), for "
        "code-switched text; by default the one of the language's tag: hi-Latn is Latin",
    )
    allow: tuple[Literal[REFUSING], ...] = Field(  # type: ignore[valid-type]
        default=(),
        description=f"checks of the text that may find enough to refuse it: {', '.join(REFUSING)}",
    )
    decontaminate: Sources | None = Field(
        default=None,
        description="evaluation text: training documents with 13 words in a row of it (or with all "
        "of 5 to 12) are dropped, and counted; a preset needs a limit of its own",
    )
    language_check: Annotated[LanguageCheck | None, BeforeValidator(_as_check)] = Field(
        default=None,
        description="drop documents in another language; `true` or {min_confidence: 0.05}",
    )
    limit: Limit | None = Field(
        default=None,
        description="maximum amount of training text: a random sample of the sources; a streamed "
        "hub data set or a URL is read no further than needed",
    )
    seed: int = Field(
        default=0,
        description="seed of the order of documents; the held-out share does not depend on it",
    )

    def resolve(self, language: str, limit: Limit | None = None) -> Self:
        """Return these settings with the hub data sets that presets mean for a language.

        `limit` is how much is read of a preset if neither it nor the corpus has a limit; without
        one, it is `DEFAULT_LIMIT`. Raises `CorpusError` if a preset does not have the language.
        """
        default = limit or Limit(bytes=ByteSize(DEFAULT_LIMIT))
        limit = None if self.limit else default
        held = Limit(bytes=self.heldout_bytes or ByteSize(DEFAULT_HELDOUT_LIMIT))
        sources = tuple(source.resolve(language, limit) for source in self.sources)
        heldout = self.heldout and tuple(source.resolve(language, held) for source in self.heldout)
        # No limit applies: a part of the evaluation text would let the rest through.
        evaluation = self.decontaminate and tuple(
            source.resolve(language) for source in self.decontaminate
        )
        resolved = {"sources": sources, "heldout": heldout, "decontaminate": evaluation}
        return self.model_copy(update=resolved)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """All sources that are read: of training, held-out and evaluation text."""
        return (*self.sources, *(self.heldout or ()), *(self.decontaminate or ()))

    @property
    def holds_chats(self) -> bool:
        """Whether a source of training or held-out text has conversations."""
        return any(source.format == "chat" for source in (*self.sources, *(self.heldout or ())))

    def repairs(self, language: str) -> TextRepairs:
        """Return the repairs of text in a language, with counts of their own."""
        return TextRepairs(self.cleaning or Cleaning(), language, self.scripts)

    @property
    def repairs_identity(self) -> dict[str, Any]:
        """What the repairs of a language depend on, as plain JSON."""
        identity = self.cleaning.model_dump(mode="json") if self.cleaning else {}
        return identity | ({"scripts": list(self.scripts)} if self.scripts else {})

    @property
    def share(self) -> float | None:
        """The share of documents to hold out, `None` if there are held-out sources."""
        return None if self.heldout else self.heldout_share or HELDOUT_SHARE

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unweighted = [source.label for source in self.sources if source.weight is None]
        if 0 < len(unweighted) < len(self.sources):
            msg = (
                f"{unweighted[0]} has no weight, but others do; give all sources a weight, or none"
            )
            raise ValueError(msg)
        for name in ("heldout", "decontaminate"):
            given = getattr(self, name) or ()
            if any(source.weight or source.document_weight for source in given):
                msg = f"weight has no meaning in {name}; leave it out"
                raise ValueError(msg)
        for source in self.decontaminate or ():
            if source.preset and source.limit is None:
                msg = (
                    f"decontaminate: {source.preset} has no limit, and training text is compared "
                    "with all evaluation text; set its limit, or name a file or hub data set"
                )
                raise ValueError(msg)
        if self.heldout and self.heldout_share is not None:
            msg = "heldout and heldout_share exclude each other; remove one of them"
            raise ValueError(msg)
        if self.max_characters is not None and self.max_characters < self.min_characters:
            msg = (
                f"max_characters {self.max_characters} is below min_characters "
                f"{self.min_characters}; nothing would be kept"
            )
            raise ValueError(msg)
        return self
