"""Where text comes from: a path, a data set of the Hub, a preset, or generated stories."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    field_validator,
    model_validator,
)

from lingraft.corpus.chat import conversation_fields
from lingraft.corpus.document_weight import DocumentWeight
from lingraft.corpus.file_patterns import has_wildcards
from lingraft.corpus.presets import preset, presets
from lingraft.corpus.remote_files import is_url
from lingraft.corpus.where import parse_condition
from lingraft.file_kinds import ENDINGS, TEXT_KINDS, without_compression
from lingraft.hub_client import HUB_ID
from lingraft.registry import Settings
from lingraft.store import path_exists


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


def _usual_form(where: str) -> str:
    """Return a condition without what does not change its meaning, and should not change a key."""
    return str(parse_condition(where))


Condition = Annotated[str, AfterValidator(_usual_form)]
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
    later: ClassVar[tuple[str, ...]] = ("preset", *_COLUMN_SETTINGS)

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
    where: Condition | None = Field(
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
        """The fields of a record that are read; a chat may have any of several."""
        is_chat = self.format == "chat"
        fields = conversation_fields(self.text_field) if is_chat else (self.text_field,)
        return (*fields, *self.columns)

    def fields_among(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the fields that are read of a data set with these: of a chat, those that exist."""
        if self.format != "chat":
            return self.fields_read
        found = [name for name in conversation_fields(self.text_field) if name in names]
        return (*found, *self.columns) if found else self.fields_read

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


ParsedSource = Annotated[Source, BeforeValidator(Source.parse)]
Sources = Annotated[tuple[ParsedSource, ...], BeforeValidator(_as_list), Field(min_length=1)]
