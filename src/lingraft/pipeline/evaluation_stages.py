"""The stages that measure: scores of each model, its tasks, and the evaluation that compares them.

What a model scores on a text depends on the model, the text and how it is read, never on its part in a run. So every
model has a scoring stage and a tasks stage of its own, addressed by these alone: two runs that share a model score it
once. Timings compare models in turns and are made in the evaluation, which reads the scores of all.

Inputs are named by kind and name (`model:source`, `scores:source`, `text:target`), so that a model may have any name.

What became of the added tokens of the models of an evaluation: exposures in training, rows that barely turned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus
from lingraft.corpus.text_files import find_files
from lingraft.evaluation.tasks import task_identity
from lingraft.measurement import Measurement, read_measurements, write_measurements
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.recipe import Evaluation
from lingraft.store import file_digest
from lingraft.tokenizer.load_tokenizer import tokenizer_file

SCORED = ("heldout_bytes", "context", "stride")


@dataclass(frozen=True)
class Measured:
    """The nodes that measure the models of a run."""

    scoring: tuple[StageNode, ...]
    tasks: tuple[StageNode, ...]
    evaluation: StageNode


def evaluation_nodes(
    models: Mapping[str, StageNode],
    texts: Mapping[str, StageNode],
    chosen: Evaluation,
    *,
    seed: int = 0,
    learned: Mapping[str, StageNode] | None = None,
    packed: StageNode | None = None,
    separator: str = "auto",
) -> Measured:
    """Return the nodes that score each model on each text, run its tasks, and compare it with the first model.

    In the texts `learned` (by default all of them) documents of tasks are looked for; `packed` is training text, where
    exposures of added tokens are counted; `separator` is the recipe's `training.packing.separator`. Raises
    `LingraftError` where a file that the settings name is not there.
    """
    where = {f"text:{role}": text for role, text in texts.items()}
    scoring = {
        name: _scoring(name, model, where, chosen, separator) for name, model in models.items()
    }
    seen = {f"text:{role}": text for role, text in (texts if learned is None else learned).items()}
    tasks = {
        name: _tasks(name, model, seen, chosen, seed)
        for name, model in models.items()
        if chosen.tasks.names
    }
    evaluation = stage_node(
        "evaluation",
        "evaluation",
        _identity(chosen),
        partial(make_evaluation, chosen, tuple(models)),
        **{f"model:{name}": model for name, model in models.items()},
        **{f"scores:{name}": one for name, one in scoring.items()},
        **{f"tasks:{name}": one for name, one in tasks.items()},
        **where,
        packed=packed,
    )
    return Measured(tuple(scoring.values()), tuple(tasks.values()), evaluation)


def _scoring(
    name: str, model: StageNode, where: Mapping[str, StageNode], chosen: Evaluation, separator: str
) -> StageNode:
    settings: dict[str, Any] = chosen.model_dump(mode="json", include=set(SCORED))
    if chosen.generation is not None:
        settings["samples"] = chosen.generation.model_dump(
            mode="json", include={"prompt_bytes", "samples", "sample_bytes"}
        )
    settings["separator"] = separator
    return stage_node(
        f"scoring {name}",
        "scoring",
        settings,
        partial(make_scoring, chosen, separator),
        model=model,
        **where,
    )


def _tasks(
    name: str, model: StageNode, where: Mapping[str, StageNode], chosen: Evaluation, seed: int
) -> StageNode:
    settings = {
        **chosen.tasks.model_dump(mode="json", exclude={"data", "tasks_folder"}),
        "seed": seed,
        "identity": task_identity(chosen.tasks),
    }
    seen = where if chosen.tasks.contaminated != "ignore" else {}
    return stage_node(
        f"tasks of {name}",
        "tasks",
        settings,
        partial(make_tasks, chosen, seed),
        model=model,
        **seen,
    )


def _identity(chosen: Evaluation) -> dict[str, Any]:
    """Return the settings with files named by their content."""
    settings = chosen.model_dump(
        mode="json", exclude={"parallel_file", "reference_tokenizer", "tasks"}
    )
    if chosen.parallel_file is not None:
        settings["parallel"] = [file_digest(path) for path in find_files(chosen.parallel_file)]
    if chosen.reference_tokenizer is not None:
        settings["reference_tokenizer"] = file_digest(
            tokenizer_file(Path(chosen.reference_tokenizer).expanduser())
        )
    return settings


def make_scoring(chosen: Evaluation, separator: str, context: StageContext) -> None:
    """Score one model on every text."""
    from lingraft.evaluation import score_folder
    from lingraft.evaluation.score_model import heldout_documents

    texts = {
        corpus.language: heldout_documents(corpus, chosen.heldout_bytes)
        for corpus in texts_of(context)
    }
    scored = score_folder(
        context.folders["model"] / "model",
        texts,
        chosen,
        device=context.execution.device,
        separator=separator,
    )
    for number, (language, scores) in enumerate(scored.scores.items()):
        scores.write(context.draft.path(f"scores-{number}.npz"))
        context.draft.notes[language] = {
            "documents": len(scores.tokens),
            "tokens": len(scores.ids),
            **({"scoring": list(scores.notes)} if scores.notes else {}),
        }
    written = {
        language: [asdict(sample) for sample in samples]
        for language, samples in scored.samples.items()
    }
    text = json.dumps(
        {"languages": list(scored.scores), "samples": written}, ensure_ascii=False, indent=1
    )
    context.draft.path("scored.json").write_text(text, encoding="utf-8")


def read_scored(folder: Path) -> Any:
    """Read what `make_scoring` wrote: a `FolderScores`."""
    from lingraft.evaluation import FolderScores, TextScores
    from lingraft.evaluation.samples import GeneratedSample

    found = json.loads((folder / "scored.json").read_text(encoding="utf-8"))
    scores = {
        language: TextScores.read(folder / f"scores-{number}.npz")
        for number, language in enumerate(found["languages"])
    }
    samples = {
        language: [
            GeneratedSample(one["prompt"], one["text"], tuple(one["ids"])) for one in written
        ]
        for language, written in found["samples"].items()
    }
    return FolderScores(scores, samples)


def make_tasks(chosen: Evaluation, seed: int, context: StageContext) -> None:
    """Run the tasks on one model."""
    from lingraft.evaluation.tasks import run_tasks

    corpora = texts_of(context)
    seen = (
        None
        if not corpora
        else lambda: chain.from_iterable(corpus.documents("train") for corpus in corpora)
    )
    rows = run_tasks(
        context.folders["model"] / "model",
        chosen.tasks,
        context.draft.folder,
        subject="model",
        device=context.execution.device,
        seed=seed,
        training_texts=seen,
    )
    write_measurements(rows, context.draft.path("measurements.parquet"))
    context.draft.notes["tasks"] = list(chosen.tasks.names)


def make_evaluation(chosen: Evaluation, names: tuple[str, ...], context: StageContext) -> None:
    """Compare the models on what they scored, and time them side by side."""
    from lingraft.evaluation import ScoredModel, compare
    from lingraft.evaluation.score_model import heldout_documents
    from lingraft.tokenizer import open_tokenizer

    corpora = texts_of(context)
    texts = {corpus.language: heldout_documents(corpus, chosen.heldout_bytes) for corpus in corpora}
    folders = {name: context.folders[f"model:{name}"] / "model" for name in names}
    entrants = {
        name: ScoredModel(
            folder, open_tokenizer(folder), read_scored(context.folders[f"scores:{name}"])
        )
        for name, folder in folders.items()
    }
    result = compare(entrants, texts, chosen, device=context.execution.device)
    rows = [
        *result.measurements,
        *added_measurements(entrants, corpora[0].language, context),
        *_task_rows(names, context),
    ]
    write_measurements(rows, context.draft.path("measurements.parquet"))
    written = json.dumps(result.samples, ensure_ascii=False, indent=1)
    context.draft.path("generated.json").write_text(written, encoding="utf-8")
    context.draft.notes.update(result.notes)


def _task_rows(names: tuple[str, ...], context: StageContext) -> list[Measurement]:
    folders = {
        name: context.folders[f"tasks:{name}"]
        for name in names
        if f"tasks:{name}" in context.folders
    }
    if not folders:
        return []
    from lingraft.evaluation.tasks.task_measurements import (
        task_changes,
    )  # which needs the extra `eval`

    rows = {
        name: [
            replace(row, subject=name) for row in read_measurements(folder / "measurements.parquet")
        ]
        for name, folder in folders.items()
    }
    changes = [
        change
        for name in names[1:]
        if name in folders
        for change in task_changes(
            rows[names[0]],
            rows[name],
            folders[names[0]] / "samples.jsonl",
            folders[name] / "samples.jsonl",
        )
    ]
    return [*chain.from_iterable(rows.values()), *changes]


def texts_of(context: StageContext) -> list[Corpus]:
    """Return the corpora of a measuring node, in the order in which they were named."""
    return [
        Corpus.open(folder) for role, folder in context.folders.items() if role.startswith("text:")
    ]


def added_measurements(
    entrants: Mapping[str, Any], language: str, context: StageContext
) -> list[Measurement]:
    """Measure each model's added tokens, and write them one by one into added_tokens.parquet, where there are any.

    Exposures are counted in the packed training text. A row is compared with that of the model before it in order,
    where both have the same tokens: the one that training began from.
    """
    import numpy as np

    from lingraft.evaluation.added_token_use import AddedTokenUse, exposure_rows, turns_of
    from lingraft.evaluation.compare_models import added_ids

    added = added_ids(entrants)
    rows: list[Measurement] = []
    table: list[dict[str, Any]] = []
    before = None
    for name, entrant in entrants.items():
        ids_A = np.array(sorted(added[name]), dtype=np.int64)
        surfaces = entrant.tokenizer.vocabulary.surfaces
        trained = before is not None and before.tokenizer.vocabulary.surfaces == surfaces
        if len(ids_A) and trained and before is not None:
            use = AddedTokenUse(
                ids_A, _exposures(ids_A, context), turns_of(before.folder, entrant.folder, ids_A)
            )
            rows += exposure_rows(use, language, name)
            table += _details(use, surfaces, entrant.scored.scores, name)
        before = entrant
    if table:
        _write(table, context)
    return rows


def _exposures(ids_A: Any, context: StageContext) -> Any:
    if "packed" not in context.folders:
        return None
    import numpy as np

    from lingraft.packing.blocks import Blocks

    tokens, size, chunk = Blocks.open(context.folders["packed"]).tokens, int(ids_A.max()) + 1, 2**22
    counts = np.zeros(size, dtype=np.int64)
    for begin in range(0, len(tokens), chunk):
        found = tokens[begin : begin + chunk]
        counts += np.bincount(found[found < size].astype(np.int64), minlength=size)
    return counts[ids_A]


def _details(use: Any, surfaces: Any, scores: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    import numpy as np

    from lingraft.evaluation.added_token_use import undertrained

    heldout = np.bincount(
        np.concatenate([score.ids for score in scores.values()]), minlength=len(surfaces)
    )
    few = undertrained(use.turns)
    return [
        {
            "subject": name,
            "id": int(i),
            "text": surfaces[i].decode("utf-8", errors="backslashreplace"),
            "heldout": int(heldout[i]),
            "exposures": None if use.exposures is None else int(use.exposures[n]),
            "turn": float(use.turns[n]),
            "under_trained": bool(few[n]),
        }
        for n, i in enumerate(use.ids)
    ]


def _write(table: list[dict[str, Any]], context: StageContext) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(table), context.draft.path("added_tokens.parquet"))
