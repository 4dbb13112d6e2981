"""The model before training, which replayed text is compared with (`training.replay_kl`).

For each token of replay text, the loss has a second term: weight * KL divergence between the next
tokens of the model before training (the reference, with the added rows as they were initialised)
and those of the model in training, at temperature 1. The term has the same unit and the same
divisor as the cross entropy.

Added tokens are left out of both distributions, which are renormalised over the tokens of the base.
Before training, the rows of added tokens are only an initialisation, and the probability that they
give to an added token in base-language text is nothing to preserve.

The reference is a second copy of the weights. Its logits are computed for the same tokens at a time
as those of the model in training.

Shape suffixes: B sequences, T tokens, P predicted tokens, C of them in a chunk, V vocabulary,
D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from lingraft.checkpoint.load_model import load_model
from lingraft.errors import RecipeError
from lingraft.packing.mixture import MixedText
from lingraft.training.config import ReplayKl
from lingraft.training.execution import Execution
from lingraft.training.job import Job
from lingraft.training.optimizer import set_weight_dtype


class ReferenceModel:
    """The model before training, and the divergence from it.

    `total` sums the divergence of all tokens so far, and `tokens` counts them.
    """

    def __init__(
        self, model: Any, settings: ReplayKl, added: Sequence[int], *, autocast: bool
    ) -> None:
        self.model, self.settings, self.autocast = model.eval(), settings, autocast
        rows = len(model.get_input_embeddings().weight)
        self.is_added_V = torch.zeros(rows, dtype=torch.bool, device=model.device)
        self.is_added_V[list(added)] = True
        self.total, self.tokens = 0.0, 0

    @torch.no_grad()
    def hidden(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the last hidden states, [B, T, D]; `head` gives their logits."""
        with self._precision():
            state: Tensor = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        return state

    @torch.no_grad()
    def head(self, hidden_CD: Tensor) -> Tensor:
        """Return the logits of hidden states, [C, V]."""
        with self._precision():
            logits_CV: Tensor = self.model.get_output_embeddings()(hidden_CD)
        return logits_CV

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the logits of all tokens, [B, T, V]."""
        with self._precision():
            logits_BTV: Tensor = self.model(**inputs, use_cache=False).logits
        return logits_BTV

    def penalty(self, logits_CV: Tensor, reference_CV: Tensor) -> Tensor:
        """Return weight * (sum of the divergence over the tokens), and count it in `total`."""
        divergence_C = self.divergence(logits_CV, reference_CV)
        self.total += float(divergence_C.detach().sum())
        self.tokens += len(divergence_C)
        return divergence_C.sum() * self.settings.weight

    def divergence(self, logits_CV: Tensor, reference_CV: Tensor) -> Tensor:
        """Return the divergence of each token in nats, [C], over the tokens of the base."""
        trained_CV, before_CV = (
            log_softmax(values.float().masked_fill(self.is_added_V, -torch.inf), dim=-1)
            for values in (logits_CV, reference_CV)
        )
        if self.settings.direction == "reverse":
            trained_CV, before_CV = before_CV, trained_CV
        # Where both are -inf, the product of 0 and the difference would be NaN.
        difference_CV = (before_CV - trained_CV).masked_fill(self.is_added_V, 0)
        return (before_CV.exp() * difference_CV).sum(-1)

    def take(self) -> float | None:
        """Return the mean divergence since the last call in nats per token; None without any."""
        mean = self.total / self.tokens if self.tokens else None
        self.total, self.tokens = 0.0, 0
        return mean

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.autocast)


def load_reference(
    job: Job,
    execution: Execution,
    settings: ReplayKl | None,
    replay: MixedText | None,
    processes: int,
) -> ReferenceModel | None:
    """Return the model before training, if a phase compares replay text with it.

    On a GPU, it has the data type of its files. Raises `RecipeError` as `check_reference` does.
    """
    check_reference(settings, replay, processes)
    if settings is None:
        return None
    model = load_model(job.model_folder, execution.device)
    if execution.weights_in_bfloat16:
        set_weight_dtype(model, torch.bfloat16)
    autocast = execution.computes_in_bfloat16()
    return ReferenceModel(model, settings, job.added, autocast=autocast)


def check_reference(settings: ReplayKl | None, replay: MixedText | None, processes: int) -> None:
    """Raise `RecipeError` if a phase compares replay text and has none, or a sharded model."""
    if settings is None:
        return
    if replay is None or not replay.share:
        msg = (
            "training.replay_kl compares the model on replay text, but no text is replayed; "
            "set a share of replay, or remove replay_kl"
        )
        raise RecipeError(msg)
    if processes > 1:
        msg = (
            f"training.replay_kl needs the whole model before training, but each of "
            f"{processes} processes holds a shard; use one process, or leave it out"
        )
        raise RecipeError(msg)
