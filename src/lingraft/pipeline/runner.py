"""Carrying a recipe out: every stage from the store or made, then the run folder, whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.evaluation.tasks import check_tasks
from lingraft.forecast.run_predictions import PREDICTION
from lingraft.formatting import duration
from lingraft.measurement import read_measurements, write_measurements
from lingraft.model_card import write_card
from lingraft.pipeline.all_ranks import train_as_worker, training_group
from lingraft.pipeline.check_stages import run_certificate, write_run_certificate
from lingraft.pipeline.run_folder import (
    FORMAT,
    RUN,
    Run,
    has_key,
    is_run,
    link_files,
    model_files,
    new_run_folder,
    remove_leftovers,
    results,
    run_damage,
)
from lingraft.pipeline.source_summary import SourceStatement, source_statement
from lingraft.pipeline.stage_node import StageNode
from lingraft.pipeline.stages import Graph, build_graph
from lingraft.pipeline.versions import package_versions
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.progress import LogLine, discard_line
from lingraft.recipe import Recipe, Runtime, recipe_values, recipe_yaml
from lingraft.recipe.old_names import names_of_0_1
from lingraft.store import WARNINGS, Manifest, Store, digest

WriteReport = Callable[[Path], Any]

REPORT_VERSION = 6
"""Raised when run folders change: older ones are written again from the stored outputs."""


NO_REPLAY = (
    "replay: no replay text is named, so forgetting of the base language is neither measured nor prevented; "
    "name some with --base-text"
)


@dataclass(frozen=True)
class FinishedStage:
    """A stage whose output is stored."""

    node: StageNode
    manifest: Manifest
    cached: bool

    def record(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {
            "name": self.node.stage.name,
            "title": self.node.title,
            "key": self.node.stage.key,
            "cached": self.cached,
            "seconds": self.manifest.seconds,
            "notes": self.manifest.notes,
        }


def run(
    recipe: Recipe, runtime: Runtime, *, write_report: WriteReport, log: LogLine = discard_line
) -> Run:
    """Carry out a recipe and return the finished run.

    Stages that are in the store are not made again; where the run folder is there too, nothing is done at all.
    `write_report` is called with the draft of the run folder, `log` with a line for each stage. Raises
    `LingraftError`; then no run folder is left, while finished stages stay in the store.
    """
    store, folder = Store(runtime.store), runtime.runs / recipe.run_name
    graph = build_graph(recipe)
    key = run_key(recipe, graph)
    remove_leftovers(folder)
    if is_run(folder, key):
        log(f"{folder}: this run is finished already, nothing to do")
        return Run(folder)
    if has_key(folder, key):
        log(f"{run_damage(folder)}; writing the run folder again")
    started = time.time()
    if not all(node.is_cached(store) for node in graph.tasks):
        check_tasks(recipe.evaluation.tasks)
    if not all(node.is_cached(store) for node in graph):
        quiet_libraries()
    warned = _recipe_warnings(recipe)
    for warning in warned:
        log(f"warning: {warning}")
    with new_run_folder(folder) as draft:
        done = []
        for node in graph:
            with training_group(node, graph, runtime, store):
                done.append(build_node(node, recipe, runtime, store, log))
            if node is graph.source:
                statement = log_source_statement(recipe, store.folder(node.stage) / "model", log)
        _assemble(draft, recipe, graph, store)
        device = runtime.device if all(one.cached for one in done) else runtime.resolved_device()
        warned += statement.warnings
        record = {
            "format": FORMAT,
            "key": key,
            **_description(recipe),
            "source_kind": statement.kind,
            "stages": [one.record() for one in done],
            "versions": package_versions(),
            "device": device,
            "started": _clock(started),
            "finished": _clock(time.time()),
            "warnings": [*warned, *warnings_of(done)],
            "files": results(draft),
        }
        (draft / RUN).write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        write_card(draft)
        write_report(draft)
    return Run(folder)


def run_as_worker(recipe: Recipe, runtime: Runtime) -> None:
    """Take part in a run whose other stages the first process of a launcher makes."""
    graph = build_graph(recipe)
    if not is_run(runtime.runs / recipe.run_name, run_key(recipe, graph)):
        quiet_libraries()
        train_as_worker(recipe, runtime, graph)


def run_key(recipe: Recipe, graph: Graph) -> str:
    """Return the key of a run: the hash of its recipe and of its stages, with the names of 0.1."""
    values = names_of_0_1(recipe_values(recipe))
    return digest([FORMAT, REPORT_VERSION, values, [node.stage.key for node in graph]])[:20]


def quiet_libraries() -> None:
    """Turn off the progress bars of transformers: ours say what is going on."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def build_node(
    node: StageNode, recipe: Recipe, runtime: Runtime, store: Store, log: LogLine
) -> FinishedStage:
    """Take a stage's output from the store, or build it; raises `StoreError` if the disk is full."""
    cached = node.is_cached(store)
    manifest = Manifest.read(node.build(store, recipe, runtime))
    log(f"{node.title:<24} {'from the store' if cached else duration(manifest.seconds)}")
    for warning in (
        manifest.notes.get(WARNINGS, ()) if cached else ()
    ):  # a stage that runs now has printed its own
        log(f"warning: {warning}")
    return FinishedStage(node, manifest, cached)


