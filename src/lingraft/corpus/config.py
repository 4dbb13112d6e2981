"""Settings of a corpus: the sources of text, the filters, and the held-out text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from lingraft.corpus.document_weight import DocumentWeight
from lingraft.corpus.health_checks import REFUSING
from lingraft.corpus.presets import DEFAULT_HELDOUT_LIMIT, DEFAULT_LIMIT, preset, presets
from lingraft.corpus.remote_files import is_url
from lingraft.corpus.script_check import check_scripts
from lingraft.corpus.text_files import has_wildcards
from lingraft.corpus.text_repairs import Cleaning
from lingraft.corpus.where import parse_condition
from lingraft.file_kinds import ENDINGS, TEXT_KINDS, without_compression
from lingraft.hub_client import HUB_ID
from lingraft.registry import Settings
from lingraft.store import path_exists

HELDOUT_SHARE = 0.01
"""Share of the documents that is held out by default."""


class Limit(Settings):
    """A maximum amount of text; a document that would exceed either bound is left out."""

    documents: int | None = Field(default=None, gt=0, description="maximum number of documents")
    bytes: ByteSize | None = Field(
        default=None, gt=0, description="maximum bytes of UTF-8 text; '10MB' is accepted"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.documents is None and self.bytes is None:
            msg = "a limit has no amount; set documents, bytes, or both"
            raise ValueError(msg)
        return self

    def allows(self, documents: int, size: int) -> bool:
        """Return whether this number of documents and bytes is within the limit."""
        if self.documents is not None and documents > self.documents:
            return False
        return self.bytes is None or size <= self.bytes


class Miniature(Settings):
    """Generated stories, which need no download."""

    stories: int = Field(default=20_000, gt=0, description="number of stories")
    seed: int = Field(default=0, description="seed of the stories")


_HUB_SETTINGS = ("config", "split", "revision", "streaming")
_COLUMN_SETTINGS = ("where", "document_weight")
_PRESET_SETTINGS = (*_HUB_SETTINGS, *_COLUMN_SETTINGS, "weight")
UNUSED_SETTINGS = {
    "preset": ("text_field", "format", "document_unit"),
    "hub": ("document_unit",),
    "path": _HUB_SETTINGS,
    "miniature": (*_HUB_SETTINGS, "text_field", "document_unit", "format", *_COLUMN_SETTINGS),
}
"""The settings of a `Source` that have no effect, by the place of the text."""


class Source(Settings):
    """A source of text: exactly one of `path`, `hub`, `preset` and `miniature`.

    >>> Source.parse("text/hi.jsonl.gz").path, Source.parse("hf:owner/name").hub
    ('text/hi.jsonl.gz', 'owner/name')
    >>> Source.parse("wikipedia").preset, Source.parse("./wikipedia").path
    ('wikipedia', './wikipedia')
    """

    written: ClassVar[str] = "a path, owner/name of a hub data set, `miniature`, or {path, ...}"

    path: str | None = Field(
        default=None,
        description="file, folder (also of a saved data set of `datasets`), glob, or a URL of one "
        f"(s3:// gs:// az:// hf:// https://): {TEXT_KINDS}",
    )
    hub: str | None = Field(default=None, description="hub data set, owner/name")
    preset: str | None = Field(
        default=None,
        description="data set on the hub by its short name, such as fineweb-2; the language "
        "decides the configuration",
    )
    miniature: Miniature | None = Field(
        default=None, description="generated stories in en, hi, tr, ar or ta"
    )
    config: str | None = Field(default=None, description="configuration of the hub data set")
    split: str = Field(default="train", description="split of the hub data set")
    revision: str | None = Field(
        default=None, description="branch, tag or commit of the hub data set"
    )
    streaming: bool = Field(
        default=True, description="read the hub data set without downloading all of it"
    )
    text_field: str = Field(
        default="text",
        description="field that holds the text; 'translation.hi' is the field hi of translation",
    )
    format: Literal["text", "chat"] = Field(
        default="text",
        description="text: each record is plain text; chat: each record is a conversation "
        "(messages, instruction and output, or text with chat markup), written with the model's "
        "own chat template",
    )
    document_unit: Literal["line", "paragraph", "file"] = Field(
        default="line",
        description="unit of a .txt file that is one document; blank lines separate paragraphs",
    )
    where: str | None = Field(
        default=None,
        description="condition on the columns of a record, such as language_score >= 0.9 and "
        "language == 'hin'; documents for which it does not hold, or compares a null, are dropped "
        "and counted",
    )
    document_weight: DocumentWeight | None = Field(
        default=None,
        description="column with the weight of each document, also written as `weight: COLUMN`: "
        "how often it counts in learning tokens and in training; held-out documents count once",
    )
    weight: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="share of the training bytes, relative to the other sources; without weights "
        "each source is used in full; a name is a column: see `document_weight`",
    )
    limit: Limit | None = Field(
        default=None, description="use the first documents of this source only"
    )

    @classmethod
    def parse(cls, value: object) -> object:
        """Read the short form of a recipe.

        It is a path, `hf:owner/name`, `owner/name`, `miniature` or the name of a preset. A name
        that is also a local file or folder is an error, because either may be meant.
        """
        if not isinstance(value, str):
            return value
        if value in presets():
            if path_exists(value):
                msg = (
                    f"{value} is a preset and also a local path; write ./{value} for the path, or "
                    f"hf:{preset(value).repository} or {{preset: {value}}} for the data set"
                )
                raise ValueError(msg)
            return cls(preset=value)
        if value == "miniature":
            return cls(miniature=Miniature())
        if value.startswith("hf:") and not is_url(value):
            return cls(hub=value.removeprefix("hf:"))
        if HUB_ID.fullmatch(value) and not looks_like_a_path(value):
            return cls(hub=value)
        return cls(path=value)

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read `weight: COLUMN`, or a mapping with the column, as the weight of documents."""
        if not isinstance(value, Mapping):
            return value
        weight = value.get("weight")
        if not isinstance(weight, Mapping) and not (
            isinstance(weight, str) and not _is_number(weight)
        ):
            return value
        if value.get("document_weight") is not None:
            msg = "weight and document_weight both name a column; remove one of them"
            raise ValueError(msg)
        others = {name: setting for name, setting in value.items() if name != "weight"}
        return {**others, "document_weight": weight}

    @classmethod
    def replaced_by(cls, name: str) -> Collection[str]:
        """Replace the other places of the text by this one, and what only they have."""
        if name not in UNUSED_SETTINGS:
            return ()
        return {*UNUSED_SETTINGS, *UNUSED_SETTINGS[name]} - {name}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the condition and the weight read."""
        columns = list(parse_condition(self.where).columns) if self.where else []
        if self.document_weight is not None:
            columns.append(self.document_weight.column)
        return tuple(columns)

    @property
    def fields_read(self) -> tuple[str, ...]:
        """The fields of a record that are read, none if all are: chats may use several."""
        return (self.text_field, *self.columns) if self.format == "text" else ()

    @property
    def is_streamed(self) -> bool:
        """Whether the source is read only as far as its text is needed."""
        if self.path is not None:
            return is_url(self.path)
        return self.hub is not None and self.streaming

    @property
    def label(self) -> str:
        """The name of this source in counts and errors."""
        if self.preset is not None:
            return self.preset
        if self.hub is not None:
            return "hf:" + "/".join(part for part in (self.hub, self.config, self.split) if part)
        if self.miniature is not None:
            return "miniature"
        return str(self.path)

    def resolve(self, language: str, limit: Limit | None = None) -> Source:
        """Return the hub data set that a preset means for a language; other sources as they are.

        `limit` applies if the preset has no limit of its own. Raises `CorpusError` if the preset
        does not exist or does not have the language.
        """
        if self.preset is None:
            return self
        found = preset(self.preset)
        settings = {name: getattr(self, name) for name in _PRESET_SETTINGS}
        settings["config"] = self.config or found.configuration_for(language)
        settings["limit"] = self.limit or limit
        return Source(hub=found.repository, text_field=found.text_field, **settings)

    @model_serializer(mode="wrap")
    def _without_later_settings(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave later settings out where they are not set: keys of runs without them stay."""
        values: dict[str, Any] = serialize(self)
        for name in ("preset", *_COLUMN_SETTINGS):
            if getattr(self, name) is None:
                values.pop(name, None)
        return values

    @field_validator("where")
    @classmethod
    def _parsed(cls, where: str | None) -> str | None:
        # In its usual form, so that spaces and quotation marks do not change the key.
        return None if where is None else str(parse_condition(where))

    @field_validator("path")
    @classmethod
    def _local_path(cls, path: str | None) -> str | None:
        return path and path.removeprefix("file://")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        names = ("path", "hub", "preset", "miniature")
        places = [name for name in names if getattr(self, name) is not None]
        if len(places) != 1:
            got = " and ".join(places) or "none"
            msg = f"a source is exactly one of path, hub, preset and miniature; got {got}"
            raise ValueError(msg)
        if self.hub is not None and not HUB_ID.fullmatch(self.hub):
            msg = f"hub: {self.hub!r} is not a data set id; expected owner/name"
            raise ValueError(msg)
        # A setting that would be ignored is an error: the user expects an effect of it.
        for name in UNUSED_SETTINGS[places[0]]:
            if getattr(self, name) != type(self).model_fields[name].default:
                msg = f"{name} has no meaning for a source with {places[0]}; leave it out"
                raise ValueError(msg)
        return self


