"""Learned rows: the embedding matrices are trained on a part of the text, with the body frozen.

The matrices start from the rows of another method and learn to predict the next token. It is a
phase of `lingraft.training` like any other: packed text, AdamW, cosine, checkpoints, resume. Only
what trains is special (`LearnedMatrices`). As in the paper, the rows of the base train too, so
they are no longer bit-identical, which the notes of the stage say; with `base_rows: keep` only
added rows train. A matrix that has another method keeps that method's rows.
Shapes: T target ids, A added tokens, D width.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.embeddings.align import text_of
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, Side
from lingraft.embeddings.resumable_loop import first_and_last
from lingraft.errors import CorpusError, ModelError
from lingraft.store import digest
from lingraft.strategies import Embeddings, ParameterGroup, Rows
from lingraft.training import Budget, Execution, Phase, TrainingPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lingraft.packing.blocks import Blocks
    from lingraft.packing.shards import Shard

CHECKPOINT_SECONDS = 30.0
VERSION = 2
"""Raised when the rows of the same settings change. 2: trained by the loop of `training`."""


class LearnedMatrices(Embeddings):
    """The embedding matrices, or their added rows, of the learned sides; no bias trains."""

    name: ClassVar[str] = "learned matrices"

    sides: tuple[Side, ...]
    base_rows: Literal["train", "keep"]

    def prepare(self, model: Any, added: Sequence[int]) -> list[ParameterGroup]:
        """Freeze everything but the matrices, or the added rows, of the learned sides."""
        keep = self.base_rows == "keep"
        (group,) = Rows().prepare(model, added) if keep else super().prepare(model, added)
        modules = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
        learned = [modules[side].rows if keep else modules[side].weight for side in self.sides]
        trained = ParameterGroup("added_rows")
        for name, parameter in group.parameters.items():
            if any(parameter is one for one in learned):
                trained.parameters[name] = parameter
            else:
                parameter.requires_grad = False
        return [trained]

    def finish(self, model: torch.nn.Module) -> None:
        """Write added rows that trained apart into the matrices."""
        if self.base_rows == "keep":
            Rows().finish(model)


@dataclass(frozen=True)
class GivenRows:
    """Rows that were made before, as the method of a model that training starts from."""

    made: Mapping[Side, InitRows]

    def rows(self, request: InitRequest) -> InitRows:
        """Return the rows of a side."""
        return self.made[request.side]

    def chosen(self) -> dict[str, Any]:
        """Return how notes name it; nobody reads the notes of this model."""
        return {"given": {}}


@dataclass(frozen=True)
class LearnedRows:
    """What training gave: the matrices [T, D], the rows before, the ids of the text, and notes."""

    matrices: dict[Side, Tensor]
    started: dict[Side, InitRows]
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
        description="peak learning rate of AdamW; warm-up over 3% of the steps, then cosine",
    )
    base_rows: Literal["train", "keep"] = Field(
        default="train",
        description="train: whole matrices as in the paper, so base rows change; keep: added rows "
        "only",
    )
    block_size: int = Field(default=256, gt=1, description="tokens per row of text")
    batch_tokens: int = Field(
        default=8192, gt=0, description="tokens per step, rounded to whole rows of text"
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings, with the identity of the method that rows start from."""
        settings = {**self.model_dump(mode="json"), "start": self.start.identity()}
        return {self.name: {**settings, "version": VERSION}}

    def rows(self, request: InitRequest) -> InitRows:
        """Train both matrices at once where both are learned; return the rows of one side."""
        key = f"learned {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._trained(request)
        learned: LearnedRows = request.scratch[key]
        made, matrix_TD = learned.started[request.side], learned.matrices[request.side]
        added = [token.id for token in request.splice.added]
        base, said = None, "kept, bit for bit"
        if self.base_rows == "train":
            targets, sources = zip(*sorted(request.splice.kept.items()), strict=True)
            base = request.matrix.float().clone()  # the matrix itself is mapped from the file
            base[list(sources)] = matrix_TD[list(targets)]
            said = "trained, so no longer bit-identical"
        origins = tuple(
            f"learned from {origin}"
            if token_id in learned.seen
            else f"fallback: not in the text, {origin}"
            for token_id, origin in zip(added, made.origins, strict=True)
        )
        notes = {**learned.notes, "base_rows": said, "start": dict(made.notes)}
        return InitRows(matrix_TD[added], origins, notes, base)

    def _trained(self, request: InitRequest) -> LearnedRows:
        """Train in the scratch directory, or in a temporary one if there is none."""
        identity = [
            self.model_dump(mode="json"),
            request.seed,
            request.splice.source_size,
            request.splice.target_size,
        ]
        kept = request.scratch_dir and request.scratch_dir / f"learned-{digest(identity)[:20]}"
        with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as folder:
            return self._trained_in(Path(folder), request)

    def _trained_in(self, folder: Path, request: InitRequest) -> LearnedRows:
        import numpy as np

        from lingraft.training.job import TrainingText
        from lingraft.training.train_log import LOG
        from lingraft.training.trainer import train_model

        started = self._started(request)
        text = self._pack(request, _emptied(folder / "text"))
        model_folder = _spliced(request, started, _emptied(folder / "start"))
        sides = tuple(side for side in started if self._is_learned(request, side))
        model, notes = train_model(
            model_folder,
            TrainingText(text),
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
        size = request.splice.target_size
        matrices = {side: modules[side].weight.detach()[:size].cpu() for side in started}
        log = (folder / "training" / LOG).read_text(encoding="utf-8").splitlines()
        bits = [(float(json.loads(line)["bits_per_byte"]),) for line in log]
        return LearnedRows(
            matrices,
            started,
            set(np.unique(text.tokens).tolist()),
            {
                "tokens": notes["tokens"],
                "steps": notes["steps"],
                "rate": self.learning_rate,
                "bits_per_byte_first_last": first_and_last(bits, 0),
            },
        )

    def _plan(self, sides: tuple[Side, ...]) -> TrainingPlan:
        rates = {"body": 0.0, "added_rows": self.learning_rate}
        phase = Phase(
            strategy=LearnedMatrices(sides=sides, base_rows=self.base_rows),
            budget=Budget(epochs=1),
            learning_rates=rates,
            schedule="cosine",
            batch_tokens=self.batch_tokens,
        )
        return TrainingPlan(phases=(phase,), heldout_points=0)

    def _is_learned(self, request: InitRequest, side: Side) -> bool:
        """Say whether a side trains; raises `ModelError` where both do with different settings."""
        other = request.other_init
        if side != request.side and isinstance(other, LearnedInit) and other != self:
            msg = (
                "embeddings: input and output rows are both learned, but with different "
                "settings; they are trained together: give one, as in "
                "embeddings: {learned: {...}}"
            )
            raise ModelError(msg)
        return side == request.side or isinstance(other, LearnedInit)

    def _started(self, request: InitRequest) -> dict[Side, InitRows]:
        """Return the rows of each matrix before training."""
        sides: list[Side] = [request.side] if request.tied else ["input", "output"]
        started: dict[Side, InitRows] = {}
        for side in sides:
            here = request
            if side != request.side and request.other is not None:
                here = dataclasses.replace(
                    request, side=side, matrix=request.other, other=request.matrix, other_init=self
                )
            learned = self._is_learned(request, side)
            method = self.start if learned or request.other_init is None else request.other_init
            started[side] = method.rows(here)
        return started

    def _pack(self, request: InitRequest, folder: Path) -> Blocks:
        """Pack the text of the budget; raises `CorpusError` where it comes to no row."""
        from lingraft.packing import PackingSettings
        from lingraft.packing.blocks import Blocks, pack_shards
        from lingraft.packing.shards import shards_of
        from lingraft.tokenizer.separators import separators_of

        target = request.target_tokenizer
        separators = separators_of(request.source_tokenizer)
        around = sum(one is not None for one in separators.ids(target))
        size = self.max_text_share * request.corpus.counts("train").bytes if request.corpus else 0
        shards = shards_of(text_of(request, max(1, int(size))), target)
        try:
            pack_shards(
                _first_tokens(shards, self.max_tokens, around),
                target,
                PackingSettings(block_size=self.block_size),
                folder,
                separators=separators,
            )
        except CorpusError as error:
            msg = (
                f"learned rows: no text for a budget of {self.max_text_share:g} of the train "
                f"text and {self.max_tokens:,} tokens; raise max_text_share or max_tokens, or "
                f"give more text"
            )
            raise CorpusError(msg) from error
        return Blocks.open(folder)


def _first_tokens(shards: Iterable[Shard], tokens: int, around: int) -> Iterator[Shard]:
    """Cut tokenised text after so many tokens, `around` of them separators of each document."""
    import numpy as np

    from lingraft.packing.shards import Shard

    for shard in shards:
        ends = np.cumsum(shard.lengths + around)
        whole = int((ends <= tokens).sum())
        if whole == len(ends):
            yield shard
            tokens -= int(ends[-1]) if whole else 0
            continue
        part = tokens - around - (int(ends[whole - 1]) if whole else 0)
        lengths = np.append(shard.lengths[:whole], [part] if part > 0 else [])
        lengths = lengths.astype(shard.lengths.dtype)
        size = int(lengths.sum())
        yield Shard(shard.ids[:size], shard.sizes[:size], lengths)
        return


def _spliced(request: InitRequest, started: Mapping[Side, InitRows], folder: Path) -> Path:
    """Write the model that training starts from; files without a changed tensor are hard links."""
    from lingraft.checkpoint import resize_embeddings

    given = GivenRows(started)
    resize_embeddings(
        request.source_folder,
        request.tokenizer_folder,
        request.splice,
        input_init=given,
        output_init=given,
        output=folder,
        seed=request.seed,
        device=request.device,
    )
    return folder


def _emptied(folder: Path) -> Path:
    """Return an empty folder: what an earlier process left there may be half-written."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
