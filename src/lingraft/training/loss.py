"""The loss and its gradient. MetaModel: B rows, T tokens, P predicted tokens, V vocabulary, D width.

Logits of all tokens at once are the largest tensor of a small step: 2,048 tokens by 128,000 ids in float32 are 1 GB,
and their gradient another. So the head runs on a piece of the tokens at a time, forward and backward, and hands the
body the gradient of its hidden states at the end: the same numbers up to the order of sums. It is used where the
model's logits really are `head(hidden)`, which is tried out on the model; else the plain way, and the notes say so. A
sharded model has its head whole only while it is called: there, the pieces run inside of that call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lingraft.packing.mixture import IGNORED

LOGITS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}


@dataclass(frozen=True)
class Loss(ABC):
    """A way to compute the loss of a model."""

    model: Any
    autocast: bool

    @abstractmethod
    def backward(self, inputs: Mapping[str, Tensor], labels_BT: Tensor, weight: float) -> Tensor:
        """Add the gradient of weight * sum of nats; return the nats of every predicted token, [P], without graph."""

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast)


class PlainLoss(Loss):
    """All logits at once."""

    def backward(self, inputs: Mapping[str, Tensor], labels_BT: Tensor, weight: float) -> Tensor:
        """Add the gradient and return the nats."""
        with self._precision(labels_BT.device):
            logits_BTV = self.model(**inputs, use_cache=False).logits
        predicted_BT = labels_BT != IGNORED
        nats_P = cross_entropy(logits_BTV[predicted_BT].float(), labels_BT[predicted_BT], reduction="none")
        (nats_P.sum() * weight).backward()  # type: ignore[no-untyped-call]
        return nats_P.detach()


class ChunkedLoss(Loss):
    """The logits of some tokens at a time."""

    def backward(self, inputs: Mapping[str, Tensor], labels_BT: Tensor, weight: float) -> Tensor:
        """Add the gradient and return the nats."""
        with self._precision(labels_BT.device):
            hidden_BTD = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        predicted_BT = labels_BT != IGNORED
        hidden_PD, labels_P = hidden_BTD[predicted_BT], labels_BT[predicted_BT]
        head = self.model.get_output_embeddings()
        size = _tokens_at_once(head)
        nats: list[Tensor] = []
        gradients: list[Tensor] = []
        for hidden_CD, labels_C in zip(torch.split(hidden_PD.detach(), size), torch.split(labels_P, size), strict=True):
            hidden_CD.requires_grad_()
            with self._precision(labels_BT.device):
                logits_CV = head(hidden_CD)
            nats_C = cross_entropy(logits_CV.float(), labels_C, reduction="none")
            (nats_C.sum() * weight).backward()  # type: ignore[no-untyped-call]
            nats.append(nats_C.detach())
            gradients.append(hidden_CD.grad if hidden_CD.grad is not None else torch.zeros_like(hidden_CD))
        if hidden_PD.requires_grad:
            hidden_PD.backward(torch.cat(gradients))
        return torch.cat(nats)


class ChunkedInsideLoss(Loss):
    """The logits of some tokens at a time, inside of the model's own call."""

    def backward(self, inputs: Mapping[str, Tensor], labels_BT: Tensor, weight: float) -> Tensor:
        """Add the gradient and return the nats."""
        predicted_BT = labels_BT != IGNORED
        head = self.model.get_output_embeddings()
        plain = head.forward
        nats: list[Tensor] = []

        def inside(hidden_BTD: Tensor) -> Tensor:
            trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
            pieces = _Pieces(plain, labels_BT[predicted_BT], _tokens_at_once(head), weight, nats)
            total: Tensor = ChunkedCrossEntropy.apply(pieces, hidden_BTD[predicted_BT], *trained)  # type: ignore[no-untyped-call]
            return total

        head.forward = inside
        try:
            with self._precision(labels_BT.device):
                total = self.model(**inputs, use_cache=False).logits
        finally:
            del head.forward
        total.backward()
        return torch.cat(nats)


@dataclass(frozen=True)
class _Pieces:
    """What to do with hidden states, `size` at a time: through the head, to nats, which are put into `nats`."""

    head: Callable[[Tensor], Tensor]
    labels_P: Tensor  # noqa: N815
    size: int
    weight: float
    nats: list[Tensor]


class ChunkedCrossEntropy(torch.autograd.Function):
    """The sum of weight * nats of all predicted tokens; the forward pass works out its gradient, piece by piece."""

    @staticmethod
    def forward(ctx: Any, pieces: _Pieces, hidden_PD: Tensor, *trained: Tensor) -> Tensor:
        """Keep the gradients of the hidden states and of the head's parameters."""
        of_hidden: list[Tensor] = []
        of_trained = [torch.zeros_like(parameter) for parameter in trained]
        parts = torch.split(hidden_PD, pieces.size), torch.split(pieces.labels_P, pieces.size)
        for hidden_CD, labels_C in zip(*parts, strict=True):
            with torch.enable_grad():
                own_CD = hidden_CD.detach().requires_grad_()
                nats_C = cross_entropy(pieces.head(own_CD).float(), labels_C, reduction="none")
                gradients = torch.autograd.grad(nats_C.sum() * pieces.weight, [own_CD, *trained])
            pieces.nats.append(nats_C.detach())
            of_hidden.append(gradients[0])
            for so_far, gradient in zip(of_trained, gradients[1:], strict=True):
                so_far.add_(gradient)
        ctx.save_for_backward(torch.cat(of_hidden), *of_trained)
        return torch.cat(pieces.nats).sum() * pieces.weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return what was kept."""
        return (None, *(kept.mul_(gradient) for kept in ctx.saved_tensors))


def _tokens_at_once(head: Any) -> int:
    """Return how many tokens a piece has."""
    weight = head.weight
    return max(1, int(LOGITS_AT_ONCE.get(weight.device.type, 1 << 25) // weight.shape[0]))


@torch.no_grad()
def head_is_last(model: Any, *, apart: bool = True) -> bool:
    """Say whether the logits are what the head makes, and `apart` from the model, of the last hidden states: tried out.

    A sharded model cannot be taken apart: then all its processes have to try.
    """
    head, body = model.get_output_embeddings(), model.base_model
    if head is None or body is model:
        return False
    ids = (torch.arange(1, 17, device=model.device) % head.weight.shape[0]).unsqueeze(0)
    seen: list[Tensor] = []
    plain, training = head.forward, model.training

    def seeing(hidden: Tensor) -> Tensor:
        seen.extend((hidden, plain(hidden)))
        return seen[-1]

    model.eval()
    head.forward = seeing
    try:
        whole = model(input_ids=ids, use_cache=False).logits
    finally:
        del head.forward
    state = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None) if apart else seen[0]
    model.train(training)
    return len(seen) == 2 and _close(seen[1], whole) and state is not None and _close(seen[0], state)


def _close(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape
    return same and torch.allclose(one, other.to(one.dtype), rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def loss_of(model: Any, kind: str, *, autocast: bool, sharded: bool = False) -> Loss:
    """Return a chunked loss where it is wanted and holds for the model, else the plain one."""
    if kind != "chunked" or not head_is_last(model, apart=not sharded):
        return PlainLoss(model, autocast)
    return ChunkedInsideLoss(model, autocast) if sharded else ChunkedLoss(model, autocast)
