"""The settings of a study (`study_file` reads them).

    name: inits
    question: Which rows suit new tokens?
    recipe: demo.yaml                                # the cells' recipe, relative to the study file
    settings: {vocabulary.size: 500}                 # changes that hold in every cell
    axes:
      embeddings: [mean, random]                     # a setting by its dotted path, and its values
      base:                                          # or several settings at once, by a label
        small: {model: ../small, training.learning_rates: 1e-3}
        large: {model: ../large}
    seeds: [0, 1]
    scale: small
    scales: {small: {seeds: [0]}, full: {settings: {training.budget: 20 MB}}}

Each entry of `scales` changes the study itself; the entry that `scale` names is applied.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from lingraft.recipe.schema import NAME
from lingraft.recipe.tree import Place
from lingraft.registry import Settings

SEED = "seed"


class ComparedSettings(Settings):
    """The measurement by which a study compares its cells."""

    metric: str = Field(
        default="bits per byte",
        description="name of a metric, as in measurements.csv; in text without spaces, "
        "`tokens per word` is tokens per syllable or per character",
    )
    subject: Literal["source", "spliced", "adapted"] = Field(
        default="adapted", description="measured model"
    )
    language: Literal["target", "replay"] | str = Field(  # noqa: PYI051 - shows the usual values
        default="target", description="target, replay, or a language tag"
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        description="values whose difference is smaller than this count as equal: the 90% interval "
        "must lie within it on both sides (two one-sided tests at 5%)",
    )


class Study(Settings):
    """A recipe, and the settings that change from cell to cell."""

    name: str = Field(description="name of the study's folder")
    question: str = Field(
        default="", description="question that the study answers, printed in its report"
    )
    recipe: str = Field(description="recipe file of the cells; relative to the study file")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the recipe by dotted path, the same in every cell",
    )
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="a setting by dotted path with a list of values; or a name with labelled sets "
        "of settings",
    )
    cells: tuple[dict[str, Any], ...] = Field(
        default=(), description="instead of axes: a list of cells, each a mapping of dotted paths"
    )
    skip: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="cells to leave out: axis and value, or a list of values; all must match",
    )
    sample_cells: int | None = Field(
        default=None,
        gt=0,
        description="run only so many cells of the grid, drawn at random, each with every seed",
    )
    sample_seed: int = Field(default=0, ge=0, description="seed of the draw of `sample_cells`")
    seeds: tuple[int, ...] = Field(
        default=(0,), min_length=1, description="seeds; every cell runs with each of them"
    )
    compare: tuple[ComparedSettings, ...] = Field(
        default=(ComparedSettings(),),
        description="metrics whose differences between cells are reported",
    )
    scale: str | None = Field(
        default=None, description="name of the entry of `scales` that is used"
    )
    scales: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="named changes to this study"
    )

    _lines: dict[Place, str] = PrivateAttr(default_factory=dict)
    _written_axes: tuple[dict[str, Any], ...] = PrivateAttr(default=())

    def line(self, *place: str | int) -> str:
        """Return where an axis, a cell or a setting was written: file and line, or an override."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return f"study {self.name}"

    def values_written(self, axis: str) -> list[Any]:
        """Return the values of an axis, as lists or labelled sets: the used ones, then the others.

        The others are those of the file and of its scales, which a scale or an override replaces.
        """
        return [axes[axis] for axes in (self.axes, *self._written_axes) if axes.get(axis)]

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            msg = f"{value!r} cannot be the name of a folder; use letters, digits, '-', '_' and '.'"
            raise ValueError(msg)
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _accept_one_seed(cls, value: Any) -> Any:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return (value,) if is_number else value

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value) or min(value) < 0:
            msg = f"seeds are whole numbers from 0, each once; got {list(value)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_axes(self) -> Study:
        if bool(self.axes) == bool(self.cells):
            msg = "a study has axes, or cells one by one, and not both; set one of the two"
            raise ValueError(msg)
        if self.cells and (self.sample_cells or self.skip):
            msg = (
                "sample_cells and skip select from the grid of the axes; remove them, or set "
                "axes instead of cells"
            )
            raise ValueError(msg)
        for axis, values in self.axes.items():
            if not values:
                msg = f"the axis {axis} has no values; list some, or remove the axis"
                raise ValueError(msg)
        paths = {*self.axes, *self.settings}.union(*self.cells)
        reserved = {SEED, "name"} & paths
        if reserved:
            msg = (
                f"{reserved.pop()} is not set by hand: seeds go under `seeds`, and runs are named "
                "after their cells"
            )
            raise ValueError(msg)
        return self
