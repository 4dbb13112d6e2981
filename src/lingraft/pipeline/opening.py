"""What a run says before anything is learned: what it will do, with how much text, and how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.display_text import language_name
from lingraft.formatting import counted, duration, join_words, number, percent, size
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.plan_table import PlanRow
from lingraft.pipeline.planner import plan
from lingraft.pipeline.received import ReceivedModel
from lingraft.recipe import Recipe, Runtime, recipe_values


def describe_model(model: Mapping[str, Any]) -> str:
    """Return a short name of a source model, given its settings in a recipe."""
    kind, settings = next(iter(model.items()))
    if kind == "folder":
        return Path(settings["path"]).name
    if kind == "hub":
        return str(settings["id"])
    if kind == "random":
        return f"random weights with the tokenizer {Path(settings['tokenizer']).parent.name}"
    return (
        f"a model trained here on {language_name(settings['language'])} text"
        if kind == "pretrain"
        else kind
    )


def describe_run(recipe: Recipe, received: ReceivedModel | None = None) -> str:
    """Return in one line what a run of a recipe does."""
    source = describe_model(recipe_values(recipe)["model"])
    target = join_words([language_name(text.language) for text in recipe.targets])
    wanted = recipe.vocabulary.size
    method = recipe.vocabulary.method
    done = "added" if not method.removes else "replaced" if method.adds else "removed"
    if recipe.vocabulary.adds_nothing:
        added = "no token added"
    elif isinstance(wanted, int):
        added = f"{'up to ' if method.removes else ''}{counted(wanted, 'token')} {done}"
    else:
        added = f"up to {counted(wanted.max_size, 'token')} {done} (rule {wanted.rule})"
    trained = _training(recipe) if received is None else received.described
    return f"{recipe.run_name}: {source} learns {target}: {added}, {trained}"


def _training(recipe: Recipe) -> str:
    """Return how long a recipe trains, and with how much replay."""
    budgets = []
    for phase in recipe.training.phases:
        unit, amount = phase.budget.amount
        budgets.append(f"{number(amount)} {unit.removesuffix('s') if amount == 1 else unit}")
    if not budgets:
        return "nothing is trained"
    trained = f"then trained on {' and '.join(budgets)}"
    if recipe.replay is None:
        return f"{trained}, without replay"
    share = percent(recipe.replay.portion)
    return f"{trained}, with {share} replay of {language_name(recipe.replay.language)}"


def estimate_run(recipe: Recipe, runtime: Runtime, graph: Graph) -> str:
    """Return in one line the amounts of text, the stages that are not stored, and their time."""
    try:
        rows = plan(recipe, runtime, graph, notes=False)
    except Exception as error:  # noqa: BLE001 - the run itself reports what is wrong, with advice
        return f"the time is not estimated ({type(error).__name__})"
    missing = [row for row in rows if not row.cached]
    stages = f"{len(missing)} of {counted(len(rows), 'stage')} to do"
    return f"{_texts(rows)}{stages}, {_time(missing, runtime.resolved_device())}"


def _texts(rows: Sequence[PlanRow]) -> str:
    """Return the size of each text that is known."""
    shown = ""
    for row in rows:
        if row.title.startswith("text in ") and "bytes" in row.amounts:
            shown += f"{row.title}: {size(row.amounts['bytes'])}; "
    return shown


def _time(rows: Sequence[PlanRow], device: str) -> str:
    """Return the time of stages together: a lower bound if that of some is not known."""
    seconds = sum(row.seconds or 0.0 for row in rows)
    unknown = [row.title for row in rows if row.seconds is None]
    if unknown:
        return f"at least {duration(seconds)} on {device} (not known: {', '.join(unknown)})"
    return f"about {duration(seconds)} on {device}"
