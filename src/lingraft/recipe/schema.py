"""The settings of a recipe, as pydantic models.

`lingraft settings` and the docs show the descriptions of the fields. Every model refuses unknown
settings and is frozen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from lingraft.bases import Base, parse_model
from lingraft.certificate import CLAIM_NAMES, NEVER_WAIVED
from lingraft.corpus.identity import file_identity
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.text_files import find_files
from lingraft.corpus.text_repairs import Cleaning
from lingraft.embeddings import INITS, EmbeddingInit
from lingraft.errors import did_you_mean
from lingraft.evaluation import EvaluationSettings
from lingraft.evaluation.tasks import TaskSettings
from lingraft.pretokenizer.named_pretokenizers import PretokenizerMode
from lingraft.recipe.text_settings import Replay, Text
from lingraft.registry import Settings
from lingraft.training import TrainingPlan
from lingraft.vocabulary import SELECTIONS, AutoSize, Extension, Selection, ServingCost
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.workers import HERE, Workers

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of runs and studies: they become names of folders."""


MAX_SEED = 2**63 - 1
"""torch takes no larger seed."""


class VocabularySettings(Settings):
    """Which tokens are added, and which pre-tokenizer the extended tokenizer has."""

    method: SELECTIONS.annotation(Selection) = Field(  # type: ignore[valid-type]
        default_factory=lambda: SELECTIONS.parse("continued"),
        validate_default=True,
        description="how tokens are chosen; its settings may be given next to it: {method: "
        "continued, size: 3000}",
    )
    size: Annotated[int, Field(ge=0)] | AutoSize = Field(
        default=10_000,
        description="number of added tokens; 0 keeps the tokenizer; `auto` applies a rule, by "
        "default the one of `lingraft diagnose` and `advise`",
    )
    pretokenizer: PretokenizerMode = Field(
        default="auto",
        description="keep: the base's regex; repair: a regex that does not split words at vowel "
        "signs; named, or a name: such a regex that llama.cpp has built in and that fits the base; "
        "auto: a change if it saves over 10% of the target's tokens, less the growth of the base's "
        "own tokens for it, and changes no base-language document; a name is preferred within 1%",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="with several target languages, each gets a share of size^(1/temperature); "
        "above 1 makes the shares more even, and training repeats scarce text (`max_epochs`)",
    )
    balance: Literal["size", "premium"] = Field(
        default="size",
        description="with several target languages, what decides how many tokens each gets. size: "
        "its share of the text; premium: each language gets tokens until all need equally many for "
        "the same content, and temperature and weight apply to the training text only",
    )
    parallel_file: str | None = Field(
        default=None,
        description="file of parallel sentences, one column per language tag, including en (.jsonl "
        ".parquet): `balance: premium` counts tokens on it; without it, text lengths come from a "
        "table",
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
                    f"{name!r} cannot be waived: special tokens and tokens of the base would get "
                    "the embedding rows of others; leave it out"
                )
                raise ValueError(msg)
            if name not in CLAIM_NAMES:
                msg = f"there is no claim {name!r}; {did_you_mean(name, CLAIM_NAMES)}"
                raise ValueError(msg)
        return names

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        if self.balance == "size":
            if self.parallel_file is not None:
                msg = "parallel_file is read by balance: premium only; set that, or leave it out"
                raise ValueError(msg)
        elif not self.method.balances:
            names = [method.name for method in SELECTIONS if method.balances]
            msg = (
                f"balance: premium needs a method that chooses one token after another "
                f"({', '.join(names)}), not {self.method.name}; set balance: size, and a "
                "temperature above 1"
            )
            raise ValueError(msg)
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result, for the key of the stage."""
        settings = self.model_dump(mode="json", exclude={"parallel_file"})
        if self.parallel_file is not None:
            files = find_files(self.parallel_file)
            settings["parallel"] = [file_identity(path) for path in files]
        return settings

    @model_serializer(mode="wrap")
    def _without_balance(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the default of `balance` out: keys of runs from before it stay the same."""
        values: dict[str, Any] = serialize(self)
        if self.balance == "size":
            values.pop("balance", None)
            values.pop("parallel_file", None)
        return values

    def premium_balance(
        self, languages: Sequence[str], cleaning: Mapping[str, Cleaning] | None = None
    ) -> PremiumBalance | None:
        """Return what the premiums of these languages are counted on; `None` for balance: size.

        `cleaning` are the repairs of parallel sentences, by language.
        Raises `CorpusError` or `RecipeError` that names the languages without text lengths.
        """
        if self.balance == "size" or len(languages) < 2:
            return None
        if self.parallel_file is None:
            balance = PremiumBalance()
        else:
            balance = PremiumBalance(
                read_parallel(self.parallel_file, languages, cleaning=cleaning)
            )
        balance.check(languages)
        return balance

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Move settings of the method into it if they are written next to it."""
        if not isinstance(value, Mapping):
            return {"method": value} if isinstance(value, str) else value
        own, others = _split(value, cls.model_fields)
        method = own.get("method", "continued")
        if not others or isinstance(method, Selection):
            return value
        name, settings = _named(method)
        if name not in SELECTIONS.names():
            # The unknown method is the problem to report, not the settings that belong to it.
            return own
        moved, unknown = _split(others, SELECTIONS[name].model_fields)
        if not moved:
            return value
        return {**own, **unknown, "method": {name: {**(settings or {}), **moved}}}

    def extension(
        self,
        *,
        weights: tuple[float, ...] | None = None,
        balance: PremiumBalance | None = None,
        serving: ServingCost | None = None,
        workers: Workers = HERE,
    ) -> Extension:
        """Return the extension that these settings describe, with what is known of its run."""
        return Extension(
            self.method,
            self.size,
            self.pretokenizer,
            protect=self.protect_replay,
            allow=self.allow,
            temperature=self.temperature,
            weights=weights,
            balance=balance,
            serving=serving,
            workers=workers,
        )

    @property
    def weighs_serving_cost(self) -> bool:
        """Whether the size depends on the cost of a larger head, and thus on the model."""
        return isinstance(self.size, AutoSize) and self.size.rule == "serving"

    @classmethod
    def homes(cls, name: str, values: Mapping[str, Any]) -> tuple[tuple[str | int, ...], ...]:
        """Place a setting of a method, or a method's name, under `method`."""
        if name in SELECTIONS.names():
            return (("method", name),)
        if name not in cls.more_names():
            return ()
        return (("method", _named(values.get("method", "continued"))[0], name),)

    @classmethod
    def more_names(cls) -> list[str]:
        """Return the other names allowed in this mapping: the settings of the methods."""
        names: set[str] = set()
        for method in SELECTIONS:
            names.update(method.model_fields)
        return sorted(names)