def looks_like_a_path(text: str) -> bool:
    """Return whether a string is a path: by its ending, wildcards, first character or existence."""
    return (
        without_compression(text).endswith(ENDINGS)
        or text.startswith((".", "/", "~"))
        or has_wildcards(text)
        or path_exists(text)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _as_check(value: object) -> Any:
    return None if value is False else value


ParsedSource = Annotated[Source, BeforeValidator(Source.parse)]
Sources = Annotated[tuple[ParsedSource, ...], BeforeValidator(_as_list), Field(min_length=1)]


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


class CorpusSettings(Settings):
    """The sources of a corpus, its filters and its held-out text."""

    newer_settings: ClassVar[tuple[str, ...]] = ("scripts",)
    """Settings that recipes of 0.1 do not have; they are written where they are not the default."""

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
    scripts: tuple[str, ...] = Field(
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
        "of 5 to 12) are dropped, and counted",
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
        evaluation = self.decontaminate and tuple(
            source.resolve(language, held) for source in self.decontaminate
        )
        resolved = {"sources": sources, "heldout": heldout, "decontaminate": evaluation}
        return self.model_copy(update=resolved)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """All sources that are read: of training, held-out and evaluation text."""
        return (*self.sources, *(self.heldout or ()), *(self.decontaminate or ()))

    @property
    def share(self) -> float | None:
        """The share of documents to hold out, `None` if there are held-out sources."""
        return None if self.heldout else self.heldout_share or HELDOUT_SHARE

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave defaults of newer settings out: values and keys of earlier recipes stay."""
        values: dict[str, Any] = serialize(self)
        for name in self.newer_settings:
            if getattr(self, name) == type(self).model_fields[name].default:
                values.pop(name, None)
        return values

    @field_validator("scripts")
    @classmethod
    def _known_scripts(cls, scripts: tuple[str, ...]) -> tuple[str, ...]:
        check_scripts(scripts)
        return scripts

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
