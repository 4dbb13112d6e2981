"""`lingraft extend`: adds tokens to a tokenizer and embedding rows to its model; trains nothing.

For a folder that has a tokenizer but no weights, only the tokenizer is extended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.bases.folder import FolderBase
from lingraft.bases.tokenizer_files import tokenizer_digests, write_source_tokenizer
from lingraft.bases.weight_formats import check_weight_format
from lingraft.pipeline.build_stage import (
    build_node,
    quiet_libraries,
    warnings_of,
    wrong_scripts_of,
)
from lingraft.pipeline.check_stages import result_check, run_certificate, source_check
from lingraft.pipeline.run_folder import (
    EVIDENCE,
    link_same_names,
    model_files,
    new_run_folder,
    results,
    write_record,
)
from lingraft.pipeline.runner import log_source_statement, look_at_hub_texts
from lingraft.pipeline.stage_node import (
    StageContext,
    StageNode,
    file_reading_node,
    must_build,
)
from lingraft.pipeline.stages import build_graph, corpus_nodes, vocabulary_node
from lingraft.pipeline.text_summary import recipe_text_lines
from lingraft.progress import LogLine, discard_line, each_warning_once
from lingraft.recipe import Recipe, Runtime, recipe_yaml
from lingraft.store import Store, write_json
from lingraft.tokenizer.load_tokenizer import tokenizer_file
from lingraft.training import TrainingPlan
from lingraft.vocabulary.premium_balance import PREMIUMS

EXTEND = "lingraft extend"


@dataclass(frozen=True)
class _Extension:
    """The stages of an extension: all of them in order, the final one, and those that certify."""

    nodes: tuple[StageNode, ...]
    final: StageNode
    vocabulary: StageNode
    source_check: StageNode
    result_checks: tuple[StageNode, ...]


def extend(recipe: Recipe, runtime: Runtime, output: Path, *, log: LogLine = discard_line) -> Path:
    """Write the extended model to `output`, or the extended tokenizer if the source has no weights.

    `output` appears complete or not at all. Stages are the same as in a full run and stay in the
    store: a later `lingraft adapt` starts from them. Raises `RecipeError` if no tokens are added.
    """
    recipe.vocabulary.check_adds_tokens()
    store = Store(runtime.store)
    for line in recipe_text_lines(recipe):
        log(line)
    recipe_without_training = _without_training(recipe)
    graph = _extension(recipe, recipe_without_training)
    if must_build(graph.nodes, runtime, store):
        quiet_libraries()
    look_at_hub_texts(recipe_without_training, graph.nodes, store)
    with each_warning_once(), new_run_folder(output, "--output", made_by=EXTEND) as draft:
        source, *others = graph.nodes
        done = [build_node(source, recipe, runtime, store, log)]
        folder = store.folder(source.stage) / "model"
        statement = log_source_statement(recipe_without_training, folder, log)
        done += [build_node(node, recipe, runtime, store, log) for node in others]
        _write_extension(draft, recipe, graph, store)
        record = {
            "format": 1,
            "made by": EXTEND,
            "source_kind": statement.kind,
            "warnings": [*statement.warnings, *warnings_of(done)],
            "wrong_scripts": wrong_scripts_of(done),
            "files": results(draft),
        }
        write_record(draft, record)
    return output


def _without_training(recipe: Recipe) -> Recipe:
    untrained = {"training": TrainingPlan(phases=()), "chat_vector": None}
    return recipe.model_copy(update=untrained)


def _write_extension(draft: Path, recipe: Recipe, graph: _Extension, store: Store) -> None:
    """Link the extended files into the output folder, with the evidence in `lingraft/`."""
    name = "tokenizer" if graph.final is graph.vocabulary else "model"
    extended = store.folder(graph.final.stage) / name
    link_same_names(extended, draft, model_files(extended))
    evidence = store.folder(graph.vocabulary.stage)
    wanted = (*EVIDENCE, "id_remap.json", PREMIUMS)
    names = [name for name in wanted if (evidence / name).is_file()]
    link_same_names(evidence, draft / "lingraft", names)
    certificate = run_certificate(store, graph.source_check, graph.vocabulary, *graph.result_checks)
    write_json(draft / "lingraft" / "certificate.json", certificate)
    (draft / "lingraft" / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")


def _extension(recipe: Recipe, untrained: Recipe) -> _Extension:
    """Return the stages of an extension; a folder without weights has no embeddings stage."""
    if isinstance(recipe.model, FolderBase) and not list(recipe.model.folder.glob("*.safetensors")):
        check_weight_format(recipe.model.folder)
        return _tokenizer_extension(recipe, recipe.model.folder)
    graph = build_graph(untrained, extends_only=True)
    return _Extension(
        graph.model_nodes,
        graph.embeddings,
        graph.vocabulary,
        graph.source_check,
        graph.result_checks,
    )


def _tokenizer_settings(path: Path) -> dict[str, Any]:
    return {"file": path.name, "files": tokenizer_digests(path)}


def _tokenizer_extension(recipe: Recipe, folder: Path) -> _Extension:
    path = tokenizer_file(folder)
    settings = partial(_tokenizer_settings, path)
    source = file_reading_node(
        "source tokenizer", "tokenizer", settings, partial(_make_tokenizer, path)
    )
    texts, replay = corpus_nodes(recipe)
    vocabulary = vocabulary_node(recipe, source, texts, replay)
    before = source_check(recipe, source, texts, replay)
    after = result_check("result check", recipe, source, vocabulary, None, rows=False)
    nodes = (source, *texts.values(), *([replay] if replay else []), before, vocabulary, after)
    return _Extension(nodes, vocabulary, vocabulary, before, (after,))


def _make_tokenizer(path: Path, context: StageContext) -> None:
    """Write the source tokenizer, converted if necessary, where later stages expect a model."""
    tokenizer = write_source_tokenizer(path, context.draft.folder, warn=context.draft.warn)
    context.draft.notes["tokens"] = tokenizer.size
