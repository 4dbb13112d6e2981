"""Token distillation: rows with which the model, reading the new tokens, has the states it had with the old ones.

Windows of text are read twice by the frozen source model: as the source tokenizer cuts them (teacher), and as the
target tokenizer does (student), where the rows of added tokens are what is learned. Wherever a target token and a
source token end at the same byte, at or after an added token, the two last hidden states are brought together (squared
error). Output rows are learned from the teacher's states alone: wherever tokens end together, the next target token is
predicted over all rows, source and added (cross-entropy). All added tokens of a window are learned at once, where the
paper replaces one. A tied model has one row for both, which learns from both. A run that was killed goes on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ByteSize, Field

from lingraft.checkpoint.load_model import load_model
from lingraft.embeddings.align import sizes_of, text_of
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.resumable_loop import Loop, first_and_last, progress_file
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

BATCH_WINDOWS = 16
LARGEST_SOURCE = 512
"""Source tokens of one window at most; longer ones are left out."""


@dataclass(frozen=True)
class StudentWindow:
    """A stretch of text as ids of both tokenizers; `ends` pairs places (source, target) where tokens end together."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]
    first_added: int


@INITS.register
class Distilled(EmbeddingInit):
    """Rows learned so that hidden states, and the next token's probability, agree with the source segmentation."""

    name: ClassVar[str] = "distilled"
    reference: ClassVar[str] = (
        "Dobler, Elliott, de Melo 2025, Token Distillation (arXiv 2505.20133)"
    )
    needs_corpus: ClassVar[bool] = True

    text_bytes: ByteSize = Field(
        default=ByteSize(20_000_000),
        gt=0,
        description="bytes of training text that are searched for windows",
    )
    windows_per_token: int = Field(
        default=25, gt=0, description="number of windows per added token"
    )
    window_tokens: int = Field(default=48, gt=1, description="length of a window in target tokens")
    epochs: int = Field(default=2, gt=0, description="passes over the windows")
    step_size: float = Field(
        default=0.05,
        gt=0,
        description="learning rate, relative to the standard deviation of the matrix",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Learn the rows of both sides in one go; a token without a window keeps its subtoken mean."""
        key = f"distilled {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._learned(request)
        learned, seen, notes = request.scratch[key]
        rows_AD = SubtokenMean().rows(request).rows
        known = [number for number, token in enumerate(request.splice.added) if token.id in seen]
        if known:
            rows_AD[known] = learned[request.side][known]
        origins = tuple(
            "distilled" if token.id in seen else "fallback: not in the text, subtoken mean"
            for token in request.splice.added
        )
        return InitRows(rows_AD, origins, notes)

    def _learned(self, request: InitRequest) -> tuple[dict[str, Tensor], set[int], dict[str, Any]]:
        windows, seen = find_windows(request, self)
        if not windows:
            return {}, seen, {"windows": 0}
        student = _Student(request, self)
        order = random.Random(request.seed)
        batches = [
            shuffled[begin : begin + BATCH_WINDOWS]
            for shuffled in (order.sample(windows, len(windows)) for _ in range(self.epochs))
            for begin in range(0, len(windows), BATCH_WINDOWS)
        ]
        loop = Loop(
            "distilling rows",
            len(batches),
            student.learned,
            student.optimiser,
            progress_file(
                request.scratch_dir,
                self.name,
                self.model_dump(mode="json"),
                request.seed,
                request.splice.source_size,
                len(request.splice.added),
                len(windows),
            ),
        )
        losses = loop.run(lambda number: student.step(batches[number]))
        notes = {
            "windows": len(windows),
            "steps": len(batches),
            "state_error_first_last": first_and_last(losses, 0),
            "output_loss_first_last": first_and_last(losses, 1),
        }
        return student.rows(), seen, notes


def find_windows(request: InitRequest, settings: Distilled) -> tuple[list[StudentWindow], set[int]]:
    """Cut the text into windows and keep those with a token that has too few; return them and the tokens they have."""
    source, target = request.source_tokenizer, request.target_tokenizer
    sizes = [sizes_of(tokenizer.vocabulary) for tokenizer in (source, target)]
    wanted = {token.id: settings.windows_per_token for token in request.splice.added}
    missing, seen, windows = set(wanted), set(), []
    for texts in text_of(request, settings.text_bytes):
        for before, after in zip(source.encode(texts), target.encode(texts), strict=True):
            for window in _cut(before, after, sizes, settings.window_tokens, set(wanted)):
                here = missing.intersection(window.target)
                if not here:
                    continue
                windows.append(window)
                for token_id in wanted.keys() & set(window.target):
                    seen.add(token_id)
                    wanted[token_id] -= 1
                    if wanted[token_id] <= 0:
                        missing.discard(token_id)
        if not missing:
            break
    return windows, seen


def _cut(
    before: Sequence[int], after: Sequence[int], sizes: Sequence[Any], length: int, added: set[int]
) -> Iterator[StudentWindow]:
    """Yield the windows of a document that hold an added token and end in both tokenisations at the same byte."""
    import numpy as np

    ends = [
        size[np.asarray(ids, dtype=np.int64)].cumsum()
        for size, ids in zip(sizes, (before, after), strict=True)
    ]
    if not len(before) or not len(after) or ends[0][-1] != ends[1][-1]:
        return
    place_of = {
        int(end): place for place, end in enumerate(ends[0])
    }  # the last token that ends there
    pairs = [
        (place_of[int(end)], place) for place, end in enumerate(ends[1]) if int(end) in place_of
    ]
    origin = (-1, -1)
    for number, pair in enumerate(pairs):
        if pair[1] - origin[1] < length and number + 1 < len(pairs):
            continue
        target = tuple(after[origin[1] + 1 : pair[1] + 1])
        first = next((place for place, i in enumerate(target) if i in added), None)
        if first is not None and pair[0] - origin[0] <= LARGEST_SOURCE:
            within = tuple(
                (s - origin[0] - 1, t - origin[1] - 1) for s, t in pairs if origin[1] < t <= pair[1]
            )
            yield StudentWindow(tuple(before[origin[0] + 1 : pair[0] + 1]), target, within, first)
        origin = pair


class _Student:
    """The frozen model with trainable rows for the added tokens."""

    def __init__(self, request: InitRequest, settings: Distilled) -> None:
        import dataclasses

        import torch

        self.model = load_model(request.source_folder, request.device, "float32")
        self.model.requires_grad_(requires_grad=False)
        self.device = self.model.device
        tokenizer = request.source_tokenizer
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None:
            msg = f"{request.source_folder}: neither a BOS nor an EOS token to begin a window with; choose another init"
            raise ModelError(msg)
        self.start = start
        self.added = {token.id: number for number, token in enumerate(request.splice.added)}
        self.source_of = dict(request.splice.kept)
        self.table, self.head = (
            self.model.get_input_embeddings(),
            self.model.get_output_embeddings(),
        )
        size = request.splice.source_size
        self.parameters = {}
        for side, module in (("input", self.table), ("output", self.head)):
            matrix = module.weight[:size].cpu()
            means = SubtokenMean().rows(dataclasses.replace(request, matrix=matrix)).rows
            self.parameters[side] = torch.nn.Parameter(means.to(self.device))
        if request.tied:
            self.parameters["output"] = self.parameters["input"]
        modules = {
            id(self.parameters["output"]): self.head,
            id(self.parameters["input"]): self.table,
        }
        self.learned = list(dict.fromkeys(self.parameters.values()))
        self.optimiser = torch.optim.Adam(
            [
                {
                    "params": [row],
                    "lr": settings.step_size * float(modules[id(row)].weight[:size].float().std()),
                }
                for row in self.learned
            ]
        )
        self.table.register_forward_hook(self._put_rows)
        self.places: Tensor | None = None

    def rows(self) -> dict[str, Tensor]:
        """Return the learned rows of both sides."""
        return {side: row.detach().cpu() for side, row in self.parameters.items()}

    def step(self, windows: Sequence[StudentWindow]) -> tuple[float, float]:
        """Learn from a batch; return the error of the states, relative to their square, and the output loss."""
        import torch
        from torch.nn.functional import cross_entropy

        with torch.no_grad():
            teacher = self._states([window.source for window in windows], student=False)
        student = self._states(
            [[self._number(i) for i in window.target] for window in windows], student=True
        )
        taught = [
            (row, s + 1, t + 1)
            for row, window in enumerate(windows)
            for s, t in window.ends
            if t >= window.first_added
        ]
        row, source, target = torch.tensor(taught, device=self.device).T
        states = teacher[row, source]
        error = (student[row, target] - states).square().mean() / states.square().mean()
        nexts = [
            (row, s + 1, self._number(window.target[t + 1]))
            for row, window in enumerate(windows)
            for s, t in ((-1, -1), *window.ends)
            if t + 1 < len(window.target)
        ]
        row, source, token = torch.tensor(nexts, device=self.device).T
        logits = torch.cat(
            [self.head(teacher[row, source]), teacher[row, source] @ self.parameters["output"].T],
            dim=1,
        )
        loss = cross_entropy(logits.float(), token)
        self.optimiser.zero_grad()
        torch.autograd.backward(error + loss)
        self.optimiser.step()
        return float(error.detach()), float(loss.detach())

    def _number(self, target_id: int) -> int:
        """Return the row of a target id in the source's matrix, or beyond it for an added token."""
        rows: int = self.head.weight.shape[0]
        return (
            rows + self.added[target_id] if target_id in self.added else self.source_of[target_id]
        )

    def _states(self, sequences: Sequence[Sequence[int]], *, student: bool) -> Tensor:
        """Return the last hidden states, [windows, tokens + 1, width]; what pads the end is seen by nothing."""
        import torch

        width = 1 + max(len(sequence) for sequence in sequences)
        ids = torch.tensor(
            [
                [self.start, *sequence, *[self.start] * (width - 1 - len(sequence))]
                for sequence in sequences
            ],
            device=self.device,
        )
        places = ids - self.head.weight.shape[0]
        self.places = places if student else None
        states: Tensor = self.model.base_model(
            input_ids=ids.where(places < 0, 0), use_cache=False
        ).last_hidden_state
        return states

    def _put_rows(self, module: Any, _inputs: Any, output: Tensor) -> Tensor:
        """Put the added tokens' rows into the table's output, scaled as the table scales its own."""
        if self.places is None:
            return output
        chosen = self.parameters["input"][self.places.clamp(min=0)] * getattr(
            module, "embed_scale", 1.0
        )
        return output.where(self.places[..., None] < 0, chosen.to(output.dtype))
