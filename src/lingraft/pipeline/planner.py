"""What a run would do: every stage, whether its output is stored, its size, cost and estimated time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.table import Table

from lingraft.bases.tokenizer_files import rows_of
from lingraft.corpus import Corpus
from lingraft.formatting import duration, flops, number
from lingraft.pipeline.run_estimates import (
    BYTES_PER_TOKEN,
    EFFICIENCY,
    LEARNING_SECONDS_PER_BYTE,
    READING_SECONDS_PER_BYTE,
    flops_per_second,
    parameters_of,
    text_bytes,
    training_tokens,
)
from lingraft.pipeline.source_summary import source_statement
from lingraft.pipeline.stage_node import StageNode
from lingraft.pipeline.stages import Graph, build_graph
from lingraft.pipeline.tables import pretokenizer_line
from lingraft.recipe import Recipe, Runtime, Text
from lingraft.store import Manifest, Store

CHECK_SECONDS = 2.0
PREDICTION_SECONDS = 10.0


@dataclass(frozen=True)
class PlanRow:
    """One stage.

    `amounts` holds documents, bytes, tokens, rows and parameters, as far as they are known; `seconds` are those still
    to be spent: 0 if the output is stored, `None` where nothing is known. `notes` say what the source model is.
    """

    title: str
    key: str
    cached: bool
    amounts: dict[str, int] = field(default_factory=dict)
    flops: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def plan(recipe: Recipe, runtime: Runtime) -> list[PlanRow]:
    """Return the stages of a recipe in order. Numbers of cached stages are exact, the others are estimates."""
    return _Planner(recipe, runtime).rows()


class _Planner:
    """Walks the stages and hands sizes on from one to the next."""

    def __init__(self, recipe: Recipe, runtime: Runtime) -> None:
        self.recipe, self.runtime, self.store = recipe, runtime, Store(runtime.store)
        self.graph = build_graph(recipe)
        self.replay_bytes_per_token: float | None = None
        size = recipe.vocabulary.size
        self.size = size if isinstance(size, int) else size.max_size

    def rows(self) -> list[PlanRow]:
        """Return a row for each stage."""
        graph = self.graph
        texts = [
            self._corpus(node, text)
            for node, text in zip(graph.targets, self.recipe.targets, strict=True)
        ]
        rows = [self._source(graph.source), *texts]
        sizes = [row.amounts.get("bytes") for row in texts]
        self.target_bytes = sum(size or 0 for size in sizes) if all(sizes) else None
        if len(texts) > 1:
            rows.append(
                self._row(
                    graph.target,
                    {"bytes": self.target_bytes},
                    seconds=1 + (self.target_bytes or 0) * READING_SECONDS_PER_BYTE,
                )
            )
        if graph.replay is not None and self.recipe.replay is not None:
            rows.append(self._corpus(graph.replay, self.recipe.replay))
        rows.append(self._row(graph.source_check, {}, seconds=CHECK_SECONDS))
        rows += [self._vocabulary(graph.vocabulary), self._embeddings(graph.embeddings)]
        rows += [self._row(one, {}, seconds=CHECK_SECONDS) for one in graph.result_checks[:1]]
        rows += [self._packing(role, node) for role, node in graph.packing.items()]
        if graph.training is not None:
            rows.append(self._training(graph.training))
        rows += [
            self._row(one, {}, seconds=3.0)
            for one in (graph.instruct, graph.chat_vector)
            if one is not None
        ]
        rows += [self._row(one, {}, seconds=CHECK_SECONDS) for one in graph.result_checks[1:]]
        tasks = (self._row(one, {}) for one in graph.tasks)
        predicted = self._row(graph.prediction, {}, seconds=PREDICTION_SECONDS)
        return [*rows, *self._scoring(graph), *tasks, self._timing(graph.evaluation), predicted]

    def _notes(self, node: StageNode) -> dict[str, Any] | None:
        return (
            dict(Manifest.read(self.store.folder(node.stage)).notes)
            if node.is_cached(self.store)
            else None
        )

    def _row(
        self,
        node: StageNode,
        amounts: dict[str, int | None],
        *,
        flops: float | None = None,
        seconds: float | None = None,
    ) -> PlanRow:
        known = {name: amount for name, amount in amounts.items() if amount is not None}
        cached = node.is_cached(self.store)
        if flops is not None and not cached:
            seconds = flops / (flops_per_second(self.runtime.resolved_device()) * EFFICIENCY)
        return PlanRow(node.title, node.stage.key, cached, known, flops, 0.0 if cached else seconds)

    def _source(self, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        config = dict(self.recipe.model.config() or {})
        total, self.input_parameters = parameters_of(config) if config else (None, 0)
        self.parameters = notes["parameters"] if notes else total
        self.source_tokens = notes["tokens"] if notes else rows_of(config)
        self.tied = bool(config.get("tie_word_embeddings"))
        self.width = self.input_parameters // max(rows_of(config) or 1, 1)
        tokens = self.recipe.model.training_tokens()
        flops = 6.0 * tokens * (self.parameters or 0) if tokens else None
        row = self._row(
            node,
            {"tokens": self.source_tokens, "parameters": self.parameters},
            flops=flops,
            seconds=2.0,
        )
        return replace(row, notes=self._statement(node))

    def _statement(self, node: StageNode) -> tuple[str, ...]:
        """Say what the source is, as far as its files can be seen before the run."""
        folder = (
            self.store.folder(node.stage) / "model"
            if node.is_cached(self.store)
            else self.recipe.model.tokenizer_folder()
        )
        if folder is None:
            return ()
        statement = source_statement(self.recipe, folder)
        return (*statement.lines, *(f"warning: {warning}" for warning in statement.warnings))

    def _corpus(self, node: StageNode, text: Text) -> PlanRow:
        if node.is_cached(self.store):
            counts = Corpus.open(self.store.folder(node.stage)).counts("train")
            return self._row(node, {"documents": counts.documents, "bytes": counts.bytes})
        size = text_bytes(text.corpus)
        return self._row(node, {"bytes": size}, seconds=1 + (size or 0) * READING_SECONDS_PER_BYTE)

    def _vocabulary(self, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        self.added = int(notes["added"]) if notes else self.size
        return self._row(
            node,
            {"tokens": self.added},
            seconds=2 + (self.target_bytes or 0) * LEARNING_SECONDS_PER_BYTE,
        )

    def _embeddings(self, node: StageNode) -> PlanRow:
        rows = self.source_tokens and self.source_tokens + self.added
        grown = self.added * self.width * (1 if self.tied else 2)
        self.adapted_parameters = self.parameters and self.parameters + grown
        return self._row(node, {"rows": rows, "parameters": self.adapted_parameters}, seconds=3.0)

    def _packing(self, role: str, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        size = self.target_bytes
        if role == "replay" and self.recipe.replay is not None:
            size = text_bytes(self.recipe.replay.corpus)
            self.replay_bytes_per_token = notes["bytes_per_token"] if notes else None
        tokens = notes["tokens"] if notes else size and round(size / BYTES_PER_TOKEN["after"])
        if role == "target":
            self.target_tokens = tokens
            if notes:  # where documents are cut, less text is packed than there is
                self.target_bytes = notes["bytes"]
        return self._row(
            node,
            {"tokens": tokens, "rows": notes["rows"] if notes else None},
            seconds=1 + (size or 0) * READING_SECONDS_PER_BYTE,
        )

    def _training(self, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        tokens = (
            notes["tokens"]
            if notes
            else training_tokens(
                self.recipe,
                self.target_bytes,
                self.target_tokens,
                512,
                replay_bytes_per_token=self.replay_bytes_per_token,
            )
        )
        return self._row(node, {"tokens": tokens}, flops=self._flops(6, tokens))

    def _scoring(self, graph: Graph) -> Iterator[PlanRow]:
        """Yield a row for each model: the source reads target text in more tokens than the others."""
        size, others = int(self.recipe.evaluation.heldout_bytes), 1 if self.recipe.replay else 0
        targets = len(graph.targets)
        for node in graph.scoring:
            kind = "before" if node.inputs["model"] is graph.source else "after"
            tokens = round(targets * size / BYTES_PER_TOKEN[kind] + others * size / 4)
            yield self._row(
                node, {"bytes": size * (targets + others)}, flops=self._flops(2, tokens)
            )

    def _timing(self, node: StageNode) -> PlanRow:
        writing = self.recipe.evaluation.generation
        tokens = (
            3 * writing.timed_prompts * writing.timed_bytes * (writing.timed_repeats + 1)
            if writing
            else None
        )
        return self._row(node, {}, flops=self._flops(2, tokens))

    def _flops(self, each: int, tokens: int | None) -> float | None:
        if tokens is None or not self.adapted_parameters:
            return None
        lookup = 0 if self.tied else self.input_parameters + self.added * self.width
        return float(each) * tokens * (self.adapted_parameters - lookup)


def describe_pretokenizer_plan(recipe: Recipe, runtime: Runtime) -> str:
    """Return in one line what becomes of the pre-tokenizer, as far as that is known before the vocabulary is made."""
    store, node = Store(runtime.store), build_graph(recipe).vocabulary
    if node.is_cached(store):
        return pretokenizer_line(store.folder(node.stage))
    mode = recipe.vocabulary.pretokenizer
    if mode == "auto":
        return (
            "pre-tokenizer: auto decides in the stage vocabulary, on the target's text; a changed one loads in "
            "transformers, tokenizers, vLLM and SGLang, in llama.cpp only where that knows it by name"
        )
    what = {
        "keep": "stays the base's",
        "repair": "is made mark-aware where it cuts words at combining marks",
    }[mode]
    return f"pre-tokenizer: {what} ({mode}: the recipe says so)"


def plan_table(rows: list[PlanRow]) -> Table:
    """Return the plan for people."""
    table = Table(pad_edge=False, box=None, show_footer=True)
    left = sum(row.seconds or 0 for row in rows)
    table.add_column("stage", footer="still to do")
    table.add_column("state")
    for name in ("documents", "bytes", "tokens", "rows", "parameters"):
        table.add_column(name, justify="right")
    table.add_column("FLOPs", justify="right")
    table.add_column("estimated time", justify="right", footer=_time(left))
    for row in rows:
        amounts = [
            number(row.amounts[name]) if name in row.amounts else ""
            for name in ("documents", "bytes", "tokens", "rows", "parameters")
        ]
        table.add_row(
            row.title,
            "cached" if row.cached else "to do",
            *amounts,
            flops(row.flops) if row.flops else "",
            _time(row.seconds),
        )
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return duration(seconds) if seconds else ""
