"""`lingraft evaluate`: measures models on the same text and compares them with the first one.

The text is the held-out text of a recipe, as in a run, or text of files, which is not cleaned. The
keys of scores depend on the hashes of the model's files and of the text. So a later evaluation, or
a run with the same source model, finds the scores in the store.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.bases import parse_model
from lingraft.corpus import (
    CorpusSettings,
    Listing,
    first_documents,
    identity_of,
    list_files,
    look_at,
    parse_language,
)
from lingraft.corpus.corpus import DocumentWriter, write_counts
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError, ModelError, RecipeError
from lingraft.evaluation.tasks import check_tasks, choose_tasks
from lingraft.hub_client import HUB_ID
from lingraft.pipeline.build_stage import (
    FinishedStage,
    build_node,
    quiet_libraries,
    warnings_of,
    wrong_scripts_of,
)
from lingraft.pipeline.evaluation_stages import (
    EvaluationNodes,
    check_parallel,
    curve_settings,
    evaluation_nodes,
)
from lingraft.pipeline.run_folder import (
    FORMAT,
    RUN,
    copy_measurements,
    link_same_names,
    link_task_results,
    new_run_folder,
    results,
    write_record,
)
from lingraft.pipeline.stage_builders import reported_part, source_node
from lingraft.pipeline.stage_node import StageContext, StageNode, must_build, stage_node
from lingraft.pipeline.stage_warnings import ScoredText
from lingraft.pipeline.stages import corpus_nodes
from lingraft.pipeline.versions import package_versions
from lingraft.progress import LogLine, discard_line, each_warning_once
from lingraft.recipe import Evaluation, Given, Recipe, Runtime, assignment, chosen_recipe
from lingraft.store import Store, expanded, is_folder, path_exists

EVALUATE = "lingraft evaluate"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate: models, on the text of a recipe or on text by language.

    A text is a list of places (files, globs, Hub data sets) or settings of sources. `overrides`
    change settings of the recipe. `language` is the language of the tasks `auto`; by default, all
    languages of the text.
    """

    models: Sequence[str]
    recipe: Path | None = None
    text: Mapping[str, Sequence[Any]] | None = None
    tasks: Sequence[str] = ()
    parallel: str | None = None
    reference: str | None = None
    overrides: Sequence[str] = ()
    language: str | None = None

    def languages(self, recipe: Recipe) -> list[str]:
        """Return the languages of the tasks `auto`."""
        if self.language:
            return [parse_language(self.language)]
        return list(self.text or [target.language for target in recipe.targets])


def evaluate_models(
    request: EvaluationRequest, runtime: Runtime, output: Path, *, log: LogLine = discard_line
) -> dict[str, Any]:
    """Measure models on the same text; write the results into `output` and return them as JSON.

    Raises `LingraftError`; then `output` is unchanged, but finished scores stay in the store.
    """
    if bool(request.text) == bool(request.recipe):
        msg = (
            "evaluate: expected text from one place; give either --text LANG=FILE, or --recipe "
            "RECIPE for the held-out text of a recipe"
        )
        raise CorpusError(msg)
    models = {name: model_path(model) for name, model in shortest_names(request.models).items()}
    recipe = _recipe(request, next(iter(models.values())))
    if getattr(recipe.model, "trust_remote_code", False):
        # This allows the code of the recipe's model to run; models adapted from it need it, too.
        recipe.model.identity()
    tasks = choose_tasks(recipe.evaluation.tasks, request.languages(recipe))
    for line in tasks.lines:
        log(line)
    evaluation = recipe.evaluation.model_copy(update={"tasks": tasks.settings})
    model_nodes = {}
    for name, path in models.items():
        model_nodes[name] = source_node(f"model {name}", parse_model(path))
    texts = _texts(request, recipe)
    check_parallel(evaluation, request.languages(recipe))
    part = reported_part(recipe)
    measuring = evaluation_nodes(
        model_nodes,
        texts,
        evaluation,
        seed=recipe.seed,
        learned={} if request.text else texts,
        separator=recipe.training.packing.separator,
        repaired={} if request.text else recipe.repaired,
        part=part,
    )
    nodes = _different([*model_nodes.values(), *texts.values()], measuring)
    store = Store(runtime.store)
    if must_build(nodes, runtime, store):
        quiet_libraries()
    if not all(node.is_cached(store) for node in measuring.tasks):
        check_tasks(tasks.settings)
    scored = ScoredText(curve_settings(recipe.evaluation), part)
    with each_warning_once(), new_run_folder(output, "--output", made_by=EVALUATE) as draft:
        build = partial(build_node, scored=scored)
        done = [build(node, recipe, runtime, store, log) for node in nodes]
        return _write_results(draft, models, measuring, store=store, done=done)


def _different(inputs: Sequence[StageNode], measuring: EvaluationNodes) -> list[StageNode]:
    """Return all stages in order, each key once: one model may be named in two ways."""
    nodes = (*inputs, *measuring.scoring, *measuring.tasks, measuring.evaluation)
    return list({node.stage.key: node for node in nodes}.values())


def model_path(model: str) -> str:
    """Return the model folder or hub id that `model` names; of a finished run, its folder model/.

    Raises `ModelError` if `model` is neither a folder nor a hub id.
    """
    path = expanded(model)
    if (path / RUN).is_file() and (path / "model").is_dir():
        return str(path / "model")
    if path.is_file():
        msg = (
            f"{model}: is a file; expected a model folder with config.json, *.safetensors and a "
            "tokenizer"
        )
        raise ModelError(msg)
    is_hub_id = HUB_ID.fullmatch(model.partition("@")[0]) and not model.startswith(".")
    if not path.is_dir() and not is_hub_id:
        msg = (
            f"{model}: no such folder, and no hub id; expected a model folder, a finished run, or "
            "owner/name"
        )
        raise ModelError(msg)
    return model


