"""The stages that measure: scoring and tasks for each model, and an evaluation of all models.

The scores of a model depend on the model, the text and how it is read, but not on its role in a
run. So each model has a scoring stage and a tasks stage, and two runs that share a model score it
once. The evaluation reads the scores of all models and compares them. It also measures speed,
because the models must be timed in turns to be compared.

Inputs are named by kind and name (`model:source`, `scores:source`, `text:target`), so that a model
may have any name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lingraft.corpus import CorpusSettings
from lingraft.corpus.identity import file_identity
from lingraft.corpus.text_files import find_files
from lingraft.errors import RecipeError
from lingraft.evaluation import BootstrapSettings
from lingraft.evaluation.config import HeldoutPart
from lingraft.evaluation.tasks import task_files, task_identity
from lingraft.pipeline.evaluation_builders import make_evaluation, make_scoring, make_tasks
from lingraft.pipeline.stage_node import StageNode, file_reading_node, stage_node
from lingraft.recipe import Evaluation
from lingraft.store import expanded, file_digest
from lingraft.tokenizer.load_tokenizer import tokenizer_file

SCORING_SETTINGS = ("heldout_bytes", "context", "stride")
"""The evaluation settings that the scores of a model depend on, and the held-out curve."""

CURVE_SETTINGS = "heldout"
"""The note of a training with the settings that its held-out curve was measured with."""

PART = "heldout_part"
"""The part of the held-out documents, among these settings."""

CURVE_LEVEL = "heldout confidence"
"""The note of a training with the level of the intervals of its held-out curve."""

RUN_MODELS = ("source", "spliced", "adapted")
"""The models of a run, in their order; the last is left out if nothing is trained."""

TASKS_OF = "tasks of "
"""The titles of the stages that score tasks: this, and the name of the model."""

RUN_TEXT = "target"
"""The first text of a run: other names are languages, in the order of the command line."""

SAMPLE_SETTINGS = ("prompt_bytes", "samples", "sample_bytes")
"""The generation settings that the generated samples of a model depend on."""


def scoring_settings(settings: Evaluation) -> dict[str, Any]:
    """Return the settings of `SCORING_SETTINGS` as plain JSON."""
    return settings.model_dump(mode="json", include=set(SCORING_SETTINGS))


def curve_settings(settings: Evaluation) -> dict[str, Any]:
    """Return the settings that a held-out curve is measured with, as plain JSON."""
    probes = settings.in_context
    return {
        **scoring_settings(settings),
        "in_context": probes.model_dump(mode="json") if probes else None,
    }


@dataclass(frozen=True)
class EvaluationNodes:
    """The stages that measure the models of a run."""

    scoring: tuple[StageNode, ...]
    tasks: tuple[StageNode, ...]
    evaluation: StageNode


def evaluation_nodes(
    models: Mapping[str, StageNode],
    texts: Mapping[str, StageNode],
    settings: Evaluation,
    *,
    seed: int = 0,
    learned: Mapping[str, StageNode] | None = None,
    packed: Mapping[str, StageNode] | None = None,
    separator: str = "auto",
    repaired: Mapping[str, CorpusSettings] | None = None,
    part: HeldoutPart = "all",
) -> EvaluationNodes:
    """Return the stages that score each model, run its tasks, and compare it with the first model.

    `learned` are the texts of which the training part is searched for documents of tasks; by
    default, these are all texts. `packed` are the training texts in which exposures of added
    tokens are counted. `separator` is the setting `training.packing.separator` of the recipe.
    `repaired` are the settings of texts whose repairs parallel sentences get, by language, and
    `part` the held-out documents that are scored. Raises `LingraftError` if a file that the
    settings name does not exist.
    """
    text_inputs, repaired = _prefixed("text", texts), repaired or {}
    learned_inputs = text_inputs if learned is None else _prefixed("text", learned)
    scoring, tasks = {}, {}
    for name, model in models.items():
        scoring[name] = _scoring(name, model, text_inputs, settings, separator, part=part)
        if settings.tasks.names:
            tasks[name] = _tasks(name, model, learned_inputs, settings, seed)
    evaluation = file_reading_node(
        "evaluation",
        "evaluation",
        partial(_evaluation_settings, settings, repaired, separator, tuple(models), tuple(texts)),
        partial(
            make_evaluation,
            settings,
            tuple(models),
            repaired=repaired,
            separator=separator,
            part=part,
        ),
        **_prefixed("model", models),
        **_prefixed("scores", scoring),
        **_prefixed("tasks", tasks),
        **text_inputs,
        **(packed or {}),
    )
    return EvaluationNodes(tuple(scoring.values()), tuple(tasks.values()), evaluation)


def check_parallel(settings: Evaluation, languages: Iterable[str]) -> None:
    """Raise `RecipeError` for parallel text if nothing but English is measured."""
    if settings.parallel_file is not None and set(languages) <= {"en"}:
        msg = (
            f"evaluation.parallel_file: {settings.parallel_file} is compared with English, and "
            "only English is measured; give text in another language, or leave the file out"
        )
        raise RecipeError(msg)


def _prefixed(kind: str, nodes: Mapping[str, StageNode]) -> dict[str, StageNode]:
    return {f"{kind}:{name}": node for name, node in nodes.items()}


def _scoring(
    name: str,
    model: StageNode,
    texts: Mapping[str, StageNode],
    settings: Evaluation,
    separator: str,
    *,
    part: HeldoutPart,
) -> StageNode:
    identity = scoring_settings(settings)
    if part != "all":
        identity["part"] = part
    if settings.generation is not None:
        identity["samples"] = settings.generation.model_dump(
            mode="json", include=set(SAMPLE_SETTINGS)
        )
    identity["separator"] = separator
    return stage_node(
        f"scoring {name}",
        "scoring",
        identity,
        partial(make_scoring, settings, separator, part),
        model=model,
        **texts,
    )


def _tasks(
    name: str, model: StageNode, texts: Mapping[str, StageNode], settings: Evaluation, seed: int
) -> StageNode:
    # Task files are part of the key by their content (`task_identity`), not by their paths.
    data = task_identity(settings.tasks)
    identity = {
        **settings.tasks.model_dump(mode="json", exclude={"data", "tasks_folder"}),
        "seed": seed,
        "identity": data,
    }
    # Left out at the defaults, which earlier versions always used, so that their results are found.
    if settings.bootstrap != BootstrapSettings():
        identity["bootstrap"] = settings.bootstrap.model_dump(mode="json")
    node = stage_node(
        f"{TASKS_OF}{name}",
        "tasks",
        identity,
        partial(make_tasks, settings, seed),
        model=model,
        # Text is read only to find task documents in it.
        **({} if settings.tasks.contaminated == "ignore" else texts),
    )

    def read_again() -> dict[str, Any]:
        # Without the Hub: scores must not be lost because it is unavailable when they are done.
        return {**identity, "identity": data | task_files(settings.tasks)}

    return replace(node, read_again=read_again)


def _evaluation_settings(
    settings: Evaluation,
    repaired: Mapping[str, CorpusSettings],
    separator: str,
    models: Iterable[str],
    texts: Iterable[str],
) -> dict[str, Any]:
    # The usual separator is left out, so that evaluations stored by earlier versions are found.
    before = {} if separator == "auto" else {"separator": separator}
    return {**_identity(settings, repaired), **before, **_order(models, texts)}


def _identity(settings: Evaluation, repaired: Mapping[str, CorpusSettings]) -> dict[str, Any]:
    """Return the settings, with files replaced by their hashes."""
    identity = settings.model_dump(
        mode="json", exclude={"parallel_file", "reference_tokenizer", "tasks"}
    )
    if settings.parallel_file is not None:
        identity["parallel"] = [file_identity(path) for path in find_files(settings.parallel_file)]
        identity["gini"] = True  # of the premiums, which earlier versions did not measure
        if repaired:
            repairs = {tag: one.repairs_identity for tag, one in repaired.items()}
            identity["parallel_cleaning"] = repairs
    if settings.reference_tokenizer is not None:
        folder = expanded(settings.reference_tokenizer)
        identity["reference_tokenizer"] = file_digest(tokenizer_file(folder))
    return identity


def _order(models: Iterable[str], texts: Iterable[str]) -> dict[str, list[str]]:
    """Return the orders of models and of texts, as far as they are not those of every run.

    The first model is the reference of all changes. The keys of inputs have no order.
    """
    names, languages = list(models), list(texts)
    order = {}
    # The orders of a run are left out, so that evaluations stored by earlier versions are found.
    if tuple(names) != RUN_MODELS[: len(names)]:
        order["models"] = names
    if languages[0] != RUN_TEXT:
        order["texts"] = languages
    return order