def _named(method: Any) -> tuple[str, Any]:
    """Return the name of a method and its settings, as `name` or `{name: settings}`."""
    if isinstance(method, Mapping) and len(method) == 1:
        name, settings = next(iter(method.items()))
        return str(name), settings
    return str(method), None


def _split(
    data: Mapping[str, Any], names: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings with these names, and the others."""
    named: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in data.items():
        part = named if key in names else others
        part[key] = value
    return named, others


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
    seed: int = Field(default=0, ge=0, description="seed of everything random")

    @field_validator("seed")
    @classmethod
    def _check_seed(cls, value: int) -> int:
        if value > MAX_SEED:
            msg = f"{value} is more than 64 bits; give a smaller number"
            raise ValueError(msg)
        return value

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
            share = phase.replay_share
            portion = self.replay.portion if self.replay else 0.0
            if phase.replay_kl and not (portion if share is None else share):
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
    def cleaning(self) -> dict[str, Cleaning]:
        """The repairs of text by language, of all languages that have any."""
        texts = (*self.targets, *([self.replay] if self.replay else []))
        return {text.language: text.cleaning for text in texts if text.cleaning}

    @property
    def run_name(self) -> str:
        """The name of the run folder: `name`, with the languages in the place of {language}."""
        languages = "-".join(text.language.replace(":", "-") for text in self.targets)
        return self.name.replace("{language}", languages)
