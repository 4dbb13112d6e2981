"""`lingraft.evaluate`: compares models in memory or in folders on text in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lingraft.checkpoint.load_model import dtype_name
from lingraft.corpus.script_check import find_wrong_script
from lingraft.errors import CorpusError, RecipeError, named_errors
from lingraft.evaluation import ModelScores, ScoredModel, compare, score_folder
from lingraft.evaluation.lost_ability import lost_abilities
from lingraft.evaluation.score_model import cut_documents, score_model
from lingraft.evaluation.tasks import check_tasks, run_tasks
from lingraft.library.arguments import argument_names, assignments, check_seed
from lingraft.library.given_texts import read_documents, texts_by_tag
from lingraft.library.open_models import ModelLike, OpenModel, evaluation_mode, open_model
from lingraft.measurement import Measurement, write_measurements
from lingraft.measurement_table import MeasurementTable
from lingraft.pipeline.added_token_table import added_measurements
from lingraft.pipeline.build_stage import quiet_libraries
from lingraft.pipeline.evaluation_builders import task_measurements
from lingraft.pipeline.stage_warnings import few_documents_warning
from lingraft.progress import LogLine, say, send_lines_to
from lingraft.recipe import Evaluation, Runtime
from lingraft.recipe.overrides import Assignment, override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.tree import Tree
from lingraft.store import temporary_folder


@dataclass(frozen=True)
class EvaluationReport(MeasurementTable):
    """The measurements of an evaluation; `print(report)` shows the table of `lingraft evaluate`.

    `samples` are the texts that models wrote (keys: subject, language, prompt, text), if generation
    was measured. `warnings` say what the numbers cannot show. `notes` has the number of documents
    and bytes by language, and how they were scored.
    """

    samples: tuple[dict[str, str], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([*self._warning_lines(), super().__str__()])

    def _repr_html_(self) -> str:
        """Return the table that notebooks show, after the warnings."""
        lines = [f"<p>{escape(line)}</p>" for line in self._warning_lines()]
        return "\n".join([*lines, super()._repr_html_()])

    def _warning_lines(self) -> list[str]:
        return [f"warning: {warning}" for warning in self.warnings]


def evaluate(
    models: Mapping[str, ModelLike],
    texts: Mapping[str, Iterable[str] | os.PathLike[str]],
    *,
    tasks: Sequence[str] = (),
    generation: bool = False,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    log: LogLine | None = None,
) -> EvaluationReport:
    """Measure models on the same text and compare them with the first one.

    The numbers are those of `lingraft evaluate`: fertility and bits per byte of every model, and
    their paired changes from the first model, with intervals over documents.

    Args:
        models: by name, `(model, tokenizer)` of transformers; or a model folder, a finished run, or
            owner/name on the Hub. A model in memory is measured on its device and in its data type;
            it is in evaluation mode only while it is measured.
        texts: documents, or the path of a file, by language. Blank documents are left out. Every
            model is scored on the same first 500 kB of each language
            (`settings={"heldout_bytes": "2 MB"}`).
        tasks: tasks to run in addition, such as `xcopa-ta`, or any task of lm-eval.
        generation: also measure the speed of generation and write samples. This takes longest, and
            loads all models at the same time.
        settings: other settings of `evaluation` in a recipe, by their dotted names.
        device: where folders and Hub models are loaded: auto, cpu, cuda, cuda:1 or mps.
        dtype: the data type in which these are loaded. auto: that of the files on a GPU, float32
            elsewhere.
        seed: the seed of the few-shot examples of tasks.
        log: receives the lines of progress and the warnings. By default, they go to standard error.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.

    >>> from lingraft.library.example_model import example_model
    >>> model, tokenizer = example_model()
    >>> report = evaluate({"tiny": (model, tokenizer)}, {"en": ["A bird sings.", "It rains."]})
    >>> [row.n for row in report.select(metric="bits per byte")]
    [2]
    """
    chosen = _settings(tasks, settings, generation=generation)
    documents = {}
    for tag, given in texts_by_tag(texts, "texts").items():
        documents[tag] = _documents(tag, given, chosen)
    _check(models, seed)
    dtype = dtype_name(dtype)
    with argument_names(evaluate):
        computed_on = Runtime(device=str(device)).available_device()
    check_tasks(chosen.tasks)
    with (
        send_lines_to(log),
        argument_names(evaluate),
        TemporaryDirectory(prefix="lingraft-", dir=temporary_folder()) as scratch,
        ExitStack() as stack,
    ):
        quiet_libraries()
        opened: dict[str, OpenModel] = {}
        folder = Path(scratch, "models")
        # Errors name the models of the caller instead of temporary folders.
        stack.enter_context(named_errors(folder, "models"))
        for name, model in models.items():
            folder_name = _folder_name(str(name), len(opened), folder)
            found = opened[str(name)] = open_model(model, folder / folder_name)
            if found.loaded is not None:
                stack.enter_context(evaluation_mode(found.loaded, str(name)))
        measuring = _Measuring(chosen, computed_on, dtype, seed)
        return measuring.report(opened, documents, Path(scratch, "tasks"))


@dataclass(frozen=True)
class _Measuring:
    """How opened models are measured."""

    settings: Evaluation
    device: str
    dtype: str
    seed: int

    def report(
        self, models: Mapping[str, OpenModel], texts: Mapping[str, Sequence[str]], tasks: Path
    ) -> EvaluationReport:
        """Measure the models; results of tasks are written to the folder `tasks`."""
        scored, task_folders = {}, {}
        for name, model in models.items():
            scores = self._scores(model, texts)
            weights = model.folder if model.loaded is None else model.loaded
            scored[name] = ScoredModel(weights, model.tokenizer, scores)
            if self.settings.tasks.names:
                task_folders[name] = tasks / model.folder.name
                self._run_tasks(model, task_folders[name])
        result = compare(scored, texts, self.settings, device=self.device, dtype=self.dtype)
        rows: tuple[Measurement, ...] = (
            *result.measurements,
            *added_measurements(scored, next(iter(texts))),
            *task_measurements(task_folders, self.settings.bootstrap),
        )
        warnings = _warnings(texts, rows, result.warnings)
        return EvaluationReport(rows, tuple(result.samples), result.notes, warnings)

    def _scores(self, model: OpenModel, texts: Mapping[str, Sequence[str]]) -> ModelScores:
        if model.loaded is not None:
            return score_model(model.loaded, model.tokenizer, texts, self.settings)
        return score_folder(
            model.folder, texts, self.settings, device=self.device, dtype=self.dtype
        )

    def _run_tasks(self, model: OpenModel, folder: Path) -> None:
        measurements = run_tasks(
            model.folder,
            self.settings.tasks,
            folder,
            subject="model",
            bootstrap=self.settings.bootstrap,
            device=self.device,
            dtype=self.dtype,
            seed=self.seed,
            model=model.loaded,
        )
        write_measurements(measurements, folder / "measurements.parquet")


def _warnings(
    texts: Mapping[str, Sequence[str]], rows: Sequence[Measurement], compared: Sequence[str]
) -> tuple[str, ...]:
    """Return and print the warnings of `lingraft evaluate` on these texts and measurements.

    `compared` are those of the comparison of the models.
    """
    found = []
    for language, documents in texts.items():
        size = sum(len(text.encode()) for text in documents)
        wrong = find_wrong_script(language, documents)
        found.append(str(wrong) if wrong else "")
        found.append(few_documents_warning(language, len(documents), size))
    found += [*compared, *lost_abilities(rows)]
    warnings = tuple(filter(None, found))
    for warning in warnings:
        say(f"warning: {warning}")
    return warnings


def _settings(
    tasks: Sequence[str], settings: Mapping[str, Any] | None, *, generation: bool
) -> Evaluation:
    """Return the settings `evaluation` of a recipe; raises `RecipeError` for unknown ones."""
    if isinstance(tasks, str):
        msg = f"tasks: one string; give a list, such as [{tasks!r}]"
        raise RecipeError(msg)
    others = assignments(settings, "settings")
    if tasks and any(other.path == "tasks" for other in others):
        msg = "evaluate: tasks are given twice; leave them out of `settings`"
        raise RecipeError(msg)
    given = [Assignment("tasks", list(tasks), "tasks")]
    if not generation:
        given.append(Assignment("generation", None, "generation"))
    return parse_settings(override(Tree({}), [*given, *others], Evaluation), Evaluation)


def _check(models: Any, seed: int) -> None:
    """Raise `RecipeError` for arguments that only some models would use."""
    if not isinstance(models, Mapping) or not models:
        msg = "models: give at least one by name, such as {'base': (model, tokenizer)}"
        raise RecipeError(msg)
    check_seed(seed)


def _folder_name(name: str, number: int, folder: Path) -> str:
    """Return a name for the folder of a model; errors show it, and no two are the same."""
    plain = re.sub(r"[^\w.@-]", "-", name)[:100].strip(".") or "model"
    return plain if not (folder / plain).exists() else f"{plain}-{number}"


def _documents(
    language: str, texts: Iterable[str] | os.PathLike[str], settings: Evaluation
) -> list[str]:
    """Return the documents that are scored; raises `CorpusError` without text."""
    given = filter(str.strip, read_documents(texts, f"texts: {language}"))
    documents = list(cut_documents(given, int(settings.heldout_bytes)))
    if not documents:
        msg = f"texts: {language}: no text to evaluate on; give documents that are not blank"
        raise CorpusError(msg)
    return documents
