"""What a study file says, read with the words of the command line laid over it.

    name: inits
    question: Which rows suit new tokens?
    recipe: demo.yaml                                # the cells' recipe, found beside the study
    settings: {vocabulary.size: 500}                 # changes that hold in every cell
    axes:
      embeddings: [mean, random]                     # a setting by its dotted path, and its values
      base:                                          # or several settings at once, by a label
        small: {model: ../small, training.rates: 1e-3}
        large: {model: ../large}
    seeds: [0, 1]
    scale: small
    scales: {small: {seeds: [0]}, full: {settings: {training.budget: 20 MB}}}

A scale is a set of changes to the study itself; the chosen one is laid over the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from lingraft.errors import RecipeError, did_you_mean
from lingraft.recipe.problems import recipe_error
from lingraft.recipe.reading import Tree, override, read_file
from lingraft.recipe.settings import NAME
from lingraft.registry import Settings
from lingraft.store import path_exists

SEED = "seed"
MERGED = ("settings", "axes")
OWN = ("name", "question", "seeds", "random", "draw", "scale", "compare")


class Compared(Settings):
    """The number that a study compares its cells by."""

    metric: str = Field(default="bits per byte", description="name of a metric, as in measurements.csv")
    subject: str = Field(default="adapted", description="which model: source, spliced or adapted")
    language: Literal["target", "replay"] | str = Field(  # noqa: PYI051 - the two words are what is mostly meant
        default="target", description="target, replay, or a tag")


class Study(Settings):
    """A recipe, and what is changed in it from cell to cell."""

    name: str = Field(description="name of the study's folder")
    question: str = Field(default="", description="what the study is to find out, for its report")
    recipe: str = Field(description="recipe of the cells, a file; found beside the study")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the recipe by dotted path, the "
                                                                       "same in every cell")
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="a setting by dotted path with a list of values; or a name with labelled "
                                          "sets of settings")
    cells: tuple[dict[str, Any], ...] = Field(default=(), description="in place of axes: the cells one by one, each a "
                                                                      "mapping of dotted paths")
    skip: tuple[dict[str, Any], ...] = Field(default=(), description="cells to leave out: axis and value, or a list "
                                                                     "of values; all must match")
    random: int | None = Field(default=None, gt=0, description="carry out only so many of the grid, drawn at random; "
                                                               "each with every seed")
    draw: int = Field(default=0, ge=0, description="seed of that draw")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="every cell is run with each of these")
    compare: tuple[Compared, ...] = Field(default=(Compared(),), description="what differences are worked out for")
    scale: str | None = Field(default=None, description="which of `scales` is carried out")
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict, description="named changes to this study")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            msg = f"{value!r} cannot be the name of a folder; use letters, digits, '-', '_' and '.'"
            raise ValueError(msg)
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_seed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value) or min(value) < 0:
            msg = f"seeds are whole numbers from 0, each once; got {list(value)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_layout(self) -> Study:
        if bool(self.axes) == bool(self.cells):
            msg = "a study has axes, or cells one by one, and not both; set one of the two"
            raise ValueError(msg)
        if self.cells and (self.random or self.skip):
            msg = "random and skip choose from the grid of the axes; cells named one by one are simply written down"
            raise ValueError(msg)
        if any(not values for values in self.axes.values()):
            empty = next(axis for axis, values in self.axes.items() if not values)
            msg = f"the axis {empty} has no values"
            raise ValueError(msg)
        taken = {SEED, "name"} & ({*self.axes, *self.settings} | {key for cell in self.cells for key in cell})
        if taken:
            msg = f"{taken.pop()} is not set by hand: seeds go under `seeds`, and runs are named after their cells"
            raise ValueError(msg)
        return self


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study and lay `PATH=VALUE` overrides over it; raises `RecipeError` with the place of a mistake.

    The path of an axis replaces its values (one value is a list of one), `seeds`, `scale`, `random` and the like change
    the study, and any other path is a setting of the recipe in every cell.
    """
    tree = read_file(path)
    given = [(*assignment.partition("=")[::2], assignment) for assignment in overrides]
    values = copy.deepcopy(tree.values)
    for dotted, _, assignment in given:
        if dotted.strip() in OWN:
            values = override(Tree(values), [assignment]).values
    values = _scaled(values, tree.origin(("scale",)) or str(path))
    for dotted, text, assignment in given:
        if dotted.strip() not in OWN:
            _lay_over(values, dotted.strip(), text, assignment)
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise recipe_error(error, Study, Tree(values, tree.origins)) from None
    return study.model_copy(update={"recipe": str(_beside(study.recipe, path))})


def _scaled(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Lay the chosen scale over the study: settings and axes one by one (`null` takes an axis away), others whole."""
    scales, chosen = values.get("scales") or {}, values.get("scale")
    if not isinstance(scales, Mapping) or chosen is None:
        return values
    if not isinstance(chosen, str) or chosen not in scales:
        msg = f"{where}: scale: there is no scale called {chosen!r}; {did_you_mean(str(chosen), map(str, scales))}"
        raise RecipeError(msg)
    if not isinstance(scales[chosen] or {}, Mapping):
        msg = f"{where}: scales.{chosen}: expected settings, got {scales[chosen]!r}"
        raise RecipeError(msg)
    scaled = dict(values)
    for key, value in (scales[chosen] or {}).items():
        below = values.get(key) or {}
        merges = key in MERGED and isinstance(value, Mapping) and isinstance(below, Mapping)
        laid = {**below, **value} if merges else value
        removes = key == "axes" and isinstance(laid, Mapping)
        scaled[key] = {name: kept for name, kept in laid.items() if kept is not None} if removes else laid
    return scaled


def _lay_over(values: dict[str, Any], dotted: str, text: str, assignment: str) -> None:
    if not text or not dotted:
        msg = f"-o {assignment}: an override is written as path=value, for example -o seeds=[0,1,2]"
        raise RecipeError(msg)
    value = override(Tree({}), [f"value={text}"]).values["value"]
    axes, settings = values.get("axes") or {}, values.get("settings") or {}
    if not isinstance(axes, dict) or not isinstance(settings, dict):
        return  # what is wrong with these is said when the study is read
    if dotted not in axes:
        values["settings"] = {**settings, dotted: value}
        return
    if isinstance(axes[dotted], Mapping):
        labels = value if isinstance(value, list) else [value]
        unknown = [str(label) for label in labels if label not in axes[dotted]]
        if unknown:
            msg = f"-o {assignment}: the axis {dotted} has no {unknown[0]!r}; {did_you_mean(unknown[0], axes[dotted])}"
            raise RecipeError(msg)
        axes[dotted] = {label: axes[dotted][label] for label in labels}
    else:
        axes[dotted] = value if isinstance(value, list) else [value]


def _beside(recipe: str, study: Path) -> Path:
    beside = study.parent / recipe
    return beside if path_exists(beside) and not Path(recipe).is_absolute() else Path(recipe)
