"""Token distillation: rows that give the model the hidden states it has with the source tokens.

The frozen source model reads windows of text twice: as the source tokenizer splits them (teacher),
and as the target tokenizer does (student), where the rows of added tokens are trainable.

Input rows: wherever a target token and a source token end at the same byte, at or after an added
token, the squared error between their last hidden states is minimised. Output rows: wherever two
tokens end at the same byte, the teacher's state predicts the next target token over all source and
added rows (cross-entropy). A tied model has one row for both sides, which learns from both losses.

All added tokens of a window are learned at once; the paper replaces one at a time. A killed run
resumes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ByteSize, Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.distillation_windows import StudentWindow, find_windows
from lingraft.embeddings.resumable_loop import ResumableLoop, first_and_last, progress_file
from lingraft.embeddings.subtoken_mean import SubtokenMean

if TYPE_CHECKING:
    from torch import Tensor

BATCH_WINDOWS = 16


@INITS.register
class Distilled(EmbeddingInit):
    """Rows learned from how the source model reads and continues the same text.

    Input rows: the hidden state after an added token should equal that after its source tokens.
    Output rows: the hidden state after source tokens should predict the next target token. The
    rows of a tied model learn from both.
    """

    name: ClassVar[str] = "distilled"
    reference: ClassVar[str] = (
        "Dobler, Elliott, de Melo 2025, Token Distillation (arXiv 2505.20133)"
    )
    needs_corpus: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True

    text_bytes: ByteSize = Field(
        default=ByteSize(20_000_000),
        gt=0,
        description="bytes of training text that are searched for windows",
    )
    windows_per_token: int = Field(
        default=25, gt=0, description="number of windows per added token"
    )
    window_tokens: int = Field(
        default=48, gt=1, description="minimum length of a window in target tokens"
    )
    epochs: int = Field(default=2, gt=0, description="passes over the windows")
    step_size: float = Field(
        default=0.05,
        gt=0,
        description="learning rate, relative to the standard deviation of the matrix",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Learn the rows of both sides at once; a token without a window gets its subtoken mean."""
        key = f"distilled {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._learn(request)
        learned, seen, notes = request.scratch[key]
        rows_AD = SubtokenMean().rows(request).rows
        known, origins = [], []
        for number, token in enumerate(request.splice.added):
            if token.id in seen:
                known.append(number)
                origins.append("distilled")
            else:
                origins.append("fallback: not in the text, subtoken mean")
        if known:
            rows_AD[known] = learned[request.side][known]
        return InitRows(rows_AD, tuple(origins), notes)

    def _learn(self, request: InitRequest) -> tuple[dict[str, Tensor], set[int], dict[str, Any]]:
        """Return the rows of each side, the ids of the tokens with a window, and notes."""
        # This module imports torch, which reading a recipe must not do.
        from lingraft.embeddings.distillation_student import DistillationStudent

        found = find_windows(
            request,
            text_bytes=self.text_bytes,
            window_tokens=self.window_tokens,
            windows_per_token=self.windows_per_token,
        )
        windows = found.windows
        notes: dict[str, Any] = {"windows": len(windows)}
        if found.documents_skipped:
            notes["documents_skipped"] = found.documents_skipped
        if not windows:
            return {}, found.seen, notes
        student = DistillationStudent(request, self.step_size)
        order = random.Random(request.seed)
        batches: list[list[StudentWindow]] = []
        for _ in range(self.epochs):
            shuffled = order.sample(windows, len(windows))
            begins = range(0, len(windows), BATCH_WINDOWS)
            batches.extend(shuffled[begin : begin + BATCH_WINDOWS] for begin in begins)
        # All batches are drawn before the first step, so a step depends on its number alone.
        file = progress_file(
            request.scratch_dir,
            self.name,
            self.model_dump(mode="json"),
            request.seed,
            request.splice.source_size,
            len(request.splice.added),
            len(windows),
        )
        loop = ResumableLoop(
            "distilling rows", len(batches), student.learned, student.optimizer, file
        )
        losses = loop.run(lambda number: student.step(batches[number]))
        notes["steps"] = len(batches)
        notes["state_error_first_last"] = first_and_last(losses, 0)
        notes["output_loss_first_last"] = first_and_last(losses, 1)
        return student.rows(), found.seen, notes
