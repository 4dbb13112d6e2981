"""`lingraft extend`: a tokenizer with new tokens, and rows for them where there are weights; nothing is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.awkward import awkward_texts, code_texts
from lingraft.bases.folder import FolderBase
from lingraft.bases.weight_formats import check_weight_format
from lingraft.families import open_tokenizer
from lingraft.families.conversion_check import checked_conversion
from lingraft.families.loaded_settings import with_loaded_settings
from lingraft.families.opening import tokenizer_file
from lingraft.families.saving import save_tokenizer
from lingraft.pipeline.graph import VERSIONS, corpus_steps, graph_of, vocabulary_step
from lingraft.pipeline.run_folder import RUN, link_files, model_files, whole_folder
from lingraft.pipeline.running import answer_step, quiet_libraries, warnings_of
from lingraft.pipeline.steps import Step, Work, step
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.recipe import Recipe, Runtime, recipe_yaml
from lingraft.store import Store, file_digest
from lingraft.training import TrainingPlan
from lingraft.vocabulary import identity

BESIDE = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
EVIDENCE = ("splice.json", "certificate.json", "samples.json", "curve.json", PRETOKENIZER)


def extend(recipe: Recipe, runtime: Runtime, output: Path, *, tell: Callable[[str], None]) -> Path:
    """Write the extended model (or tokenizer, where the folder has no weights) to `output`, whole or not at all.

    Stages are taken from the store and left there, as in a full run: adapting later begins from what was extended.
    """
    store = Store(runtime.store)
    steps, final, vocabulary = _steps(recipe)
    if not all(one.done(store) for one in steps):
        quiet_libraries()
    with whole_folder(output, "--output") as draft:
        done = [answer_step(one, recipe, runtime, store, tell) for one in steps]
        answer = store.folder(final.stage)
        source = answer / ("model" if final is not vocabulary else "tokenizer")
        link_files(source, draft, {stored: stored for stored in model_files(source)})
        evidence = store.folder(vocabulary.stage)
        names = [name for name in (*EVIDENCE, "id_remap.json") if (evidence / name).is_file()]
        link_files(evidence, draft, {name: f"lingraft/{name}" for name in names})
        (draft / "lingraft" / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
        record = {"format": 1, "made by": "lingraft extend", "warnings": warnings_of(done)}
        (draft / RUN).write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    return output


def _steps(recipe: Recipe) -> tuple[list[Step], Step, Step]:
    """Return the steps in order, the one whose answer is wanted, and the vocabulary."""
    if isinstance(recipe.model, FolderBase) and not list(recipe.model.folder.glob("*.safetensors")):
        check_weight_format(recipe.model.folder)
        path = tokenizer_file(recipe.model.folder)
        source = step("source tokenizer", "tokenizer", VERSIONS["source"], _identity_of(path),
                      partial(_make_tokenizer, path))
        texts, replay = corpus_steps(recipe)
        vocabulary = vocabulary_step(recipe, source, texts, replay)
        steps = [source, *texts.values(), *([replay] if replay else []), vocabulary]
        return steps, vocabulary, vocabulary
    graph = graph_of(recipe.model_copy(update={"training": TrainingPlan(phases=()), "chat_vector": None}))
    return list(graph.making), graph.embeddings, graph.vocabulary


def _identity_of(path: Path) -> dict[str, Any]:
    """Name a tokenizer by its file and by the files next to it that transformers reads too."""
    beside = {name: file_digest(path.parent / name) for name in BESIDE if (path.parent / name).is_file()}
    return {"sha256": file_digest(path), "settings": beside}


def _make_tokenizer(path: Path, work: Work) -> None:
    """Write a tokenizer without a model, converted where it has to be, where later stages look for a model's."""
    tokenizer = open_tokenizer(path)
    checked_conversion(tokenizer, [*awkward_texts(), *code_texts()], work.draft.warn)
    tokenizer = with_loaded_settings(tokenizer, work.draft.warn)
    folder = work.draft.folder / "model"
    save_tokenizer(tokenizer, tokenizer.family.data, identity(tokenizer.size), folder)
    for name in (path.name,) if ".model" in path.name else ():
        shutil.copyfile(path, folder / name)
    work.draft.notes["tokens"] = tokenizer.size
