"""The settings of the vocabulary in a recipe: how many tokens are learned, how, and from what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lingraft.certificate import CLAIM_NAMES, NEVER_WAIVED
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.identity import file_identity
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.text_files import find_files
from lingraft.errors import RecipeError, did_you_mean
from lingraft.pretokenizer.named_pretokenizers import PretokenizerMode
from lingraft.registry import Settings
from lingraft.vocabulary import SELECTIONS, AutoSize, Extension, Selection, ServingCost
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.vocabulary.whole_words import Nothing
from lingraft.workers import HERE, Workers


def _check_allowed(names: tuple[str, ...]) -> tuple[str, ...]:
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


class VocabularySettings(Settings):
    """Which tokens are added, and which pre-tokenizer the extended tokenizer has."""

    later: ClassVar[tuple[str, ...]] = ("balance", "parallel_file")

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
        "own tokens for it, and moves no id of held-out base-language text, words in the target's "
        "script aside, or with protect_replay of any base-language text; a name is preferred "
        "within 1%",
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
    allow: Annotated[tuple[str, ...], AfterValidator(_check_allowed)] = Field(
        default=(), description="names of certificate claims that may fail"
    )

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

    @property
    def adds_nothing(self) -> bool:
        """Whether the tokenizer stays as it is, whatever `pretokenizer` says."""
        return not self.size or isinstance(self.method, Nothing)

    def check_adds_tokens(self) -> None:
        """Raise `RecipeError` if no tokens are added, for an extension that is only that."""
        if self.adds_nothing:
            given = f"method: {self.method.name}" if self.size else "size: 0"
            msg = (
                f"vocabulary.{given} adds no tokens, so there is nothing to extend; set how many "
                "tokens to add, or train without new tokens (lingraft adapt)"
            )
            raise RecipeError(msg)

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result, for the key of the stage."""
        settings = self.model_dump(mode="json", exclude={"parallel_file"})
        if self.parallel_file is not None:
            files = find_files(self.parallel_file)
            settings["parallel"] = [file_identity(path) for path in files]
        return settings

    def premium_balance(
        self, languages: Sequence[str], repaired: Mapping[str, CorpusSettings] | None = None
    ) -> PremiumBalance | None:
        """Return what the premiums of these languages are counted on; `None` for balance: size.

        `repaired` are the settings of texts whose repairs parallel sentences get, by language.
        Raises `CorpusError` or `RecipeError` that names the languages without text lengths.
        """
        if self.balance == "size" or len(languages) < 2:
            return None
        if self.parallel_file is None:
            balance = PremiumBalance()
        else:
            balance = PremiumBalance(
                read_parallel(self.parallel_file, languages, repaired=repaired)
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
