"""The settings of a recipe, as pydantic models.

`lingraft settings` and the docs show the descriptions of the fields. Every model refuses unknown
settings and is frozen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from lingraft.bases import Base, parse_model
from lingraft.corpus import CorpusSettings
from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.evaluation import EvaluationSettings
from lingraft.evaluation.tasks import TaskSettings
from lingraft.recipe.text_settings import Replay, Text
from lingraft.recipe.vocabulary_settings import VocabularySettings
from lingraft.registry import Settings
from lingraft.training import TrainingPlan

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of runs and studies: they become names of folders."""


MAX_SEED = 2**63 - 1
"""torch takes no larger seed."""


class EmbeddingSettings(Settings):
    """How the rows of added tokens are initialised: one method for each matrix, or one for both.

    `embeddings: mean` is the same as `embeddings: {input: mean, output: mean}`.
    """

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

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Use a method without `input` or `output` for both matrices."""
        is_method = isinstance(value, str)
        if isinstance(value, Mapping) and len(value) == 1:
            is_method = next(iter(value)) in INITS.names()
        return {"input": value, "output": value} if is_method else value

    @classmethod
    def homes(cls, name: str, values: Mapping[str, Any]) -> tuple[tuple[str | int, ...], ...]:
        """Place a method, or a setting of methods, under both matrices."""
        del values
        known = set(INITS.names()).union(*(init.model_fields for init in INITS))
        return (("input", name), ("output", name)) if name in known else ()

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
    """Everything that the results of a run depend on.

    The same recipe gives the same keys on any machine; where and how it runs is in `Runtime`.
    """

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
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="seed of everything random")

    @model_validator(mode="before")
    @classmethod
    def _split_targets(cls, data: Any) -> Any:
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
    def _check_name(cls, value: str) -> str:
        if not NAME.fullmatch(value.replace("{language}", "x")):
            msg = f"{value!r} cannot be the name of a folder; use letters, digits, '-', '_' and '.'"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_heldout_part(self) -> Recipe:
        if self.training.chooses and self.evaluation.heldout_part == "chosen on":
            msg = (
                "evaluation.heldout_part: training.merge_back chooses among its shares on the "
                "documents `chosen on`; set heldout_part: reported, or give a single share"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> Recipe:
        languages = [text.language for text in self.targets]
        if self.replay and self.replay.language in languages:
            msg = (
                f"target and replay are both {self.replay.language}; name replay text in a "
                "language that the model already knows"
            )
            raise ValueError(msg)
        if len(set(languages)) < len(languages):
            msg = (
                f"a target language is named more than once ({', '.join(languages)}); name each "
                "once, and list its sources under one corpus"
            )
            raise ValueError(msg)
        if self.replay is None and any(phase.replay_share for phase in self.training.phases):
            msg = (
                "a phase of training sets replay_share, but the recipe names no replay text; set "
                "replay, or remove replay_share"
            )
            raise ValueError(msg)
        for phase in self.training.phases:
            portion = self.replay.portion if self.replay else 0.0
            if phase.replay_kl and not phase.share_replayed(portion):
                msg = (
                    "training.replay_kl compares the model on replay text, but the phase replays "
                    "none; set replay with a share, or remove replay_kl"
                )
                raise ValueError(msg)
            if self.replay is None and phase.strategy.reads_replay:
                msg = (
                    f"training.strategy: {phase.strategy.name} reads base-language text, but the "
                    f"recipe names no replay text; set replay (with share: 0, training does not "
                    f"mix it in)"
                )
                raise ValueError(msg)
        return self

    @property
    def targets(self) -> tuple[Text, ...]:
        """All target languages."""
        return (self.target, *self.extra_targets)

    @property
    def texts(self) -> tuple[Text, ...]:
        """The text of all target languages, and the replayed text."""
        return (*self.targets, *([self.replay] if self.replay else []))

    @property
    def repaired(self) -> dict[str, CorpusSettings]:
        """The settings of text by language, of all languages whose text is repaired."""
        return {text.language: text for text in self.texts if text.cleaning}

    @property
    def run_name(self) -> str:
        """The name of the run folder: `name`, with the languages in the place of {language}."""
        languages = "-".join(text.language.replace(":", "-") for text in self.targets)
        return self.name.replace("{language}", languages)