def _assemble(draft: Path, recipe: Recipe, graph: Graph, store: Store) -> None:
    """Put everything but run.json and the report into the draft of the run folder."""
    final, vocabulary = store.folder(graph.final.stage), store.folder(graph.vocabulary.stage)
    link_files(final / "model", draft, model_files(final / "model"))
    evidence = ("splice.json", "samples.json", "curve.json", PRETOKENIZER)
    link_files(vocabulary, draft, {name: name for name in evidence})
    certificate = run_certificate(store, graph.source_check, graph.vocabulary, *graph.result_checks)
    write_run_certificate(draft / "certificate.json", certificate)
    if graph.training is not None:
        trained = store.folder(graph.training.stage)
        merged = sorted(path.name for path in trained.glob("low-rank-*.safetensors"))
        link_files(trained, draft, {name: name for name in ("training.jsonl", *merged)})
    (draft / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
    evaluated = store.folder(graph.evaluation.stage)
    if (evaluated / "generated.json").is_file():  # a recipe may have the models write nothing
        link_files(evaluated, draft, {"generated.json": "generated.json"})
    if (evaluated / "added_tokens.parquet").is_file():
        link_files(evaluated, draft, {"added_tokens.parquet": "added_tokens.parquet"})
    link_files(store.folder(graph.prediction.stage), draft, {PREDICTION: PREDICTION})
    for node in graph.tasks:
        name = node.title.removeprefix("tasks of ")
        link_files(
            store.folder(node.stage),
            draft,
            {f"{kind}": f"tasks/{name}/{kind}" for kind in ("results.json", "samples.jsonl")},
        )
    rows = read_measurements(evaluated / "measurements.parquet")
    write_measurements(rows, draft / "measurements.parquet")
    write_measurements(rows, draft / "measurements.csv")


def _description(recipe: Recipe) -> dict[str, Any]:
    values = recipe_values(recipe)
    method = {role: values[role] for role in ("vocabulary", "embeddings", "training")}
    return {
        "name": recipe.run_name,
        "source": describe_source(values["model"]),
        "language": recipe.target.language,
        "replay_language": recipe.replay.language if recipe.replay else None,
        "method": method,
        "recipe": values,
    }


def describe_source(model: dict[str, Any]) -> str:
    """Return how people call a base model."""
    kind, settings = next(iter(model.items()))
    if kind == "folder":
        return Path(settings["path"]).name
    if kind == "hub":
        return str(settings["id"])
    if kind == "random":
        return f"random weights with the tokenizer {Path(settings['tokenizer']).parent.name}"
    return f"a model trained here on {settings['language']} text" if kind == "pretrain" else kind


def warnings_of(done: Iterable[FinishedStage]) -> list[str]:
    """Return the warnings of these stages in their order, each once."""
    found = [warning for one in done for warning in one.manifest.notes.get(WARNINGS, ())]
    return list(dict.fromkeys(found))


def log_source_statement(recipe: Recipe, folder: Path, log: LogLine) -> SourceStatement:
    """Log what the source model is and what the recipe makes of it."""
    statement = source_statement(recipe, folder)
    for line in (*statement.lines, *(f"warning: {warning}" for warning in statement.warnings)):
        log(line)
    return statement


def _recipe_warnings(recipe: Recipe) -> list[str]:
    """Return the warnings that follow from the recipe alone."""
    if recipe.replay is None:
        return [NO_REPLAY]
    return []


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
