"""Runs a recipe: each stage is taken from the store or built, then the run folder is written.

The run folder is complete or absent. Finished stages stay in the store, so that a run that failed
or was stopped continues with the first unfinished stage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus import look_at_hub
from lingraft.evaluation.tasks import check_tasks
from lingraft.forecast.prediction import PREDICTION
from lingraft.forecast.run_predictions import with_training
from lingraft.forecast.training_curve import read_log
from lingraft.model_card import write_card
from lingraft.pipeline.added_token_table import ADDED_TOKENS
from lingraft.pipeline.all_ranks import train_as_worker, training_group
from lingraft.pipeline.build_stage import (
    FinishedStage,
    build_node,
    quiet_libraries,
    warnings_of,
    wrong_scripts_of,
)
from lingraft.pipeline.check_stages import run_certificate
from lingraft.pipeline.evaluation_stages import TASKS_OF, curve_settings
from lingraft.pipeline.finished_run import Run
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.opening import describe_model, describe_run, estimate_run
from lingraft.pipeline.plan_notes import unused_settings
from lingraft.pipeline.received import ReceivedModel
from lingraft.pipeline.run_folder import (
    EVIDENCE,
    FORMAT,
    clock,
    copy_measurements,
    has_key,
    link_files,
    link_same_names,
    link_task_results,
    model_files,
    new_run_folder,
    remove_leftovers,
    results,
    run_damage,
    write_record,
)
from lingraft.pipeline.run_identity import finished_line, run_key
from lingraft.pipeline.source_summary import SourceStatement, source_statement
from lingraft.pipeline.stage_builders import reported_part
from lingraft.pipeline.stage_node import StageNode, must_build
from lingraft.pipeline.stage_warnings import ScoredText
from lingraft.pipeline.stages import build_graph, choose_recipe_tasks
from lingraft.pipeline.text_summary import recipe_text_lines
from lingraft.pipeline.versions import package_versions
from lingraft.progress import LogLine, discard_line, each_warning_once, warn
from lingraft.recipe import Recipe, Runtime, recipe_values, recipe_yaml
from lingraft.recipe.old_names import current_log
from lingraft.store import Store, write_json
from lingraft.vocabulary.premium_balance import PREMIUMS

WriteReport = Callable[[Path], Any]

NO_REPLAY = (
    "replay: no replay text is named, so forgetting of the base language is neither measured nor "
    "prevented; name some with --base-text"
)


def run(
    recipe: Recipe,
    runtime: Runtime,
    *,
    write_report: WriteReport,
    log: LogLine = discard_line,
    received: ReceivedModel | None = None,
) -> Run:
    """Run a recipe and return the finished run.

    Stages whose output is stored are not built again; a finished run is left as it is.
    `write_report` is called with the draft of the run folder, `log` with each line of progress.
    With `received`, a checkpoint of another engine takes the place of training.
    Raises `LingraftError`; then no run folder is left, but finished stages stay in the store.
    """
    store, folder = Store(runtime.store), runtime.runs / recipe.run_name
    for line in recipe_text_lines(recipe):
        log(line)
    graph = build_graph(recipe, received=received)
    key = run_key(recipe, graph)
    remove_leftovers(folder)
    finished = finished_line(folder, recipe, graph)
    if finished:
        log(finished)
        return Run(folder)
    if has_key(folder, key):
        log(f"{run_damage(folder)}; writing the run folder again")
    started = time.time()
    task_lines = _prepare(recipe, runtime, graph, store, log, received=received)
    with each_warning_once(), new_run_folder(folder) as draft:
        for warning in _recipe_warnings(recipe):
            warn(warning, log)
        done = []
        scored = ScoredText(curve_settings(recipe.evaluation), reported_part(recipe))
        for node in graph:
            with training_group(node, graph, runtime, store):
                done.append(build_node(node, recipe, runtime, store, log, scored=scored))
            if node is graph.source:
                source = store.folder(node.stage) / "model"
                statement = log_source_statement(recipe, source, log)
        _write_results(draft, recipe, graph, store)
        record = {
            "format": FORMAT,
            "key": key,
            **_description(recipe),
            "source_kind": statement.kind,
            **({"received": dict(received.record)} if received else {}),
            **_stage_records(done, runtime),
            "started": clock(started),
            "finished": clock(time.time()),
            "warnings": [*_recipe_warnings(recipe), *statement.warnings, *warnings_of(done)],
            "wrong_scripts": wrong_scripts_of(done),
            **({"tasks": task_lines} if task_lines else {}),
            "files": results(draft),
        }
        write_record(draft, record)  # first, because the card and the report read it
        write_card(draft)
        write_report(draft)
    return Run(folder)


def _prepare(
    recipe: Recipe,
    runtime: Runtime,
    graph: Graph,
    store: Store,
    log: LogLine,
    *,
    received: ReceivedModel | None,
) -> tuple[str, ...]:
    """Check device, tasks and text before anything is built; log what is run, return task lines."""
    builds = must_build(graph, runtime, store)
    tasks = choose_recipe_tasks(recipe)
    if not all(node.is_cached(store) for node in graph.tasks):
        check_tasks(tasks.settings)
    look_at_hub_texts(recipe, tuple(graph), store)
    for line in (*tasks.lines, describe_run(recipe, received)):
        log(line)
    if builds:
        quiet_libraries()
        if log is not discard_line:
            log(estimate_run(recipe, runtime, graph))
    return tasks.lines


def look_at_hub_texts(recipe: Recipe, nodes: Sequence[StageNode], store: Store) -> None:
    """Read the first document of Hub text before a model is downloaded or trained.

    A wrong field must not wait for the model. `nodes` are all stages in order.
    """
    if nodes[0].is_cached(store):  # the source
        return
    corpora = [node for node in nodes if node.stage.name == "corpus"]
    for node, text in zip(corpora, recipe.texts, strict=True):
        if not node.is_cached(store):
            look_at_hub(text.corpus, text.language)


def run_as_worker(recipe: Recipe, runtime: Runtime) -> None:
    """Train in a run of several processes; the first process builds the other stages."""
    graph = build_graph(recipe)
    if not finished_line(runtime.runs / recipe.run_name, recipe, graph):
        quiet_libraries()
        train_as_worker(recipe, runtime, graph)


def _write_results(draft: Path, recipe: Recipe, graph: Graph, store: Store) -> None:
    """Write everything but run.json, the model card and the report into the run folder."""
    final, vocabulary = store.folder(graph.final.stage), store.folder(graph.vocabulary.stage)
    link_files(final / "model", draft, model_files(final / "model"))
    link_same_names(vocabulary, draft, EVIDENCE)
    if (vocabulary / PREMIUMS).is_file():
        link_same_names(vocabulary, draft, (PREMIUMS,))
    certificate = run_certificate(store, graph.source_check, graph.vocabulary, *graph.result_checks)
    write_json(draft / "certificate.json", certificate)
    if graph.training is not None:
        trained = store.folder(graph.training.stage)
        low_rank = sorted(path.name for path in trained.glob("low-rank-*.safetensors"))
        link_same_names(trained, draft, ("training.jsonl", *low_rank))
    if graph.received is not None:
        returned = store.folder(graph.received.stage)
        # Only an engine that left a log has a training curve.
        link_same_names(returned, draft, [path.name for path in returned.glob("training.jsonl")])
    (draft / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
    evaluated = store.folder(graph.evaluation.stage)
    # Without generation settings, or without added tokens, these files do not exist.
    for name in ("generated.json", ADDED_TOKENS):
        if (evaluated / name).is_file():
            link_same_names(evaluated, draft, (name,))
    _write_predictions(
        draft, store.folder(graph.prediction.stage) / PREDICTION, _changed_after_training(recipe)
    )
    for node in graph.tasks:
        link_task_results(store.folder(node.stage), draft, node.title.removeprefix(TASKS_OF))
    copy_measurements(evaluated, draft)


def _write_predictions(draft: Path, before_training: Path, changed_after: str) -> None:
    """Write prediction.json: what was predicted before training, and what its log predicted."""
    content = json.loads(before_training.read_text(encoding="utf-8"))
    log = current_log(read_log(draft / "training.jsonl"))
    write_json(draft / PREDICTION, with_training(content, log, changed_after))


def _changed_after_training(recipe: Recipe) -> str:
    """Return what makes the adapted model another one than the end of training; "" if nothing."""
    if recipe.chat_vector:
        return "the chat vector changes the model whose training is predicted"
    if any(recipe.training.merge_back):
        return "training.merge_back changes the model whose training is predicted"
    return ""


def _stage_records(done: Sequence[FinishedStage], runtime: Runtime) -> dict[str, Any]:
    """Return what run.json says of the stages, and of where they were built."""
    # The device `auto` is resolved only if a stage was built: that imports torch.
    all_cached = all(stage.cached for stage in done)
    return {
        "stages": [stage.record() for stage in done],
        "versions": package_versions(),
        "device": runtime.device if all_cached else runtime.resolved_device(),
    }


def _description(recipe: Recipe) -> dict[str, Any]:
    values = recipe_values(recipe)
    method = {role: values[role] for role in ("vocabulary", "embeddings", "training")}
    return {
        "name": recipe.run_name,
        "source": describe_model(values["model"]),
        "language": recipe.target.language,
        "replay_language": recipe.replay.language if recipe.replay else None,
        "method": method,
        "recipe": values,
    }


def log_source_statement(recipe: Recipe, folder: Path, log: LogLine) -> SourceStatement:
    """Log what the source model is and how the recipe treats it; return this statement."""
    statement = source_statement(recipe, folder)
    for line in statement.lines:
        log(line)
    for warning in statement.warnings:
        warn(warning, log)
    return statement


def _recipe_warnings(recipe: Recipe) -> list[str]:
    """Return the warnings that follow from the recipe alone."""
    return [*([NO_REPLAY] if recipe.replay is None else []), *unused_settings(recipe)]