def shortest_names(models: Sequence[str]) -> dict[str, str]:
    """Return the models by name: the last parts of their paths, as few as make names different.

    A file has the name of its folder, because most tokenizer files are called tokenizer.json.
    Raises `RecipeError` if a model is named twice.

    >>> shortest_names(["runs/a/model", "runs/b/model", "base"])
    {'a/model': 'runs/a/model', 'b/model': 'runs/b/model', 'base': 'base'}
    >>> shortest_names(["a/llama/tokenizer.json", "b/qwen"])
    {'llama': 'a/llama/tokenizer.json', 'qwen': 'b/qwen'}
    >>> list(shortest_names(["tokenizer.json", "b/qwen"])), shortest_names(["."])
    (['tokenizer.json', 'qwen'], {'.': '.'})
    """
    # `./a` and `a` are one folder; their names would be equal, however many parts they have.
    if len({expanded(model).absolute() for model in models}) < len(models):
        msg = f"a model is named twice: {', '.join(models)}; name each once"
        raise RecipeError(msg)
    parts = list(map(_name_parts, models))
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(of_model[-length:]) for of_model in parts]
        if len({*names}) == len(names):
            return dict(zip(names, models, strict=True))
    return {model: model for model in models}  # files of one folder


def _name_parts(model: str) -> tuple[str, ...]:
    """Return the parts of the path that gives a model its name."""
    path = Path(model)
    is_file = path.suffix in {".json", ".gz"} or (path_exists(model) and not is_folder(model))
    return (path.parent.parts if is_file else ()) or path.parts or (model,)


def _recipe(request: EvaluationRequest, first_model: str) -> Recipe:
    """Return the recipe of the request; without one, a recipe with the default settings.

    The model of the recipe is not evaluated; its texts are used if the request has no text.
    """
    settings = {
        "evaluation.tasks": list(request.tasks),
        "evaluation.parallel_file": request.parallel,
        "evaluation.reference_tokenizer": request.reference,
    }
    overrides = []
    for path, value in settings.items():
        if value:
            overrides.append(assignment(path, value))
    language, files = next(iter((request.text or {}).items()), (None, ()))
    given = Given()
    if not request.recipe:
        given = Given(model=first_model, language=language, text=files)
    return chosen_recipe(request.recipe, given, [*overrides, *request.overrides])


def _texts(request: EvaluationRequest, recipe: Recipe) -> dict[str, StageNode]:
    if request.text:
        texts = {}
        for language, files in request.text.items():
            texts[language] = _text_node(language, files, recipe.evaluation)
        return texts
    targets, replay = corpus_nodes(recipe)
    return {**targets, "replay": replay} if replay else targets


def _text_node(language: str, sources: Sequence[Any], settings: Evaluation) -> StageNode:
    corpus = CorpusSettings.model_validate({"sources": list(sources)})
    look_at(corpus, language)
    listing, size = list_files(corpus), int(settings.heldout_bytes)
    identity = {**identity_of(corpus, language, listing), "bytes": size}
    make = partial(_make_text, corpus, language, size, listing)
    return stage_node(f"text in {language}", "text", identity, make)


def _make_text(
    settings: CorpusSettings,
    language: str,
    max_bytes: int,
    listing: Listing,
    context: StageContext,
) -> None:
    """Store documents unchanged as held-out text, as many as are scored."""
    with (
        DocumentWriter(context.draft.path("train.parquet")) as train,
        DocumentWriter(context.draft.path("heldout.parquet")) as heldout,
        closing(_documents(settings, language, listing)) as texts,
    ):
        for text in first_documents(texts, max_bytes):
            heldout.write(text, len(text.encode()))
    if not heldout.counts.documents:
        files = ", ".join(source.label for source in settings.sources)
        msg = f"{files}: no text in {language} to evaluate on; name a file with documents"
        raise CorpusError(msg)
    splits = {"train": asdict(train.counts), "heldout": asdict(heldout.counts)}
    write_counts(context.draft, language, splits, {})
    context.draft.notes["heldout"] = splits["heldout"]


def _documents(
    settings: CorpusSettings, language: str, listing: Listing
) -> Generator[str, None, None]:
    """Yield the documents of all sources that are not blank."""
    for source in settings.sources:
        with closing(read_source(source, language, listing)) as texts:
            for text in texts:
                if text.strip():
                    yield text


def _write_results(
    draft: Path,
    models: Mapping[str, str],
    measuring: EvaluationNodes,
    *,
    store: Store,
    done: Sequence[FinishedStage],
) -> dict[str, Any]:
    """Fill the output folder; return its content as plain JSON."""
    evaluated = store.folder(measuring.evaluation.stage)
    measurements = copy_measurements(evaluated, draft)
    link_same_names(evaluated, draft, ("generated.json",))
    for name, tasks in zip(models, measuring.tasks, strict=False):  # a recipe may have no tasks
        link_task_results(store.folder(tasks.stage), draft, name.replace("/", "-"))
    record = {
        "format": FORMAT,
        "made by": EVALUATE,
        "models": dict(models),
        "versions": package_versions(),
        "stages": [stage.record() for stage in done],
        "warnings": warnings_of(done),
        "wrong_scripts": wrong_scripts_of(done),
    }
    write_record(draft, {**record, "files": results(draft)})
    return {**record, "measurements": [asdict(row) for row in measurements]}
