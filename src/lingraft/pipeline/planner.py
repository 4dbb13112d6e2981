"""Predicts what a run would do: its stages, which of them are cached, sizes, FLOPs and time.

Nothing is built for a plan: the size of text is estimated from the sizes of its files, and where a
limit counts documents, from the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lingraft.checkpoint.config_files import context_of
from lingraft.corpus import Corpus
from lingraft.errors import LingraftError, RecipeError
from lingraft.packing.reading_plan import TextAmount
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.model_shape import Shape
from lingraft.pipeline.plan_notes import normaliser_notes, source_notes, text_notes
from lingraft.pipeline.plan_table import PlanRow
from lingraft.pipeline.planned_evaluation import PlannedEvaluation
from lingraft.pipeline.planned_memory import PlannedMemory
from lingraft.pipeline.planned_training import PlannedTraining, count_steps
from lingraft.pipeline.run_estimates import (
    BYTES_PER_TOKEN,
    EFFICIENCY,
    LEARNING_SECONDS_PER_BYTE,
    READING_SECONDS_PER_BYTE,
    flops_per_second,
    text_bytes,
    writing_seconds,
)
from lingraft.pipeline.source_summary import download_lines
from lingraft.pipeline.stage_builders import target_roles
from lingraft.pipeline.stage_node import StageNode
from lingraft.pipeline.stages import build_graph, choose_recipe_tasks
from lingraft.recipe import Recipe, Runtime, Text
from lingraft.recipe.text_needs import BYTES_PER_DOCUMENT
from lingraft.store import Manifest, Store
from lingraft.tokenizer import open_tokenizer
from lingraft.training.execution import Execution
from lingraft.training.step_memory import RECOMPUTE_TIME

EMBEDDING_SECONDS = 3.0
CHECK_SECONDS = 2.0
PREDICTION_SECONDS = 10.0
"""Estimated times of stages that take about the same time for every recipe."""


def plan(
    recipe: Recipe, runtime: Runtime, graph: Graph | None = None, *, notes: bool = True
) -> list[PlanRow]:
    """Return a plan row for each stage of a recipe, or of its given `graph`, in order.

    Amounts of cached stages are exact; other amounts, and all times, are estimates. Without
    `notes`, the rows have none: they need the tokenizer, a sample of the text and the Hub.
    """
    planner = _Planner(recipe, runtime, graph or build_graph(recipe, for_plan=True))
    planner.with_notes = notes
    return planner.rows()


class _Planner:
    """Visits the stages in order; sizes found at one stage are attributes that later ones use."""

    with_notes = True

    def __init__(self, recipe: Recipe, runtime: Runtime, graph: Graph) -> None:
        self.recipe, self.runtime, self.store = recipe, runtime, Store(runtime.store)
        self.graph = graph
        self.block = 0
        self.text_bytes: dict[str, int | None] = {}
        self.text_documents: dict[str, int | None] = {}
        self.heldout_bytes: dict[str, int] = {}
        self.packed_text: dict[str, TextAmount] = {}

    def rows(self) -> list[PlanRow]:
        """Return a row for each stage."""
        graph = self.graph
        rows = [self._source(graph.source), *self._texts()]
        if graph.evaluation_text is not None:
            seconds = _reading_seconds(self.target_bytes)
            rows.append(self._row(graph.evaluation_text, {}, seconds=seconds))
        rows.append(self._row(graph.source_check, {}, seconds=CHECK_SECONDS))
        rows += [self._vocabulary(graph.vocabulary), self._embeddings(graph.embeddings)]
        rows += self._checks(graph.result_checks[:1])
        rows.append(self._row(graph.prediction, {}, seconds=PREDICTION_SECONDS))
        if graph.received is not None:
            rows.append(self._row(graph.received, {}, seconds=EMBEDDING_SECONDS))
        rows += [self._packing(role, node) for role, node in graph.packing.items()]
        if graph.training is not None:
            rows.append(self._training(graph.training))
        if graph.merged is not None:
            rows.append(self._merging(graph.merged))
        for node in (graph.instruct, graph.chat_vector):
            if node is not None:
                rows.append(self._row(node, {}, seconds=EMBEDDING_SECONDS))
        rows += self._checks(graph.result_checks[1:])
        rows += self._scoring(graph)
        rows += [self._row(node, {}) for node in graph.tasks]
        task_lines = choose_recipe_tasks(self.recipe).lines if self.with_notes else ()
        rows.append(replace(self._comparing(graph.evaluation), notes=task_lines))
        return rows

    def _texts(self) -> list[PlanRow]:
        """Return the rows of all texts, and store their sizes."""
        graph, recipe = self.graph, self.recipe
        rows: list[PlanRow] = []
        texts = zip(target_roles(recipe), graph.targets, recipe.targets, strict=True)
        for role, node, text in texts:
            rows.append(self._corpus(node, text))
            self.text_bytes[role] = rows[-1].amounts.get("bytes")
            self.text_documents[role] = rows[-1].amounts.get("documents")
            self.heldout_bytes[role] = self._heldout(node, text, self.text_bytes[role])
        sizes = [size for size in self.text_bytes.values() if size]
        # The sum is known only if the size of every text is.
        self.target_bytes = sum(sizes) if len(sizes) == len(graph.targets) else None
        if graph.blend is not None:
            size = self.target_bytes
            rows.append(self._row(graph.blend, {"bytes": size}, seconds=_reading_seconds(size)))
        if graph.replay is not None and recipe.replay is not None:
            rows.append(self._corpus(graph.replay, recipe.replay))
            self.text_bytes["replay"] = rows[-1].amounts.get("bytes")
            self.text_documents["replay"] = rows[-1].amounts.get("documents")
            size = self.text_bytes["replay"]
            self.heldout_bytes["replay"] = self._heldout(graph.replay, recipe.replay, size)
        return rows

    def _checks(self, nodes: Sequence[StageNode]) -> list[PlanRow]:
        return [self._row(node, {}, seconds=CHECK_SECONDS) for node in nodes]

    def _notes(self, node: StageNode) -> Mapping[str, Any] | None:
        """Return the notes of a cached stage, `None` if it is not cached."""
        if not node.is_cached(self.store):
            return None
        return Manifest.read(self.store.folder(node.stage)).notes

    def _row(
        self,
        node: StageNode,
        amounts: Mapping[str, int | None],
        *,
        flops: float | None = None,
        steps: int = 0,
        writer: Shape | None = None,
        seconds: float | None = None,
    ) -> PlanRow:
        """Return a row; `writer` writes a token in each of the `steps`, in addition to `flops`."""
        known = {name: amount for name, amount in amounts.items() if amount is not None}
        cached = node.is_cached(self.store)
        if flops is not None and not cached:
            trains = node is self.graph.training or node is self.graph.source
            seconds = self._computing_seconds(
                flops, steps, writer, trains=trains, processes=self._processes(node)
            )
        key = None if node.unread else node.stage.key
        return PlanRow(node.title, key, cached, known, flops, 0.0 if cached else seconds)

    def _processes(self, node: StageNode) -> int:
        """Return how many devices compute a stage: only the training has several."""
        launch = self.runtime.launch
        is_shared = launch is not None and node is self.graph.training
        # Processes of a CPU share it.
        if not is_shared or launch is None or self.runtime.resolved_device() == "cpu":
            return 1
        return launch.size

    def _computing_seconds(
        self, flops: float, steps: int, writer: Shape | None, *, trains: bool, processes: int
    ) -> float | None:
        """Return the time of so many operations and written tokens.

        It is `None` on a device that this machine lacks.
        """
        try:
            device = self.runtime.available_device()
            speed = self._speed(device, trains=trains)
        except RecipeError:
            return None  # a plan for another machine, whose speed cannot be measured here
        seconds = flops / (speed * EFFICIENCY * processes)
        if steps and writer:
            weights = writer.multiplied * self._loaded_bytes()
            seconds += steps * writing_seconds(writer.layers, weights, device)
        return seconds

    def _speed(self, device: str, *, trains: bool) -> float:
        """Return the FLOP/s of the data type in which a model trains, or is only run."""
        if not trains:
            is_half = self._loaded_bytes() == 2
            return flops_per_second(device, self.stored_dtype if is_half else "float32")
        execution = Execution(device=device, precision=self.runtime.precision)
        optimizers = [phase.optimizer for phase in self.recipe.training.phases]
        if "adamw8bit_bfloat16" in optimizers or execution.computes_in_bfloat16():
            return flops_per_second(device, "bfloat16")
        return flops_per_second(device, tf32=execution.allows_tf32())

    def _source(self, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        config = dict(self.recipe.model.config() or {})
        self.block = self.recipe.training.packing.sequence_length(context_of(config))
        self.kind = str(config.get("model_type", ""))
        self.stored_dtype = str(config.get("dtype") or config.get("torch_dtype"))
        self.source = Shape.of_config(config)
        self.source_tokens = self._read_source_tokens() or self.source.rows
        if notes:
            self.source = self.source.with_parameters(notes["parameters"])
            self.source_tokens = notes["tokens"]
        # Only a model that is trained here, instead of downloaded, needs computing.
        tokens = self.recipe.model.training_tokens()
        flops = self.source.flops(6, tokens) if tokens else None
        row = self._row(
            node,
            {"tokens": self.source_tokens or None, "parameters": self.source.parameters or None},
            flops=flops,
            seconds=2.0,
        )
        if not self.with_notes:
            return row
        downloads = [] if row.cached else download_lines(self.recipe.model)
        return replace(row, notes=(*source_notes(self.recipe, node, self.store), *downloads))

    def _read_source_tokens(self) -> int | None:
        """Return the tokens of the source, if its files are here: the matrix may have more rows."""
        folder = self.recipe.model.tokenizer_folder() if self.with_notes else None
        try:
            return open_tokenizer(folder).size if folder else None
        except LingraftError:  # the stage says what is wrong with it
            return None

    def _corpus(self, node: StageNode, text: Text) -> PlanRow:
        if node.is_cached(self.store):
            counts = Corpus.open(self.store.folder(node.stage)).counts("train")
            row = self._row(node, {"documents": counts.documents, "bytes": counts.bytes})
        else:
            size = text_bytes(text.corpus, text.language)
            row = self._row(node, {"bytes": size}, seconds=_reading_seconds(size))
        return replace(row, notes=text_notes(node, text, self.store)) if self.with_notes else row

    def _heldout(self, node: StageNode, text: Text, size: int | None) -> int:
        """Return about how many bytes of held-out text are scored: little text has less."""
        most = int(self.recipe.evaluation.heldout_bytes)
        if node.is_cached(self.store):
            corpus = Corpus.open(self.store.folder(node.stage))
            return min(most, corpus.counts("heldout").bytes)
        settings = text.corpus
        if settings.heldout_bytes is not None:
            most = min(most, int(settings.heldout_bytes))
        if size is None or settings.share is None:  # of sources of its own
            return most
        return min(most, round(size * settings.share))

    def _vocabulary(self, node: StageNode) -> PlanRow:
        notes = self._notes(node)
        settings = self.recipe.vocabulary
        size = settings.size if isinstance(settings.size, int) else settings.size.max_size
        size = 0 if settings.adds_nothing else size
        self.dropped = 0
        if settings.method.removes:
            self.dropped = size = min(size, self.source_tokens or size)
        self.added = size if settings.method.adds else 0
        if notes:
            self.added, self.dropped = int(notes["added"]), int(notes["dropped"])
        seconds = 2 + (self.target_bytes or 0) * LEARNING_SECONDS_PER_BYTE
        row = self._row(node, {"tokens": self.added}, seconds=seconds)
        return replace(row, notes=normaliser_notes(self.recipe, notes))

    def _embeddings(self, node: StageNode) -> PlanRow:
        self.adapted = self.source.resized(self.source_tokens, self.added, self.dropped)
        if notes := self._notes(node):
            self.adapted = replace(self.adapted, rows=notes["rows"], parameters=notes["parameters"])
        sizes = {"rows": self.adapted.rows, "parameters": self.adapted.parameters}
        amounts = {name: size or None for name, size in sizes.items()}
        return self._row(node, amounts, seconds=EMBEDDING_SECONDS)

    def _packing(self, role: str, node: StageNode) -> PlanRow:
        notes, size = self._notes(node), self.text_bytes[role]
        texts = dict(zip(target_roles(self.recipe), self.recipe.targets, strict=True))
        text = self.recipe.replay if role == "replay" else texts[role]
        kind = "base" if role == "replay" else self._kind_of_target()
        tokens = notes["tokens"] if notes else size and round(size / BYTES_PER_TOKEN[kind])
        rows = notes["rows"] if notes else None
        known = self.text_documents[role]
        is_padded = self.recipe.training.packing.layout == "documents"
        if is_padded and not notes and known and tokens and size:
            # Fewer bytes than the text has, as long documents are truncated.
            kept = min(1.0, known * self.block / tokens)
            rows, tokens, size = known, round(tokens * kept), round(size * kept)
        if text is not None and size and tokens:
            size = notes["bytes"] if notes else size
            documents = notes["documents"] if notes else known or size / BYTES_PER_DOCUMENT
            counts = (size, tokens, documents, rows or tokens / self.block)
            amount = TextAmount(text.language, *counts, max_epochs=text.max_epochs)
            self.packed_text[role] = amount
        return self._row(node, {"tokens": tokens, "rows": rows}, seconds=_reading_seconds(size))

    def _training(self, node: StageNode) -> PlanRow:
        notes, size = self._notes(node), self.adapted.parameters
        counted = None
        if self.with_notes:
            counted = count_steps(self.graph, self.recipe, self.store, size)
        planned = PlannedTraining(
            self.recipe,
            tuple(self.graph.packing),
            self.packed_text,
            self.block,
            size,
            self.kind,
            counted,
        )
        tokens = notes["tokens"] if notes else planned.tokens
        lines = planned.lines(notes["epochs"] if notes else None)
        memory = PlannedMemory(
            self.recipe, self.runtime, self.adapted, self.added, float(self._loaded_bytes())
        )
        recomputes, why = False, ""
        if not node.is_cached(self.store):
            recomputes, why = memory.recomputes(planned.steps, self.block)
        lines += filter(None, [memory.line, why])
        shares = [
            phase.strategy.trained_body_share(self.adapted.layers)
            for phase in self.recipe.training.phases
        ]
        flops = self.adapted.flops(6, tokens)
        if flops is not None and tokens is not None:
            # The gradient of a frozen weight is not computed.
            flops -= 2.0 * tokens * (1 - planned.average(shares)) * self.adapted.active
            flops += 6.0 * tokens * planned.average([used for _, used in memory.inserted])
            flops += self.adapted.flops(2, planned.reference_tokens) or 0.0
        if flops is not None and self.recipe.training.heldout_points:
            # Each point of the held-out curve scores what the final table scores.
            points = self.recipe.training.heldout_points + 1
            scored = self._evaluation.scored_tokens() * points
            flops += self.adapted.flops(2, scored) or 0.0
        row = self._row(node, {"tokens": tokens}, flops=flops)
        if (recomputes or self.runtime.recompute) and row.seconds:
            row = replace(row, seconds=row.seconds * RECOMPUTE_TIME)
        return replace(row, notes=tuple(lines))

    def _merging(self, node: StageNode) -> PlanRow:
        # One half of the held-out text is scored with each of several shares.
        shares = len(self.recipe.training.merge_back) if self.recipe.training.chooses else 0
        tokens = self._evaluation.scored_tokens() * shares // 2
        flops = self.adapted.flops(2, tokens) if tokens else None
        return self._row(node, {}, flops=flops, seconds=EMBEDDING_SECONDS)

    def _loaded_bytes(self) -> int:
        """Return the bytes of a parameter of a model that is loaded to run (`load_model`)."""
        is_gpu = self.runtime.resolved_device().startswith("cuda")
        return 2 if is_gpu and self.stored_dtype in {"bfloat16", "float16"} else 4

    def _kind_of_target(self) -> str:
        """Return which tokens the adapted model has for target text."""
        return "after" if self.added else "before"

    @property
    def _evaluation(self) -> PlannedEvaluation:
        targets = sum(self.heldout_bytes[role] for role in target_roles(self.recipe))
        base = self.heldout_bytes.get("replay", 0)
        models = len(self.graph.scoring)
        return PlannedEvaluation(self.recipe, bool(self.added), models, targets, base)

    def _scoring(self, graph: Graph) -> Iterator[PlanRow]:
        """Yield a row for each model; the source needs more tokens for target text than others."""
        size = sum(self.heldout_bytes.values())
        for node in graph.scoring:
            is_source = node.inputs["model"] is graph.source
            tokens = self._evaluation.scored_tokens(is_source=is_source)
            steps = self._evaluation.sample_steps(is_source=is_source)
            amounts = {"bytes": size}
            model = self.source if is_source else self.adapted
            flops = model.flops(2, tokens)
            yield self._row(node, amounts, flops=flops, steps=steps, writer=model)

    def _comparing(self, node: StageNode) -> PlanRow:
        tokens, steps = self._evaluation.compared_tokens, self._evaluation.timed_steps
        # Without either, only the scores are put together.
        flops = self.adapted.flops(2, tokens) if tokens or steps else None
        writer = self.adapted
        return self._row(node, {}, flops=flops, steps=steps, writer=writer, seconds=CHECK_SECONDS)


def _reading_seconds(size: int | None) -> float:
    return 1 + (size or 0) * READING_SECONDS_PER_BYTE
