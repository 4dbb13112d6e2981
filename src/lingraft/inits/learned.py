"""Learned rows: the embedding matrices are trained first, on a little of the text, with the body frozen.

The matrices begin with the rows of another method and learn to predict the next token of the target's text. As in the
paper, the rows of the base train too: then they are no longer bit-identical, which the notes of the graft name; with
`base_rows: keep` only added rows move. A matrix whose method is another one takes that method's rows and stays fixed.
Shapes: T target ids, V source ids, A added tokens, D width, R rows of text, L tokens of each.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.checkpoint.load_model import load_model
from lingraft.errors import CorpusError, ModelError
from lingraft.inits.align import text_of
from lingraft.inits.base import INITS, EmbeddingInit, InitRequest, InitRows, Side
from lingraft.inits.resuming import Loop, first_and_last, progress_file

if TYPE_CHECKING:
    from torch import Tensor

LOGITS_AT_ONCE = 2**25
"""Numbers in one block of logits: 128 MB in float32, and as much again for their gradient."""
WARMUP = 0.03


@INITS.register
class Learned(EmbeddingInit):
    """Rows trained with the body frozen; those of the base train too, unless they are kept."""

    name: ClassVar[str] = "learned"
    reference: ClassVar[str] = "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Learned-Emb"
    needs_corpus: ClassVar[bool] = True

    start: INITS.annotation(EmbeddingInit) = Field(  # type: ignore[valid-type]
        default_factory=lambda: INITS.parse("calibrated"), validate_default=True, description="rows to begin with")
    share: float = Field(default=0.1, gt=0, le=1, description="budget: this share of the train text, or `tokens`, "
                         "whichever is reached first")
    tokens: int = Field(default=10_000_000, gt=0, description="budget: predicted tokens at most")
    rate: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW; cosine after a warm-up of 3%")
    base_rows: Literal["train", "keep"] = Field(default="train", description="train: whole matrices, as in the paper, "
                                                "so that base rows change; keep: added rows alone")
    block: int = Field(default=256, gt=1, description="tokens of a row of text")
    batch_tokens: int = Field(default=8192, gt=0, description="tokens of a step, rounded to whole rows")

    def identity(self) -> dict[str, Any]:
        """Return the settings, and what tells the rows to begin with."""
        return {self.name: {**self.model_dump(mode="json"), "start": self.start.identity()}}

    def rows(self, request: InitRequest) -> InitRows:
        """Train both matrices in one go where both are learned; return those of the side that is asked for."""
        key = f"learned {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._trained(request)
        learned, started, seen, notes = request.scratch[key]
        made, matrix_TD = started[request.side], learned[request.side]
        added = [token.id for token in request.splice.added]
        base = None
        if self.base_rows == "train":
            targets, sources = zip(*sorted(request.splice.kept.items()), strict=True)
            base = request.matrix.float().clone()  # the matrix itself is mapped from the file
            base[list(sources)] = matrix_TD[list(targets)]
        said = "trained, so no longer bit-identical" if base is not None else "kept, bit for bit"
        origins = tuple(f"learned from {origin}" if token_id in seen else f"fallback: not in the text, {origin}"
                        for token_id, origin in zip(added, made.origins, strict=True))
        return InitRows(matrix_TD[added], origins, {**notes, "base_rows": said, "start": dict(made.notes)}, base)

    def _trained(self, request: InitRequest,
                 ) -> tuple[dict[Side, Tensor], dict[Side, InitRows], set[int], dict[str, Any]]:
        import torch

        started = self._started(request)
        rows_RL = self._rows_of_text(request)
        model = _Model(request, started, [side for side in started if self._is_learned(request, side)],
                       keep=self.base_rows == "keep")
        optimiser = torch.optim.AdamW(model.learned, lr=self.rate, betas=(0.9, 0.95), weight_decay=0.0)
        size = max(1, self.batch_tokens // self.block)
        order_R = torch.randperm(len(rows_RL), generator=torch.Generator().manual_seed(request.seed))
        batches = torch.split(rows_RL[order_R], size)
        loop = Loop("learning rows", len(batches), model.learned, optimiser,
                    progress_file(request.workplace, self.name, self.model_dump(mode="json"), request.seed,
                                  request.splice.source_size, request.splice.target_size, list(rows_RL.shape)))

        def step(number: int) -> tuple[float]:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * factor(number, len(batches))
            optimiser.zero_grad(set_to_none=True)
            loss = model.backward(batches[number])
            optimiser.step()
            return (loss,)

        losses = loop.run(step)
        notes = {"tokens": rows_RL.shape[0] * (rows_RL.shape[1] - 1), "steps": len(batches), "rate": self.rate,
                 "nats_a_token_first_last": first_and_last(losses, 0)}
        return model.matrices(), started, set(rows_RL.flatten().tolist()), notes

    def _is_learned(self, request: InitRequest, side: Side) -> bool:
        """Say whether a side trains; raises `ModelError` where both do and their settings differ."""
        if side != request.side and isinstance(request.beside, Learned) and request.beside != self:
            msg = ("input and output rows are both learned, but with different settings; they are trained together: "
                   "give one, as in embeddings: {learned: {...}}")
            raise ModelError(msg)
        return side == request.side or isinstance(request.beside, Learned)

    def _started(self, request: InitRequest) -> dict[Side, InitRows]:
        """Return the rows of each matrix before training."""
        sides: list[Side] = [request.side] if request.tied else ["input", "output"]
        started: dict[Side, InitRows] = {}
        for side in sides:
            here = request if side == request.side or request.other is None else dataclasses.replace(
                request, side=side, matrix=request.other, other=request.matrix, beside=self)
            method = self.start if self._is_learned(request, side) or request.beside is None else request.beside
            started[side] = method.rows(here)
        return started

    def _rows_of_text(self, request: InitRequest) -> Tensor:
        """Return the text as rows of one token more than `block`, [R, L + 1]; raises `CorpusError` for too little."""
        import torch

        target = request.target_tokenizer
        after = target.eos_id if target.eos_id is not None else target.bos_id
        size = self.share * request.corpus.counts("train").bytes if request.corpus else 0
        stream: list[int] = []
        for texts in text_of(request, max(1, int(size))):
            for ids in target.ids(texts):
                stream += ids if after is None else [*ids, after]
            if len(stream) > self.tokens:
                break
        length = min(self.block, len(stream) - 1)
        count = min(len(stream) - 1, self.tokens) // max(length, 1)
        if count < 1:
            msg = (f"learned rows: {len(stream)} tokens of text for a budget of {self.share:g} of the train text and "
                   f"{self.tokens:,} tokens; raise share or tokens, or give more text")
            raise CorpusError(msg)
        flat = torch.tensor(stream[:count * length + 1])
        return flat.unfold(0, length + 1, length).clone()


def factor(step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of its peak: warm-up, then a cosine to zero.

    >>> [round(factor(step, 100), 3) for step in (0, 3, 51, 99)]
    [0.333, 1.0, 0.508, 0.0]
    """
    warm = max(1, math.ceil(WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class _Model:
    """The frozen model with matrices for the target's ids, in its head and its table."""

    def __init__(self, request: InitRequest, started: dict[Side, InitRows], learned: list[Side], *,
                 keep: bool) -> None:
        import torch

        self.model = load_model(request.source_folder, request.device, "float32").requires_grad_(requires_grad=False)
        self.device = self.model.device
        table, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.size = request.splice.target_size
        targets, sources = (list(ids) for ids in zip(*sorted(request.splice.kept.items()), strict=True))
        added = [token.id for token in request.splice.added]
        self.weights = {}
        for side, made in started.items():
            module = table if side == "input" else head
            matrix_TD = torch.empty((self.size, module.weight.shape[1]))
            matrix_TD[targets], matrix_TD[added] = module.weight[sources].cpu(), made.rows
            self.weights[side] = torch.nn.Parameter(matrix_TD.to(self.device), requires_grad=side in learned)
        one = next(iter(self.weights.values()))
        table.weight, head.weight = self.weights.get("input", one), self.weights.get("output", one)
        table.num_embeddings = head.out_features = self.size
        table.padding_idx = None  # an id of the source; its row trains like the others
        if head.bias is not None:
            bias_T = torch.empty(self.size, device=self.device)
            bias_T[targets] = head.bias[sources]
            bias_T[added] = torch.stack([head.bias[list(token.pieces)].mean() for token in request.splice.added])
            head.bias = torch.nn.Parameter(bias_T, requires_grad=False)
        self.learned = [self.weights[side] for side in learned]
        if keep:
            moves_T1 = torch.zeros((self.size, 1), device=self.device)
            moves_T1[added] = 1
            for weight in self.learned:
                weight.register_hook(lambda gradient: gradient * moves_T1)  # type: ignore[no-untyped-call]

    def backward(self, rows_RL: Tensor) -> float:
        """Add the gradient of the mean loss over some rows, a few rows at a time; return that loss."""
        import torch
        from torch.nn.functional import cross_entropy

        at_once = max(1, LOGITS_AT_ONCE // (rows_RL.shape[1] * self.size))
        predicted = rows_RL.shape[0] * (rows_RL.shape[1] - 1)
        total = 0.0
        for part_RL in torch.split(rows_RL.to(self.device), at_once):
            logits = self.model(input_ids=part_RL[:, :-1], use_cache=False).logits
            loss = cross_entropy(logits.float().flatten(0, 1), part_RL[:, 1:].flatten(), reduction="sum") / predicted
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    def matrices(self) -> dict[Side, Tensor]:
        """Return the matrices as they are now, [T, D]."""
        return {side: weight.detach().cpu() for side, weight in self.weights.items()}
