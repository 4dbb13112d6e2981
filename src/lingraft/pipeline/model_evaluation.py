"""`lingraft evaluate`: any models on the same text, compared with the first of them.

Text comes from a recipe (its held-out text, as a run would have it) or from files, taken as they are: nothing is
cleaned, so every model sees the same bytes. Scores lie in the store under the hashes of the model's files and of the
text, where a later evaluation, or a run that begins from the same model, finds them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.bases import Base, parse_model
from lingraft.corpus import CorpusSettings, first_documents, identity_of
from lingraft.errors import CorpusError, ModelError, RecipeError
from lingraft.evaluation.tasks import check_tasks
from lingraft.hub_client import HUB_ID
from lingraft.measurement import read_measurements, write_measurements
from lingraft.pipeline.evaluation_stages import Measured, evaluation_nodes
from lingraft.pipeline.run_folder import FORMAT, RUN, link_files, new_run_folder
from lingraft.pipeline.runner import FinishedStage, build_node, quiet_libraries
from lingraft.pipeline.stage_builders import make_model
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.pipeline.stages import corpus_nodes
from lingraft.pipeline.versions import package_versions
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Evaluation, Given, Recipe, Runtime, chosen_recipe
from lingraft.store import Store


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated: models, and text of a recipe or of files by language; `overrides` change the recipe."""

    models: Sequence[str]
    recipe: Path | None = None
    text: Mapping[str, Sequence[str]] | None = None
    tasks: Sequence[str] = ()
    parallel: str | None = None
    reference: str | None = None
    overrides: Sequence[str] = ()


def evaluate_models(
    asked: EvaluationRequest, runtime: Runtime, output: Path, *, log: LogLine = discard_line
) -> dict[str, Any]:
    """Measure models on the same text, write measurements into `output`, and return what was found, as plain JSON.

    Raises `LingraftError`; then `output` is as it was, while finished scores stay in the store.
    """
    if bool(asked.text) == bool(asked.recipe):
        msg = "say on which text: either --text LANG=FILE, or --recipe RECIPE for the held-out text of a recipe"
        raise CorpusError(msg)
    places = {name: model_place(model) for name, model in named(asked.models).items()}
    recipe = _recipe(asked, next(iter(places.values())))
    if getattr(recipe.model, "trust_remote_code", False):
        recipe.model.identity()  # permits the code that its model brings, which models made from it bring, too
    models = {name: _model_node(name, parse_model(place)) for name, place in places.items()}
    texts = _texts(asked, recipe)
    measured = evaluation_nodes(
        models,
        texts,
        recipe.evaluation,
        seed=recipe.seed,
        learned={} if asked.text else texts,
        separator=recipe.training.packing.separator,
    )
    nodes = list(
        {
            one.stage.key: one
            for one in (
                *models.values(),
                *texts.values(),
                *measured.scoring,
                *measured.tasks,
                measured.evaluation,
            )
        }.values()
    )
    store = Store(runtime.store)
    if not all(one.is_cached(store) for one in measured.tasks):
        check_tasks(recipe.evaluation.tasks)
    if not all(one.is_cached(store) for one in nodes):
        quiet_libraries()
    with new_run_folder(output, "--output") as draft:
        done = [build_node(one, recipe, runtime, store, log) for one in nodes]
        return _assembled(draft, places, measured, store=store, done=done)


def model_place(model: str) -> str:
    """Return the model folder that is meant: of a finished run its model/, else what was named.

    Raises `ModelError` for what is neither a folder nor a hub id.
    """
    path = Path(model).expanduser()
    if (path / RUN).is_file() and (path / "model").is_dir():
        return str(path / "model")
    if path.is_file():
        msg = f"{model}: is a file; expected a model folder with config.json, *.safetensors and a tokenizer"
        raise ModelError(msg)
    if not path.is_dir() and (
        model.startswith(".") or not HUB_ID.fullmatch(model.partition("@")[0])
    ):
        msg = f"{model}: no such folder, and no hub id; expected a model folder, a finished run, or owner/name"
        raise ModelError(msg)
    return model


