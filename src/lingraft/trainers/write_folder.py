"""Writes a hand-over folder: the extended model, the training data, and files for an engine.

The stages up to training are taken from the store or built there, as in a run. The folder is
complete or absent.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from lingraft.bases.folder import read_config
from lingraft.checkpoint.config_files import context_of
from lingraft.corpus import Corpus
from lingraft.evaluation.score_model import heldout_documents
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_shards
from lingraft.packing.shards import tokenise_in_shards
from lingraft.pipeline import Graph, build_graph
from lingraft.pipeline.build_stage import build_node, quiet_libraries
from lingraft.pipeline.check_stages import run_certificate
from lingraft.pipeline.run_folder import (
    link_same_names,
    model_files,
    new_run_folder,
)
from lingraft.pipeline.runner import log_source_statement, look_at_hub_texts
from lingraft.pipeline.stage_builders import reported_part
from lingraft.pipeline.stage_node import must_build
from lingraft.pipeline.text_summary import recipe_text_lines
from lingraft.pipeline.training_builders import training_text
from lingraft.pipeline.training_stages import training_inputs
from lingraft.progress import LogLine, discard_line, each_warning_once, warn
from lingraft.recipe import Recipe, Runtime
from lingraft.splice import Splice
from lingraft.store import Store, checksums, link_or_copy, temporary_folder, write_json
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.tokenizer.separators import Separators, separators_of
from lingraft.trainers.data import HandoverText, HeldoutText, write_data
from lingraft.trainers.engine import Engine
from lingraft.trainers.handover_checks import (
    check_output,
    check_plan,
    check_row_length,
    mask_limits,
)
from lingraft.trainers.manifest import (
    RATES,
    DataKind,
    FileRecord,
    Handover,
    ModelRecord,
    TextRole,
    write_learning_rates,
)
from lingraft.trainers.plain_text import with_dated_template
from lingraft.trainers.readme import readme
from lingraft.trainers.records import (
    count_parameters,
    model_record,
    origin_record,
    plan_record,
)
from lingraft.trainers.sequences import SequenceColumns
from lingraft.training.document_mask import DocumentMask
from lingraft.training.execution import Execution
from lingraft.training.job import Job

OTHER_MODEL = (
    "the model or text of this run has changed, or another version of lingraft made it: the stages "
    "before training are built again, and their model can differ from that of the run"
)


def hand_over(
    recipe: Recipe,
    runtime: Runtime,
    engine: Engine,
    output: Path,
    *,
    data: Collection[DataKind] = (),
    recorded: Mapping[str, str] | None = None,
    log: LogLine = discard_line,
) -> Handover:
    """Write a hand-over folder of a recipe for an engine; return its manifest.

    `data` are forms of the training data to write in addition to those that the engine reads.
    `recorded` are the keys of the stages of the run that is handed over, by title.
    Raises `LingraftError`; then nothing is left at `output`, but finished stages stay in the store.
    """
    check_plan(recipe, engine)
    check_output(output)
    for line in recipe_text_lines(recipe):
        log(line)
    graph, store = build_graph(recipe), Store(runtime.store)
    if recorded and recorded.get(graph.embeddings.title) != graph.embeddings.stage.key:
        warn(OTHER_MODEL, log)
    _build_stages(recipe, runtime, graph, store, log)
    with (
        each_warning_once(),
        new_run_folder(output, "--output") as draft,
        TemporaryDirectory(prefix="lingraft-", dir=temporary_folder()) as scratch,
    ):
        model, text = _open(recipe, graph, store, Path(scratch), log)
        kinds = {*engine.data, *data}
        if "sequences" in kinds:
            check_row_length(model, text.plan, _model_folder(graph, store))
        _put_model(draft, graph, store)
        masked = text.plan.document_attention_mask and not engine.mixes_documents
        columns = SequenceColumns(masked, engine.attention_mask)
        records = write_data(text, kinds, draft, columns)
        handover = Handover(
            engine.name,
            version("lingraft"),
            origin_record(recipe, graph),
            model,
            text.plan,
            tuple(records),
        )
        written = engine.configure(handover, draft)
        written = replace(written, limits=(*mask_limits(text.plan, engine), *written.limits))
        if "text" in kinds:
            template = chat_template_of(open_tokenizer(draft / "model"))
            written = with_dated_template(written, text.corpora, template)
        handover = replace(handover, limits=written.limits)
        write_learning_rates(handover.plan, draft / RATES)
        for name, content in {**written.files, "README.md": readme(handover, written)}.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        files = {name: FileRecord(*state) for name, state in checksums(draft).items()}
        handover = replace(handover, files=files)
        handover.write(draft)
    return handover


def _build_stages(
    recipe: Recipe, runtime: Runtime, graph: Graph, store: Store, log: LogLine
) -> None:
    """Take the stages before training from the store, or build them."""
    nodes = graph.before(graph.training)
    if must_build(nodes, runtime, store):
        quiet_libraries()
    look_at_hub_texts(recipe, tuple(graph), store)
    with each_warning_once():
        for node in nodes:
            build_node(node, recipe, runtime, store, log)
            if node is graph.source:
                log_source_statement(recipe, store.folder(node.stage) / "model", log)


def _open(
    recipe: Recipe, graph: Graph, store: Store, scratch: Path, log: LogLine
) -> tuple[ModelRecord, HandoverText]:
    """Return the record of the extended model, and the text to write."""
    folder = _model_folder(graph, store)
    source = open_tokenizer(store.folder(graph.source.stage) / "model")
    separators = separators_of(source, recipe.training.packing.separator)
    inputs = training_inputs(recipe, graph.packing)
    packed = training_text(recipe, {role: store.folder(one.stage) for role, one in inputs.items()})
    splice = Splice.read(store.folder(graph.vocabulary.stage))
    parameters = count_parameters(folder)
    model = model_record(folder, parameters, splice, separators, packed.target)
    added = tuple(token.id for token in splice.added)
    job = Job(folder, packed, recipe.training, scratch, added, recipe.seed, Execution(), None)
    planned = job.steps(parameters)
    for warning in planned.warnings:
        warn(warning, log)
    mask = DocumentMask.of(recipe.training, packed, folder)
    if mask.why_not:
        log(mask.line)
    plan = plan_record(recipe, planned.phases, packed, model, folder, masked=mask.on)
    replay = Corpus.open(store.folder(graph.replay.stage)) if graph.replay else None
    text = HandoverText(
        packed,
        planned.phases,
        plan,
        [Corpus.open(store.folder(node.stage)) for node in graph.targets],
        replay if packed.replay else None,
        _heldout(recipe, graph, store, separators, scratch),
        model.tokens,
    )
    return model, text


def _heldout(
    recipe: Recipe, graph: Graph, store: Store, separators: Separators, scratch: Path
) -> list[HeldoutText]:
    """Pack the documents that evaluation scores, of each language."""
    tokenizer = open_tokenizer(store.folder(graph.vocabulary.stage) / "tokenizer")
    context = context_of(read_config(store.folder(graph.source.stage) / "model"))
    heldout: list[HeldoutText] = []
    for node in (*graph.targets, *([graph.replay] if graph.replay else [])):
        corpus = Corpus.open(store.folder(node.stage))
        part = reported_part(recipe)
        documents = heldout_documents(corpus, int(recipe.evaluation.heldout_bytes), part)
        folder = scratch / f"heldout-{len(heldout)}"
        folder.mkdir()
        pack_shards(
            tokenise_in_shards([documents], tokenizer),
            tokenizer,
            recipe.training.packing,
            folder,
            context=context,
            separators=separators,
        )
        role: TextRole = "replay" if node is graph.replay else "target"
        heldout.append(HeldoutText(corpus.language, role, documents, Blocks.open(folder)))
    return heldout


def _model_folder(graph: Graph, store: Store) -> Path:
    return store.folder(graph.embeddings.stage) / "model"


def _put_model(draft: Path, graph: Graph, store: Store) -> None:
    """Link the weights into the folder; copy the model's other files, splice and certificate."""
    model = _model_folder(graph, store)
    for stored, name in model_files(model).items():
        # Engines and scripts write tokenizer files and settings in place: a link would change the
        # store, and every other hand-over of the recipe.
        if stored.endswith(".safetensors"):
            link_or_copy(model / stored, draft / name)
        else:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / stored, draft / name)
    link_same_names(store.folder(graph.vocabulary.stage), draft, ("splice.json",))
    checks = (graph.source_check, graph.vocabulary, graph.result_checks[0])
    write_json(draft / "certificate.json", run_certificate(store, *checks))
