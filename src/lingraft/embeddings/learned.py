"""Learned rows: the embedding matrices train on a part of the text, with the body frozen.

The matrices start from the rows of another method and learn to predict the next token. This is a
phase of `lingraft.training` like any other: packed text, AdamW, cosine, checkpoints, resume. Only
the set of trained parameters is special (`LearnedMatrices`). As in the paper, base rows train too,
so they are no longer bit-identical; the notes of the stage record this. With `base_rows: keep`,
only added rows train. If only one side of an untied model is learned, the other side gets the rows
of its own method, and they do not train. Suffixes: T target ids, A added tokens, D width of the
matrix.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, Side
from lingraft.embeddings.learned_training import (
    LearnedMatrices,
    empty_folder,
    pack_text,
    read_source_rows,
    write_start_model,
)
from lingraft.embeddings.resumable_loop import first_and_last
from lingraft.errors import CorpusError, ModelError
from lingraft.store import digest, temporary_folder
from lingraft.training import Budget, Execution, Phase, TrainingPlan
from lingraft.training.phase_steps import TrainingText

if TYPE_CHECKING:
    from torch import Tensor

    from lingraft.packing.blocks import Blocks

CHECKPOINT_SECONDS = 30.0
"""A killed run loses about this much work."""

VERSION = 3
"""Raised when the rows of the same settings change. 2: trained by the loop of `training`.
3: no documents beyond the share of the text."""


@dataclass(frozen=True)
class LearnedRows:
    """The result of training: the matrices [T, D] by side, what they started from, and notes.

    `seen` are the target ids that occur in the text.
    """

    matrices: dict[Side, Tensor]
    start_rows: dict[Side, InitRows]
    seen: set[int]
    notes: dict[str, Any]


@INITS.register
class LearnedInit(EmbeddingInit):
    """Rows trained with the body frozen; those of the base train too, unless they are kept."""

    name: ClassVar[str] = "learned"
    reference: ClassVar[str] = (
        "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Learned-Emb"
    )
    needs_corpus: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True

    start: INITS.annotation(EmbeddingInit) = Field(  # type: ignore[valid-type]
        default_factory=lambda: INITS.parse("calibrated"),
        validate_default=True,
        description="method of the rows that training starts from",
    )
    max_text_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="budget: share of the training text, or `max_tokens`, whichever is less",
    )
    max_tokens: int = Field(
        default=10_000_000, gt=0, description="budget: maximum number of predicted tokens"
    )
    learning_rate: float = Field(
        default=1e-3,
        gt=0,
        description="peak learning rate of AdamW; warm-up over 3% of the steps, at least 5, then "
        "cosine",
    )
    base_rows: Literal["train", "keep"] = Field(
        default="train",
        description="train: whole matrices as in the paper, so base rows change; keep: added rows "
        "only",
    )
    block_size: int = Field(default=256, gt=1, description="tokens per packed sequence")
    batch_tokens: int = Field(
        default=8192, gt=0, description="tokens per step, rounded to whole packed sequences"
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings, with the identity of the method that rows start from."""
        settings = {**self.model_dump(mode="json"), "start": self.start.identity()}
        return {self.name: {**settings, "version": VERSION}}

    def rows(self, request: InitRequest) -> InitRows:
        """Train the learned matrices, both at once if both are learned; return one side's rows."""
        key = f"learned {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._train(request)
        learned: LearnedRows = request.scratch[key]
        start, matrix_TD = learned.start_rows[request.side], learned.matrices[request.side]
        added = [token.id for token in request.splice.added]
        base, base_note = None, "kept, bit for bit"
        if self.base_rows == "train":
            targets, sources = zip(*sorted(request.splice.kept.items()), strict=True)
            base = request.matrix.float().clone()  # the matrix itself is mapped from the file
            base[list(sources)] = matrix_TD[list(targets)]
            base_note = "trained, so no longer bit-identical"
        origins = []
        for token_id, origin in zip(added, start.origins, strict=True):
            prefix = "learned from" if token_id in learned.seen else "fallback: not in the text,"
            origins.append(f"{prefix} {origin}")
        notes = {**learned.notes, "base_rows": base_note, "start": dict(start.notes)}
        return InitRows(matrix_TD[added], tuple(origins), notes, base)

    def _train(self, request: InitRequest) -> LearnedRows:
        """Train in the scratch directory, where a killed run resumes, or in a temporary one."""
        identity = [
            self.model_dump(mode="json"),
            request.seed,
            request.splice.source_size,
            request.splice.target_size,
        ]
        kept = request.scratch_dir and request.scratch_dir / f"learned-{digest(identity)[:20]}"
        with (
            nullcontext(kept)
            if kept
            else tempfile.TemporaryDirectory(dir=temporary_folder()) as folder
        ):
            return self._train_in(Path(folder), request)

    def _train_in(self, folder: Path, request: InitRequest) -> LearnedRows:
        # Both import torch, which reading a recipe must not do.
        from lingraft.training.train import train_model
        from lingraft.training.train_log import LOG

        start_rows = self._start_rows(request)
        text = self._pack(request, empty_folder(folder / "text"))
        sides = tuple(side for side in start_rows if self._is_learned(request, side))
        model, notes = train_model(
            write_start_model(request, start_rows, empty_folder(folder / "start")),
            TrainingText.of(text),
            self._plan(sides),
            scratch_dir=folder / "training",
            added=[token.id for token in request.splice.added],
            seed=request.seed,
            title="learning rows",
            execution=Execution(
                device=request.device, precision="float32", checkpoint_seconds=CHECKPOINT_SECONDS
            ),
        )
        modules = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
        size = request.splice.target_size  # the matrix may be padded
        matrices: dict[Side, Tensor] = {}
        for side in start_rows:
            matrices[side] = modules[side].weight.detach()[:size].cpu()
        log = (folder / "training" / LOG).read_text(encoding="utf-8").splitlines()
        records = map(json.loads, log)
        # A record of the predicted result is no step.
        bits = [(float(record["bits_per_byte"]),) for record in records if "tokens" in record]
        return LearnedRows(
            matrices,
            start_rows,
            set(np.unique(text.tokens).tolist()),
            {
                "tokens": notes["tokens"],
                "steps": notes["steps"],
                "rate": self.learning_rate,
                "bits_per_byte_first_last": first_and_last(bits, 0),
            },
        )

    def _plan(self, sides: tuple[Side, ...]) -> TrainingPlan:
        """Return one phase that passes over the text once."""
        phase = Phase(
            strategy=LearnedMatrices(sides=sides, base_rows=self.base_rows),
            budget=Budget(epochs=1),
            # LearnedMatrices puts all trained parameters into the group `added_rows`.
            learning_rates={"body": 0.0, "added_rows": self.learning_rate},
            schedule="cosine",
            batch_tokens=self.batch_tokens,
        )
        # There is no held-out text here, so no points of a held-out curve. Masks of documents were
        # not measured here: the figures of study-rows are without.
        return TrainingPlan(phases=(phase,), document_attention_mask=False, heldout_points=0)

    def _is_learned(self, request: InitRequest, side: Side) -> bool:
        """Return whether a side trains.

        Raises `ModelError` if both sides are learned with different settings.
        """
        other = request.other_init
        if side != request.side and isinstance(other, LearnedInit) and other != self:
            msg = (
                "embeddings: input and output rows are both learned, but with different "
                "settings, and they are trained together; give the settings once, as in "
                "embeddings: {learned: {...}}"
            )
            raise ModelError(msg)
        return side == request.side or isinstance(other, LearnedInit)

    def _start_rows(self, request: InitRequest) -> dict[Side, InitRows]:
        """Return the rows of each side before training; a tied model has one side."""
        sides: list[Side] = [request.side] if request.tied else ["input", "output"]
        start_rows: dict[Side, InitRows] = {}
        for side in sides:
            side_request = request
            if side != request.side:
                # The other side's method computes its rows from its own matrix.
                other = request.other
                if other is None:  # a caller that wants rows of one side gives one matrix
                    other = read_source_rows(request, side)
                side_request = dataclasses.replace(
                    request, side=side, matrix=other, other=request.matrix, other_init=self
                )
            is_learned = self._is_learned(request, side)
            method = self.start if is_learned or request.other_init is None else request.other_init
            start_rows[side] = method.rows(side_request)
        return start_rows

    def _pack(self, request: InitRequest, folder: Path) -> Blocks:
        """Pack the text of the budget; raises `CorpusError` if it gives no block."""
        size = self.max_text_share * request.corpus.counts("train").bytes if request.corpus else 0
        try:
            return pack_text(
                request,
                text_bytes=max(1, int(size)),
                max_tokens=self.max_tokens,
                block_size=self.block_size,
                folder=folder,
            )
        except CorpusError as error:
            msg = (
                f"learned rows: no text for a budget of {self.max_text_share:g} of the train "
                f"text and {self.max_tokens:,} tokens; raise max_text_share or max_tokens, or "
                f"give more text"
            )
            raise CorpusError(msg) from error
