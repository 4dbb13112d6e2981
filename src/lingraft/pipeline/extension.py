"""`lingraft extend`: a tokenizer with new tokens, and rows for them where there are weights; nothing is trained."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from lingraft.bases.folder import SMALL_FILES, FolderBase
from lingraft.bases.tokenizer_files import GIVEN, completed_tokenizer
from lingraft.bases.weight_formats import check_weight_format
from lingraft.pipeline.check_stages import (
    result_check,
    run_certificate,
    source_check,
    write_run_certificate,
)
from lingraft.pipeline.run_folder import RUN, link_files, model_files, new_run_folder
from lingraft.pipeline.runner import build_node, log_source_statement, quiet_libraries, warnings_of
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.pipeline.stages import build_graph, corpus_nodes, vocabulary_node
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.progress import LogLine
from lingraft.recipe import Recipe, Runtime, recipe_yaml
from lingraft.splice import identity_splice
from lingraft.store import Store, file_digest
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.training import TrainingPlan

EVIDENCE = ("splice.json", "samples.json", "curve.json", PRETOKENIZER)


def extend(recipe: Recipe, runtime: Runtime, output: Path, *, log: LogLine) -> Path:
    """Write the extended model (or tokenizer, where the folder has no weights) to `output`, whole or not at all.

    Stages are taken from the store and left there, as in a full run: adapting later begins from what was extended.
    """
    store = Store(runtime.store)
    nodes, final, vocabulary, checks = _nodes(recipe)
    if not all(one.is_cached(store) for one in nodes):
        quiet_libraries()
    with new_run_folder(output, "--output") as draft:
        first, *others = nodes
        done = [build_node(first, recipe, runtime, store, log)]
        untrained = recipe.model_copy(
            update={"training": TrainingPlan(phases=()), "chat_vector": None}
        )
        statement = log_source_statement(untrained, store.folder(first.stage) / "model", log)
        done += [build_node(one, recipe, runtime, store, log) for one in others]
        source = store.folder(final.stage) / ("model" if final is not vocabulary else "tokenizer")
        link_files(source, draft, {stored: stored for stored in model_files(source)})
        evidence = store.folder(vocabulary.stage)
        names = [name for name in (*EVIDENCE, "id_remap.json") if (evidence / name).is_file()]
        link_files(evidence, draft, {name: f"lingraft/{name}" for name in names})
        certificate = run_certificate(store, checks[0], vocabulary, *checks[1:])
        write_run_certificate(draft / "lingraft" / "certificate.json", certificate)
        (draft / "lingraft" / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
        record = {
            "format": 1,
            "made by": "lingraft extend",
            "source_kind": statement.kind,
            "warnings": [*statement.warnings, *warnings_of(done)],
        }
        (draft / RUN).write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    return output


def _nodes(recipe: Recipe) -> tuple[list[StageNode], StageNode, StageNode, list[StageNode]]:
    """Return the nodes in order, the one whose output is wanted, the vocabulary, and the checks."""
    if isinstance(recipe.model, FolderBase) and not list(recipe.model.folder.glob("*.safetensors")):
        check_weight_format(recipe.model.folder)
        path = tokenizer_file(recipe.model.folder)
        files = {one.name: file_digest(one) for one in _tokenizer_files(path)}
        source = stage_node(
            "source tokenizer",
            "tokenizer",
            {"file": path.name, "files": files},
            partial(_make_tokenizer, path),
        )
        texts, replay = corpus_nodes(recipe)
        vocabulary = vocabulary_node(recipe, source, texts, replay)
        checks = [
            source_check(recipe, source, texts, replay),
            result_check("result check", recipe, source, vocabulary, None, rows=False),
        ]
        nodes = [
            source,
            *texts.values(),
            *([replay] if replay else []),
            checks[0],
            vocabulary,
            checks[1],
        ]
        return nodes, vocabulary, vocabulary, checks
    untrained = recipe.model_copy(update={"training": TrainingPlan(phases=()), "chat_vector": None})
    graph = build_graph(untrained, extends_only=True)
    return (
        list(graph.model_nodes),
        graph.embeddings,
        graph.vocabulary,
        [graph.source_check, *graph.result_checks],
    )


def _tokenizer_files(path: Path) -> list[Path]:
    """Return a tokenizer file with the files next to it that say something of the tokenizer."""
    found = {one for pattern in SMALL_FILES for one in path.parent.glob(pattern) if one.is_file()}
    return sorted(found | {path})


def _make_tokenizer(path: Path, context: StageContext) -> None:
    """Write a tokenizer without a model, converted where it has to be, where later stages look for a model's."""
    folder, given = context.draft.folder / "model", context.draft.folder / GIVEN
    given.mkdir()
    for file in _tokenizer_files(path):
        shutil.copyfile(file, given / file.name)
    tokenizer = completed_tokenizer(open_tokenizer(given / path.name), context.draft.warn)
    save_tokenizer(tokenizer, tokenizer.family.data, identity_splice(tokenizer.size), folder)
    for name in (path.name,) if ".model" in path.name else ():
        shutil.copyfile(path, folder / name)
    context.draft.notes["tokens"] = tokenizer.size
