"""The settings of a recipe; `lingraft settings` and the docs use the descriptions of the fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from lingraft.bases import Base, parse_model
from lingraft.certificate import CLAIM_NAMES, NEVER_WAIVED
from lingraft.corpus import CorpusSettings, parse_language
from lingraft.corpus.config import Sources
from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.errors import RecipeError, did_you_mean
from lingraft.evaluation import EvaluationSettings
from lingraft.evaluation.tasks import TaskSettings
from lingraft.registry import Settings
from lingraft.training import TrainingPlan
from lingraft.vocabulary import SELECTIONS, AutoSize, Selection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _language(tag: object) -> str:
    if not isinstance(tag, str):
        msg = f"a language is a tag such as hi, pt-BR or zh-Hant, got {tag!r}"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return parse_language(tag)
    except (
        RecipeError
    ) as error:  # as a ValueError it keeps its place in pydantic's account of the recipe
        raise ValueError(str(error)) from error


class Text(CorpusSettings):
    """Text in one language."""

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
        description="training text: a file (.txt .jsonl .csv .parquet, also .gz .zst), a hub "
        "data set owner/name, `miniature`, a mapping with details, or a list of these",
    )

    weight: float = Field(
        default=1.0,
        gt=0,
        description="with several target languages: factor on this language's amount of text",
    )

    @property
    def corpus(self) -> CorpusSettings:
        """The settings of the corpus, without its language and what is done with it."""
        return CorpusSettings.model_construct(
            **{name: getattr(self, name) for name in CorpusSettings.model_fields}
        )


class Replay(Text):
    """Text in a language that the model knows, for training and to measure forgetting."""

    portion: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        alias="share",
        description="share of the bytes of training text that is replayed; 0: measured only",
    )


class VocabularySettings(Settings):
    """Which tokens are added, and how text is cut before the tokenizer's model sees it."""

    method: SELECTIONS.annotation(Selection) = Field(  # type: ignore[valid-type]
        default_factory=lambda: SELECTIONS.parse("continued"),
        validate_default=True,
        description="how tokens are chosen; its settings may be given next to it: {method: "
        "continued, size: 3000}",
    )
    size: Annotated[int, Field(ge=0)] | AutoSize = Field(
        default=10_000,
        description="number of added tokens; 0 keeps the tokenizer, `auto` applies a rule",
    )
    pretokenizer: Literal["auto", "keep", "repair"] = Field(
        default="auto",
        description="keep: the base's regex; repair: a regex that does not split words at vowel "
        "signs; auto: repair if it saves over 10% of the target's tokens, less the "
        "growth of the base's own tokens for it, and changes no base-language document",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="with several target languages, each gets a share of size^(1/temperature); "
        "above 1 makes the shares more even",
    )
    protect_replay: bool = Field(
        default=False, description="add no token that would change the tokens of replay text"
    )
    allow: tuple[str, ...] = Field(
        default=(), description="names of certificate claims that may fail"
    )

    @field_validator("allow")
    @classmethod
    def _check_allowed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse unknown claims, and claims that keep the ids of the base."""
        for name in names:
            if name in NEVER_WAIVED:
                msg = (
                    f"{name!r} cannot be waived: special tokens and tokens of the base would get the "
                    "embedding rows of others; leave it out"
                )
                raise ValueError(msg)
            if name not in CLAIM_NAMES:
                msg = f"there is no claim {name!r}; {did_you_mean(name, CLAIM_NAMES)}"
                raise ValueError(msg)
        return names

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        """Move settings of the method into it if they are written next to it."""
        if not isinstance(data, Mapping):
            return {"method": data}
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        if own.get("size") == "auto":
            own["size"] = {}
        beside = {key: value for key, value in data.items() if key not in cls.model_fields}
        method = own.get("method", "continued")
        if not beside or isinstance(method, Selection):
            return {**own, **beside}
        name, settings = (
            (method, {}) if isinstance(method, str) else next(iter(dict(method).items()))
        )
        if str(name) not in SELECTIONS.names():
            return own
        known = SELECTIONS[str(name)].model_fields
        moved = {key: value for key, value in beside.items() if key in known}
        unknown = {key: value for key, value in beside.items() if key not in known}
        return {**own, **unknown, "method": {name: {**(settings or {}), **moved}}}

    @classmethod
    def more_names(cls) -> list[str]:
        """Return the other names allowed in this mapping: the settings of the methods."""
        return sorted({name for method in SELECTIONS for name in method.model_fields})


class EmbeddingSettings(Settings):
    """How new rows are made: a method for each matrix, or one for both (`embeddings: mean`)."""

    input: INITS.annotation(EmbeddingInit) = Field(  # type: ignore[valid-type]
        default_factory=lambda: INITS.parse("calibrated"),
        validate_default=True,
        description="rows of the input embedding",
    )
    output: INITS.annotation(EmbeddingInit) = Field(  # type: ignore[valid-type]
        default_factory=lambda: INITS.parse("calibrated"),
        validate_default=True,
        description="rows of the output head; a model with tied embeddings has one matrix, made "
        "by `input`",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, data: Any) -> Any:
        """Read a method without `input` or `output` as the choice for both."""
        named = isinstance(data, Mapping) and len(data) == 1 and next(iter(data)) in INITS.names()
        return {"input": data, "output": data} if isinstance(data, str) or named else data

    @classmethod
    def more_names(cls) -> list[str]:
        """Return the other names allowed in this mapping: a method for both matrices."""
        return INITS.names()


class Evaluation(EvaluationSettings):
    """What is measured: on held-out text, and by tasks."""

    tasks: TaskSettings = Field(
        default_factory=TaskSettings,
        description="downstream tasks, run by lm-eval (extra `eval`): names, or a mapping with "
        "their settings; default: none",
    )


ModelSettings = Annotated[
    Base, BeforeValidator(parse_model), PlainSerializer(lambda base: base.chosen())
]


class ChatVector(Settings):
    """Add (instruct model - its base) to the adapted model: Huang et al. 2024, arXiv 2310.04799."""

    instruct: ModelSettings = Field(
        description="the instruct model that was trained from the base that `model` names"
    )
    weight: float = Field(default=1.0, gt=0, description="factor on the added difference")


class Licences(Settings):
    """Licences for the model card, as a hub names them (apache-2.0, cc-by-sa-4.0)."""

    result: str | None = Field(default=None, description="licence that you give the adapted model")
    model: str | None = Field(default=None, description="licence of the base model")
    target: str | None = Field(default=None, description="licence of the target text")
    replay: str | None = Field(default=None, description="licence of the replayed text")


class Recipe(Settings):
    """Everything that a run depends on: the same recipe gives the same keys on any machine."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", serialize_by_alias=True
    )

    name: str = Field(
        description="name of the run folder; {language} is replaced by the target language"
    )
    model: ModelSettings = Field(
        description="source model: a folder, owner/name@revision of a hub, {random: ...} or "
        "{pretrain: ...}"
    )
    target: Text = Field(
        description="target language and its text; a list of such mappings adapts to several "
        "languages at once"
    )
    extra_targets: tuple[Text, ...] = Field(
        default=(), description="other target languages: the rest of a list in `target`"
    )
    replay: Replay | None = Field(
        default=None, description="text in the base language, replayed in training and measured"
    )
    vocabulary: VocabularySettings = Field(
        default_factory=VocabularySettings, description="which tokens are added"
    )
    embeddings: EmbeddingSettings = Field(
        default_factory=EmbeddingSettings,
        description="how the rows of added tokens are initialised",
    )
    training: TrainingPlan = Field(
        default_factory=TrainingPlan, description="continued pretraining"
    )
    chat_vector: ChatVector | None = Field(
        default=None,
        description="after training, add (instruct - base) to the adapted model, so that it chats "
        "in the language",
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="what is measured")
    licences: Licences = Field(
        default_factory=Licences, description="licences that the model card states"
    )
    seed: int = Field(default=0, ge=0, description="seed of everything random")

    @model_validator(mode="before")
    @classmethod
    def _several(cls, data: Any) -> Any:
        """Read a list of targets: the first is `target`, the others are `extra_targets`."""
        if (
            not isinstance(data, Mapping)
            or not isinstance(data.get("target"), list)
            or not data["target"]
        ):
            return data
        first, *others = data["target"]
        if not others:
            return {**data, "target": first}
        return {**data, "target": first, "extra_targets": [*others, *data.get("extra_targets", ())]}

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value.replace("{language}", "x")):
            msg = f"{value!r} cannot be the name of a folder; use letters, digits, '-', '_' and '.'"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _two_languages(self) -> Recipe:
        languages = [text.language for text in self.targets]
        if self.replay and self.replay.language in languages:
            msg = (
                f"target and replay are both {self.replay.language}; replay is text the model "
                "already knows"
            )
            raise ValueError(msg)
        if len({*languages}) < len(languages):
            msg = (
                f"every target language is named once; got {', '.join(languages)}: list sources "
                "under one corpus"
            )
            raise ValueError(msg)
        if self.replay is None and any(phase.replay_share for phase in self.training.phases):
            msg = (
                "a phase of training has a share of replay, but no replay text is named; set "
                "replay, or leave it out"
            )
            raise ValueError(msg)
        return self

    @property
    def targets(self) -> tuple[Text, ...]:
        """All target languages."""
        return (self.target, *self.extra_targets)

    @property
    def run_name(self) -> str:
        """The name of the run folder."""
        languages = "-".join(text.language.replace(":", "-") for text in self.targets)
        return self.name.replace("{language}", languages)