def named(models: Sequence[str]) -> dict[str, str]:
    """Give each model the shortest name, from the end of its path, that tells it from the others.

    Raises `RecipeError` where one is named twice.

    >>> named(["runs/a/model", "runs/b/model", "base"])
    {'a/model': 'runs/a/model', 'b/model': 'runs/b/model', 'base': 'base'}
    """
    if len({*models}) < len(models):
        msg = f"a model is named twice: {', '.join(models)}; name each once"
        raise RecipeError(msg)
    for length in range(1, 99):
        names = ["/".join(Path(model).parts[-length:]) for model in models]
        if len({*names}) == len(names):
            break
    return dict(zip(names, models, strict=True))


def _recipe(asked: EvaluationRequest, first: str) -> Recipe:
    """Return the recipe whose evaluation is carried out; the models and texts of it may be others."""
    beside = {
        "evaluation.tasks": list(asked.tasks),
        "evaluation.parallel_file": asked.parallel,
        "evaluation.reference_tokenizer": asked.reference,
    }
    chosen = [
        f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in beside.items() if value
    ]
    language, places = next(iter((asked.text or {}).items()), (None, ()))
    given = Given() if asked.recipe else Given(model=first, language=language, text=places)
    return chosen_recipe(asked.recipe, given, [*chosen, *asked.overrides])


def _model_node(name: str, base: Base) -> StageNode:
    return stage_node(f"model {name}", "source", base.identity(), partial(make_model, base))


def _texts(asked: EvaluationRequest, recipe: Recipe) -> dict[str, StageNode]:
    if asked.text:
        return {
            language: _given_text(language, places, recipe.evaluation)
            for language, places in asked.text.items()
        }
    each, replay = corpus_nodes(recipe)
    return {**each, **({"replay": replay} if replay else {})}


def _given_text(language: str, places: Sequence[str], chosen: Evaluation) -> StageNode:
    sources = CorpusSettings.model_validate({"sources": list(places)})
    identity = {**identity_of(sources, language), "bytes": int(chosen.heldout_bytes)}
    return stage_node(
        f"text in {language}", "text", identity, partial(_make_text, sources, language, chosen)
    )


def _make_text(
    sources: CorpusSettings, language: str, chosen: Evaluation, context: StageContext
) -> None:
    """Take documents as they are, up to the bytes that are scored, and store them as held-out text."""
    from lingraft.corpus.corpus import COUNTS, DocumentWriter

    with (
        DocumentWriter(context.draft.path("train.parquet")) as train,
        DocumentWriter(context.draft.path("heldout.parquet")) as heldout,
        closing(_documents_of(sources, language)) as texts,
    ):
        for text in first_documents(texts, int(chosen.heldout_bytes)):
            heldout.write(text, len(text.encode()))
    if not heldout.counts.documents:
        msg = f"{', '.join(source.label for source in sources.sources)}: holds no text in {language} to evaluate on"
        raise CorpusError(msg)
    splits = {"train": asdict(train.counts), "heldout": asdict(heldout.counts)}
    counts = json.dumps({"language": language, "splits": splits}, ensure_ascii=False, indent=1)
    context.draft.path(COUNTS).write_text(counts, encoding="utf-8")
    context.draft.notes["heldout"] = splits["heldout"]


def _documents_of(sources: CorpusSettings, language: str) -> Generator[str, None, None]:
    """Yield the documents of all sources that are not blank."""
    from lingraft.corpus.readers import read_source

    for source in sources.sources:
        with closing(read_source(source, language)) as texts:
            yield from (text for text in texts if text.strip())


def _assembled(
    draft: Path,
    places: Mapping[str, str],
    measured: Measured,
    *,
    store: Store,
    done: Sequence[FinishedStage],
) -> dict[str, Any]:
    """Fill the output folder; return its content as plain JSON."""
    evaluated = store.folder(measured.evaluation.stage)
    rows = read_measurements(evaluated / "measurements.parquet")
    for name in ("measurements.parquet", "measurements.csv"):
        write_measurements(rows, draft / name)
    link_files(evaluated, draft, {"generated.json": "generated.json"})
    for name, tasks in zip(places, measured.tasks, strict=False):
        folder = f"tasks/{name.replace('/', '-')}"
        link_files(
            store.folder(tasks.stage),
            draft,
            {kind: f"{folder}/{kind}" for kind in ("results.json", "samples.jsonl")},
        )
    record = {
        "format": FORMAT,
        "made by": "lingraft evaluate",
        "models": dict(places),
        "versions": package_versions(),
        "stages": [one.record() for one in done],
    }
    (draft / RUN).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return {**record, "measurements": [asdict(row) for row in rows]}
