"""Checks, before anything runs, that the cells of a study measure what it compares."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.errors import RecipeError, did_you_mean
from lingraft.measurement import (
    CHANGE,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    NEUTRAL,
    WITHOUT_DIRECTION,
)
from lingraft.recipe import Recipe
from lingraft.studies.config import ComparedSettings, Study
from lingraft.studies.noted_measurements import STAGE_NOTES


def check_compared(study: Study, recipes: Sequence[Recipe]) -> None:
    """Raise `RecipeError` for an entry of `compare` that no cell of these recipes measures.

    Metrics and languages of tasks are known only when they have run.
    """
    if any(recipe.evaluation.tasks.names for recipe in recipes):
        return
    replayed = [recipe.replay.language for recipe in recipes if recipe.replay]
    targets = [text.language for recipe in recipes for text in recipe.targets]
    known = {"target", *targets, *(("replay", *replayed) if replayed else ())}
    for number, compared in enumerate(study.compare):
        where = f"{study.line('compare', number)}: compare"
        _check_metric(compared, where)
        # Measurements of the model itself have no language.
        if compared.language not in {"", *known}:
            hint = did_you_mean(compared.language, known)
            msg = f"{where}: no cell measures {compared.language!r}; {hint}"
            raise RecipeError(msg)


def known_metrics() -> set[str]:
    """Return the names of all metrics but those of tasks and of changes."""
    from lingraft.evaluation.byte_positions import position_spans

    return {*HIGHER_IS_BETTER, *LOWER_IS_BETTER, *NEUTRAL, *WITHOUT_DIRECTION, *position_spans()}


def _check_metric(compared: ComparedSettings, where: str) -> None:
    """Raise `RecipeError` for a metric that is not known, or not one of this model or language."""
    name, known = compared.metric.removesuffix(CHANGE), known_metrics()
    if name not in known:
        hint = did_you_mean(compared.metric, known)
        msg = f"{where}: no metric is called {compared.metric!r}; {hint}"
        raise RecipeError(msg)
    if compared.metric != name and compared.subject == "source":
        msg = f"{where}: {compared.metric} is the change since the source; set subject: adapted"
        raise RecipeError(msg)
    subjects = [subject for _, _, metric, subject, _ in STAGE_NOTES if metric == name]
    if subjects and (compared.subject not in subjects or compared.language):
        msg = (
            f"{where}: {name} is measured once per run, without a language; set "
            f"subject: {' or '.join(subjects)}, language: ''"
        )
        raise RecipeError(msg)
