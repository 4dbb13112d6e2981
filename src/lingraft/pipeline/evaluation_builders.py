"""The functions that build the stages that measure: scores, tasks, and their comparison.

Scoring writes scored.json and scores-N.npz for each text, tasks write measurements.parquet and
samples.jsonl, and the evaluation measurements.parquet, generated.json and the added tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus, CorpusSettings
from lingraft.evaluation import (
    BootstrapSettings,
    ModelScores,
    ScoredModel,
    TextScores,
    compare,
    score_folder,
)
from lingraft.evaluation.config import HeldoutPart
from lingraft.evaluation.samples import GeneratedSample
from lingraft.evaluation.score_model import heldout_documents
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pipeline.added_token_table import ADDED_TOKENS, added_measurements
from lingraft.pipeline.stage_node import StageContext
from lingraft.recipe import Evaluation
from lingraft.tokenizer import open_tokenizer


def make_scoring(
    settings: Evaluation, separator: str, part: HeldoutPart, context: StageContext
) -> None:
    """Score a model on every text."""
    scored = score_folder(
        context.folders["model"] / "model",
        _heldout_texts(context, settings, part),
        settings,
        device=context.execution.device,
        separator=separator,
    )
    for number, (language, scores) in enumerate(scored.scores.items()):
        scores.write(context.draft.path(f"scores-{number}.npz"))
        notes: dict[str, Any] = {"documents": len(scores.tokens), "tokens": len(scores.ids)}
        if scores.notes:
            notes["scoring"] = list(scores.notes)
        context.draft.notes[language] = notes
    samples = {}
    for language, generated in scored.samples.items():
        samples[language] = list(map(asdict, generated))
    content = {"languages": list(scored.scores), "samples": samples}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    context.draft.path("scored.json").write_text(text, encoding="utf-8")


def read_scores(folder: Path) -> ModelScores:
    """Read the output of `make_scoring`."""
    content = json.loads((folder / "scored.json").read_text(encoding="utf-8"))
    scores, samples = {}, {}
    for number, language in enumerate(content["languages"]):
        scores[language] = TextScores.read(folder / f"scores-{number}.npz")
    for language, generated in content["samples"].items():
        samples[language] = [
            GeneratedSample(sample["prompt"], sample["text"], tuple(sample["ids"]))
            for sample in generated
        ]
    return ModelScores(scores, samples)


def make_tasks(settings: Evaluation, seed: int, context: StageContext) -> None:
    """Run the tasks on a model."""
    from lingraft.evaluation.tasks import run_tasks

    corpora = text_corpora(context)

    def training_texts() -> Iterator[str]:
        for corpus in corpora:
            yield from corpus.documents("train")

    measurements = run_tasks(
        context.folders["model"] / "model",
        settings.tasks,
        context.draft.folder,
        subject="model",
        bootstrap=settings.bootstrap,
        device=context.execution.device,
        seed=seed,
        training_texts=training_texts if corpora else None,
    )
    write_measurements(measurements, context.draft.path("measurements.parquet"))
    context.draft.notes["tasks"] = list(settings.tasks.names)


def make_evaluation(
    settings: Evaluation,
    names: tuple[str, ...],
    context: StageContext,
    *,
    repaired: Mapping[str, CorpusSettings],
    separator: str,
    part: HeldoutPart,
) -> None:
    """Compare the scores of the models, and measure the speed of each."""
    models = {}
    for name in names:
        folder = context.folders[f"model:{name}"] / "model"
        scores = read_scores(context.folders[f"scores:{name}"])
        tokenizer = replace(open_tokenizer(folder), separator=separator)
        models[name] = ScoredModel(folder, tokenizer, scores)
    texts = _heldout_texts(context, settings, part)
    result = compare(models, texts, settings, device=context.execution.device, repaired=repaired)
    measurements = [
        *result.measurements,
        *added_measurements(
            models,
            next(iter(texts)),
            packed=[path for role, path in context.folders.items() if role.startswith("packed")],
            table=context.draft.path(ADDED_TOKENS),
        ),
        *task_measurements(_task_folders(names, context), settings.bootstrap),
    ]
    write_measurements(measurements, context.draft.path("measurements.parquet"))
    generated = json.dumps(result.samples, ensure_ascii=False, indent=1)
    context.draft.path("generated.json").write_text(generated, encoding="utf-8")
    context.draft.notes.update(result.notes)
    for warning in result.warnings:
        context.draft.warn(warning)


def _task_folders(names: Sequence[str], context: StageContext) -> dict[str, Path]:
    """Return the outputs of the tasks stages by model; none if the recipe names no tasks."""
    folders = {}
    for name in names:
        if f"tasks:{name}" in context.folders:
            folders[name] = context.folders[f"tasks:{name}"]
    return folders


def task_measurements(
    folders: Mapping[str, Path], bootstrap: BootstrapSettings
) -> list[Measurement]:
    """Return the task results of each model, then their changes from the first model.

    `folders` holds by model the folder with measurements.parquet and samples.jsonl of its tasks.
    """
    measured: dict[str, list[Measurement]] = {}
    for name, folder in folders.items():
        # A tasks stage does not know the name of its model: its key must not depend on it.
        rows = read_measurements(folder / "measurements.parquet")
        measured[name] = [replace(row, subject=name) for row in rows]
    if not measured:
        return []
    # Imported here because it needs the optional extra `eval`.
    from lingraft.evaluation.tasks.task_changes import task_changes

    first = next(iter(folders))
    first_samples = folders[first] / "samples.jsonl"
    results: list[Measurement] = []
    changes: list[Measurement] = []
    for name, rows in measured.items():
        results += rows
        if name != first:
            samples = folders[name] / "samples.jsonl"
            changes += task_changes(measured[first], rows, first_samples, samples, bootstrap)
    return [*results, *changes]


def text_corpora(context: StageContext) -> list[Corpus]:
    """Return the corpora of a stage that measures, in the order of its inputs."""
    corpora = []
    for role, folder in context.folders.items():
        if role.startswith("text:"):
            corpora.append(Corpus.open(folder))
    return corpora


def _heldout_texts(
    context: StageContext, settings: Evaluation, part: HeldoutPart
) -> dict[str, Any]:
    """Return the held-out documents of each language that are scored."""
    texts = {}
    for corpus in text_corpora(context):
        texts[corpus.language] = heldout_documents(corpus, settings.heldout_bytes, part)
    return texts
