"""The frozen source model, which is both the teacher and the student of token distillation.

As a teacher, it reads the source tokenization. As a student, it reads the target tokenization with
trainable rows for the added tokens, which a hook puts into the output of the embedding table.
Importing this module imports torch. Suffixes: W windows, P positions, D width, A added tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lingraft.checkpoint.embed_rows import check_embed_rows, embed_rows
from lingraft.checkpoint.load_model import load_model
from lingraft.checkpoint.logits import finish_logits
from lingraft.embeddings.base import InitRequest
from lingraft.embeddings.distillation_windows import StudentWindow
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.errors import ModelError


class DistillationStudent:
    """The frozen model with trainable rows for the added tokens, and their optimizer.

    `step_size` is the learning rate, relative to the standard deviation of each matrix. `learned`
    are the trainable parameters: one of a tied model, two of an untied one.
    """

    def __init__(self, request: InitRequest, step_size: float) -> None:
        self.model = load_model(request.source_folder, request.device, "float32")
        self.model.requires_grad_(requires_grad=False)
        self.device = self.model.device
        self.start_id = self._find_start_id(request)
        self.added: dict[int, int] = {}  # position of each added id in the trainable rows
        for number, token in enumerate(request.splice.added):
            self.added[token.id] = number
        self.source_of = dict(request.splice.kept)
        self.table = self.model.get_input_embeddings()
        self.head = self.model.get_output_embeddings()
        self.finish_logits = finish_logits(self.model)
        self._check_logits(request)
        check_embed_rows(
            self.table, torch.arange(min(8, len(self.table.weight)), device=self.device)
        )
        self.bias = self._added_bias(request)
        self.parameters: dict[str, torch.nn.Parameter] = {}
        groups: dict[torch.nn.Parameter, dict[str, Any]] = {}
        for side, module in (("input", self.table), ("output", self.head)):
            if side == "output" and request.tied:
                self.parameters[side] = self.parameters["input"]
                continue
            matrix = module.weight[: request.splice.source_size]
            means = SubtokenMean().rows(dataclasses.replace(request, matrix=matrix.cpu())).rows
            parameter = torch.nn.Parameter(means.to(self.device))
            self.parameters[side] = parameter
            # A step of Adam is about as large as the rate, so the rate follows the scale of
            # the rows.
            rate = step_size * float(matrix.float().std())
            groups[parameter] = {"params": [parameter], "lr": rate}
        self.learned = list(groups)
        self.optimizer = torch.optim.Adam(list(groups.values()))
        self.table.register_forward_hook(self._insert_rows)
        self.added_WP: Tensor | None = None

    @torch.no_grad()
    def _check_logits(self, request: InitRequest) -> None:
        """Raise `ModelError` where the model does more to its logits than is known here."""
        ids = torch.full((1, 4), self.start_id, device=self.device)
        states = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        logits = self.model(input_ids=ids, use_cache=False).logits.float()
        made = self.finish_logits(self.head(states))
        if made.shape != logits.shape or not torch.allclose(made, logits, rtol=1e-3, atol=1e-3):
            msg = (
                f"{request.source_folder}: its logits are not those of its head, so rows of the "
                "head cannot be learned from them; choose another embedding init"
            )
            raise ModelError(msg)

    def _added_bias(self, request: InitRequest) -> Tensor | float:
        """Return the bias of each added token [A] as it is written: the mean of its pieces'."""
        bias = getattr(self.head, "bias", None)
        if bias is None:
            return 0.0
        means = [bias[list(token.pieces)].mean() for token in request.splice.added]
        return torch.stack(means) if means else 0.0

    @staticmethod
    def _find_start_id(request: InitRequest) -> int:
        """Return the id in front of every window, BOS or EOS; raises `ModelError` without both."""
        tokenizer = request.source_tokenizer
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None:
            msg = (
                f"{request.source_folder}: has neither a BOS nor an EOS token to put before a "
                "window; choose another embedding init"
            )
            raise ModelError(msg)
        return start

    def rows(self) -> dict[str, Tensor]:
        """Return the learned rows [A, D] of both sides."""
        return {side: parameter.detach().cpu() for side, parameter in self.parameters.items()}

    def step(self, windows: Sequence[StudentWindow]) -> tuple[float, float]:
        """Make one optimizer step on a batch; return the state error and the output loss.

        The state error is the mean squared error of the student's hidden states, divided by the
        mean square of the teacher's.
        """
        teacher_ids: list[Sequence[int]] = []
        student_ids: list[Sequence[int]] = []
        for window in windows:
            teacher_ids.append(window.source)
            student_ids.append(list(map(self._row_id, window.target)))
        with torch.no_grad():
            teacher = self._states(teacher_ids, student=False)
        student = self._states(student_ids, student=True)
        pairs = torch.tensor(_state_pairs(windows), device=self.device)
        window_index, source, target = pairs.T
        states = teacher[window_index, source]
        error = (student[window_index, target] - states).square().mean() / states.square().mean()
        next_tokens = torch.tensor(self._next_tokens(windows), device=self.device)
        window_index, source, token = next_tokens.T
        # The output rows learn from the teacher's states alone: those of the student move in every
        # step.
        states = teacher[window_index, source]
        loss = cross_entropy(self.logits(states), token)
        self.optimizer.zero_grad()
        torch.autograd.backward(error + loss)
        self.optimizer.step()
        return float(error.detach()), float(loss.detach())

    def logits(self, states_PD: Tensor) -> Tensor:
        """Return the logits of states: of the source's rows, then of the added ones."""
        of_added = states_PD @ self.parameters["output"].T + self.bias
        return self.finish_logits(torch.cat([self.head(states_PD), of_added], dim=1))

    def _next_tokens(self, windows: Sequence[StudentWindow]) -> list[tuple[int, int, int]]:
        """Return (window, teacher position, row of the next target token) for the output loss."""
        triples = []
        for number, window in enumerate(windows):
            # (-1, -1) is the start token: it ends together in both, and predicts the first token.
            for source_end, target_end in ((-1, -1), *window.ends):
                if target_end + 1 < len(window.target):
                    row_id = self._row_id(window.target[target_end + 1])
                    triples.append((number, source_end + 1, row_id))
        return triples

    def _row_id(self, target_id: int) -> int:
        """Return the position of a target id in the source matrix, or past its end if it is added.

        Added token k gets the number of source rows + k, as in the logits of `step`.
        """
        rows: int = self.head.weight.shape[0]
        if target_id in self.added:
            return rows + self.added[target_id]
        return self.source_of[target_id]

    def _states(self, sequences: Sequence[Sequence[int]], *, student: bool) -> Tensor:
        """Return the last hidden states, [W, P, D]; position 0 is the start token."""
        width = 1 + max(map(len, sequences))
        # Padding at the end needs no mask: in a causal model, no earlier position attends to it.
        padded = []
        for sequence in sequences:
            padding = [self.start_id] * (width - 1 - len(sequence))
            padded.append([self.start_id, *sequence, *padding])
        ids_WP = torch.tensor(padded, device=self.device)
        added_WP = ids_WP - self.head.weight.shape[0]
        self.added_WP = added_WP if student else None
        # The model has no rows for added tokens: it reads id 0, and the hook replaces its output.
        ids_WP = ids_WP.where(added_WP < 0, 0)
        outputs = self.model.base_model(input_ids=ids_WP, use_cache=False)
        states_WPD: Tensor = outputs.last_hidden_state
        return states_WPD

    def _insert_rows(self, module: Any, _inputs: Any, output_WPD: Tensor) -> Tensor:
        """Replace the table's output at added tokens by their trainable rows."""
        if self.added_WP is None:
            return output_WPD
        rows_WPD = embed_rows(module, self.parameters["input"], self.added_WP.clamp(min=0))
        return output_WPD.where(self.added_WP[..., None] < 0, rows_WPD.to(output_WPD.dtype))


def _state_pairs(windows: Sequence[StudentWindow]) -> list[tuple[int, int, int]]:
    """Return (window, teacher position, student position) where states should agree.

    Before the first added token, both read the same ids, so their states agree already.
    """
    triples = []
    for number, window in enumerate(windows):
        for source_end, target_end in window.ends:
            if target_end >= window.first_added:
                triples.append((number, source_end + 1, target_end + 1))  # + 1: the start token
    return triples
