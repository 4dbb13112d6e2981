"""A training plan: a list of phases, the settings of a single one, or a plan with a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.packing import PackingSettings
from lingraft.registry import Settings
from lingraft.training.config import Phase
from lingraft.training.named_plans import PLANS, named_plan


class NamedPlan(Settings):
    """A training plan that is chosen by its name."""

    plan: Literal[*PLANS] | None = Field(  # type: ignore[valid-type]
        default=None,
        description="a named plan instead of phases; `budget` may be set with it, and with a plan "
        "of one phase (paper, branch_and_merge) what it does not set itself",
    )


class TrainingPlan(Settings):
    """How the model is trained: a list of phases, the settings of a single phase, or a plan's name.

    A named plan (paper, learned_then_full, rows_then_differential, branch_and_merge) may have a
    budget: {plan: paper, budget: 1 MB}.
    """

    phases: tuple[Phase, ...] = Field(
        default=(Phase(),),
        description="phases of training, one after another; an empty list: no training",
    )
    packing: PackingSettings = Field(
        default_factory=PackingSettings,
        description="how documents are packed into sequences of tokens",
    )
    document_attention_mask: bool | Literal["auto"] = Field(
        default="auto",
        description="attention stays within a document, and positions start at 0 in each document; "
        "auto: where documents share a sequence, the model masks them, and no chat template writes "
        "their separator between turns",
    )
    merge_back: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(),
        description="at the end, mix this share of the weights before training into the weights "
        "of the base; of several values, the one with the lowest mean bits per byte on one half of "
        "the held-out documents is used, and everything is reported on the other half",
    )
    heldout_points: int = Field(
        default=8, ge=0, description="points of the held-out curve, including the end"
    )

    @model_validator(mode="after")
    def _merges_what_was_trained(self) -> TrainingPlan:
        if self.merge_back and not self.phases:
            msg = "merge_back: nothing is trained (phases: []) that could be mixed; leave it out"
            raise ValueError(msg)
        return self

    @property
    def may_mask_documents(self) -> bool:
        """Whether documents share sequences, and attention may stay within each of them."""
        return self.document_attention_mask is not False and self.packing.layout == "stream"

    @property
    def requires_document_mask(self) -> bool:
        """Whether documents share sequences, and attention must stay within each of them."""
        return self.document_attention_mask is True and self.may_mask_documents

    @property
    def chooses(self) -> bool:
        """Whether the result is chosen among several by held-out text."""
        return len(self.merge_back) > 1

    def without_merging(self) -> TrainingPlan:
        """Return what the training itself depends on: `merge_back` is a stage after it."""
        return self.model_copy(update={"merge_back": ()})

    written: ClassVar[str] = "the settings of one phase, {phases: [...]}, or the name of a plan"
    left_out: ClassVar[str] = "phases"
    short_settings: ClassVar[type[Settings]] = NamedPlan

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read a plan's name, or the settings of a single phase without `phases`."""
        if isinstance(value, str):
            return named_plan(value)
        if not isinstance(value, Mapping):
            return value
        own = [key for key in value if key in Phase.model_fields]
        others = {key: inner for key, inner in value.items() if key not in {*own, "plan"}}
        if "plan" in value:
            planned = named_plan(value["plan"], value.get("budget"))
            phases = planned["phases"]
            # With several phases, it is not known which one is meant.
            taken = {"phases", *(phases[0] if len(phases) == 1 else own)} - {"budget"}
            if clashing := [key for key in value if key in taken]:
                msg = f"a named plan sets {clashing[0]} itself; remove plan, or {clashing[0]}"
                raise ValueError(msg)
            if len(phases) == 1:
                phases = [{**{key: value[key] for key in own}, **phases[0]}]
            packing = _packing_of_plan(planned.get("packing", {}), others.pop("packing", {}))
            return {**planned, "phases": phases, **others, "packing": packing}
        if not own:
            return value
        if "phases" in value:
            msg = f"move {', '.join(sorted(own))} into the entries of `phases`"
            raise ValueError(msg)
        return {"phases": [{key: value[key] for key in own}], **others}

    @classmethod
    def homes(cls, name: str, values: Mapping[str, Any]) -> tuple[tuple[str | int, ...], ...]:
        """Place a setting of a phase in the only phase; the budget of a named plan stays."""
        if name not in Phase.model_fields or (name == "budget" and "plan" in values):
            return ()
        return (("phases", 0, name),)

    @classmethod
    def without_replaced(
        cls, name: str, value: Any, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Remove what a named plan sets itself; a plan of several phases replaces all settings.

        The budget stays, and so do the settings of a single phase next to a plan of one phase.

        >>> written = {"strategy": "rows", "schedule": "wsd", "batch_tokens": 512}
        >>> TrainingPlan.without_replaced("plan", "paper", {"phases": [written]})
        ({'batch_tokens': 512}, [])
        >>> TrainingPlan.without_replaced("plan", "learned_then_full", {"batch_tokens": 512})
        ({}, ['batch_tokens'])
        """
        # Another value is no plan, which is reported when the recipe is read.
        if name != "plan" or not isinstance(value, str) or value not in PLANS:
            return dict(values), []
        values, planned = _short_form(values), named_plan(value)
        is_single = len(planned["phases"]) == 1
        kept, lost = {}, []
        for key, inner in values.items():
            if key == "phases" or (key in Phase.model_fields and not is_single and key != "budget"):
                lost.append(key)
            elif key == "budget" or key not in {*planned, *planned["phases"][0]}:
                kept[key] = inner
            elif key in planned and isinstance(inner, Mapping):
                kept[key] = {part: inner[part] for part in inner if part not in planned[key]}
        return kept, lost

    @classmethod
    def more_names(cls) -> list[str]:
        """Return the other keys that this mapping accepts: the settings of a single phase."""
        return sorted([*Phase.model_fields, "plan"])

    def beginning(self) -> tuple[Any, float] | None:
        """Return the settings that longer plans share with this one, and the shared length.

        The length only serves to order plans with equal shared settings. Returns None if no longer
        plan can continue from this one.

        >>> short = TrainingPlan.model_validate({"schedule": "wsd", "budget": "1 MB"})
        >>> long = TrainingPlan.model_validate({"schedule": "wsd", "budget": "2 MB"})
        >>> (shared, length), (long_shared, long_length) = short.beginning(), long.beginning()
        >>> shared == long_shared, long_length / length, TrainingPlan().beginning()
        (True, 2.0, None)
        """
        last = self.phases[-1] if self.phases else Phase()
        warmup, (unit, amount) = last.schedule.warmup, last.budget.amount
        # The number of steps is not known without the text. 1,000 steps give the share of the phase
        # before the decay.
        shared_steps = last.schedule.shared_steps(1000)
        # A warm-up given as a share depends on the length of the phase, too.
        if not self.phases or not shared_steps or last.depends_on_length or 0 < warmup < 1:
            return None
        shared = self.model_dump(mode="json", exclude={"merge_back"})
        shared["phases"][-1].update(budget=unit, schedule=[last.schedule.name, warmup])
        return shared, amount * shared_steps


def _short_form(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with the settings of its only phase next to the others, if it has one."""
    others = {key: inner for key, inner in values.items() if key != "phases"}
    match values.get("phases"):
        case [Mapping() as phase]:
            return {**others, **phase}
    return dict(values)


def _packing_of_plan(planned: Mapping[str, Any], written: Any) -> Any:
    """Return the packing of a recipe with that of its named plan; refuse another layout."""
    if isinstance(written, PackingSettings):
        written = written.model_dump(exclude_unset=True)
    if not isinstance(written, Mapping):
        return written
    for key in planned:
        if key in written and written[key] != planned[key]:
            msg = f"a named plan sets packing.{key} itself; remove plan, or packing.{key}"
            raise ValueError(msg)
    return {**written, **planned}
