"""The settings of tasks: which tasks, their data, and how many documents of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from lingraft.file_kinds import RECORD_KINDS
from lingraft.registry import Settings

AUTO = "auto"
"""The name that stands for the tasks that exist in the target languages."""


class TaskData(Settings):
    """Local files of records (.jsonl, .csv, .parquet and others) instead of a Hub data set."""

    test: str = Field(description=f"file of the documents that are scored: {RECORD_KINDS}")
    shots: str | None = Field(
        default=None,
        description="file of few-shot examples; default: the scored file, without the scored "
        "document",
    )


def _as_data(value: object) -> object:
    return {"test": value} if isinstance(value, str) else value


def _as_names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class TaskSettings(Settings):
    """Downstream tasks, run by lm-eval."""

    names: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = Field(
        default=(),
        description="FAMILY-LANGUAGE for the included tasks (flores-hi, xcopa-ta, paper-hi for "
        "all of the paper's), any task name of lm-eval or of `tasks_folder`, or `auto`: the tasks "
        "of a list that exist in the target languages",
    )
    limit: int | None = Field(
        default=None, gt=0, description="maximum number of documents per task, from the start"
    )
    num_fewshot: int | None = Field(
        default=None,
        ge=0,
        description="few-shot examples per document; default: the task's own number",
    )
    data: dict[str, Annotated[TaskData, BeforeValidator(_as_data)]] = Field(
        default_factory=dict,
        description="local files by task or by family: {xcopa-ta: ta.jsonl, flores: {test: "
        "devtest.jsonl, shots: dev.jsonl}}",
    )
    tasks_folder: str | None = Field(
        default=None, description="folder of your own task files in lm-eval's YAML format"
    )
    translation_metrics: tuple[Literal["spBLEU", "chrF++"], ...] = Field(
        default=("spBLEU", "chrF++"),
        min_length=1,
        description="metrics of translation tasks; spBLEU needs sacrebleu's model flores200",
    )
    contaminated: Literal["count", "drop", "ignore"] = Field(
        default="count",
        description="documents that occur in the training text: counted, dropped, or not searched "
        "for",
    )
    too_long: Literal["cut", "refuse"] = Field(
        default="cut",
        description="a prompt longer than the model's context: cut at its start and counted, or "
        "an error",
    )

    apply_chat_template: bool = Field(
        default=False,
        description="write prompts as conversations with the model's chat template, for instruct "
        "models; the scores get other names than those of plain prompts",
    )
    fewshot_as_multiturn: bool = Field(
        default=True,
        description="few-shot examples in a conversation: turns of their own, or (false) in one "
        "message with the question",
    )
    system_instruction: str | None = Field(
        default=None,
        min_length=1,
        description="system message of each conversation; before the task's own description",
    )

    written: ClassVar[str] = "names of tasks, or {names: ...}"
    later: ClassVar[tuple[str, ...]] = (
        "apply_chat_template",
        "fewshot_as_multiturn",
        "system_instruction",
    )

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read a plain list of names, or one name."""
        return value if isinstance(value, Mapping) else {"names": value or ()}

    @model_validator(mode="after")
    def _named_once(self) -> TaskSettings:
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice:
            msg = f"named twice: {', '.join(twice)}; name every task once"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _data_is_of_tasks(self) -> TaskSettings:
        if self.data and not self.names:
            msg = f"data is given for {', '.join(self.data)}, but no tasks are named; set names"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _conversations_are_asked_for(self) -> TaskSettings:
        for name in ("fewshot_as_multiturn", "system_instruction"):
            is_default = getattr(self, name) == type(self).model_fields[name].default
            if not self.apply_chat_template and not is_default:
                msg = f"{name} is a setting of conversations; set apply_chat_template: true"
                raise ValueError(msg)
        return self

    @property
    def unused(self) -> list[str]:
        """The settings that have no effect because no tasks are named."""
        if self.names:
            return []
        # Not those that were set: the recipe of a run writes every setting out.
        return sorted(self.model_dump(exclude_defaults=True))
