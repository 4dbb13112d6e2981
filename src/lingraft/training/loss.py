"""The loss of next-token prediction and its gradient, with all logits at once or in chunks.

The logits of all tokens are the largest tensor of a small step: 2,048 tokens by 128,000 ids take
1 GB in float32, and their gradient another. The chunked losses run the head on a part of the
tokens at a time, forward and backward, and pass the gradient of the hidden states to the body at
the end. The numbers are the same except for the order of sums.

Chunks need logits that are `head(hidden)`, which `make_loss` tests on the model. If they are not,
the plain loss is used; the notes of the run name the loss.

Shape suffixes: B sequences, T tokens, P predicted tokens, C of them in a chunk, V vocabulary,
D width.
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
from lingraft.training.reference_model import ReferenceModel

# Elements of a chunk of logits, by device: 2^23 in float32 are 32 MB, 2^27 are 512 MB.
LOGITS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}


LARGE_LOGIT = 1000.0
"""The largest logit of the test; softcaps are 15 to 50."""


@dataclass(frozen=True)
class Loss(ABC):
    """A way to compute the loss of a model."""

    model: Any
    autocast: bool

    @abstractmethod
    def backward(
        self,
        inputs: Mapping[str, Tensor],
        labels_BT: Tensor,
        weight: float,
        reference: ReferenceModel | None = None,
    ) -> Tensor:
        """Add the gradient of weight * (sum of nats) to the parameters; return the nats, [P].

        `labels_BT` is IGNORED where no token is predicted. The nats are detached. With `reference`,
        the gradient is that of weight * (sum of nats + its penalty).
        """

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast)


class PlainLoss(Loss):
    """Computes all logits at once."""

    def backward(
        self,
        inputs: Mapping[str, Tensor],
        labels_BT: Tensor,
        weight: float,
        reference: ReferenceModel | None = None,
    ) -> Tensor:
        """Add the gradient and return the nats."""
        with self._precision(labels_BT.device):
            logits_BTV = self.model(**inputs, use_cache=False).logits
        predicted_BT = labels_BT != IGNORED
        logits_PV = logits_BTV[predicted_BT].float()
        nats_P = cross_entropy(logits_PV, labels_BT[predicted_BT], reduction="none")
        total = nats_P.sum()
        if reference:
            total = total + reference.penalty(logits_PV, reference.logits(inputs)[predicted_BT])
        (total * weight).backward()  # type: ignore[no-untyped-call]
        return nats_P.detach()


class ChunkedLoss(Loss):
    """Computes the logits of a part of the tokens at a time, outside the model."""

    def backward(
        self,
        inputs: Mapping[str, Tensor],
        labels_BT: Tensor,
        weight: float,
        reference: ReferenceModel | None = None,
    ) -> Tensor:
        """Add the gradient and return the nats."""
        with self._precision(labels_BT.device):
            hidden_BTD = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        predicted_BT = labels_BT != IGNORED
        hidden_PD, labels_P = hidden_BTD[predicted_BT], labels_BT[predicted_BT]
        head = self.model.get_output_embeddings()
        size, sums = _tokens_at_once(head), _GradientSums(head)
        nats: list[Tensor] = []
        gradients: list[Tensor] = []
        # Detached, so the graph of a chunk is freed by its own backward pass.
        chunks = torch.split(hidden_PD.detach(), size), torch.split(labels_P, size)
        before = torch.split(reference.hidden(inputs)[predicted_BT], size) if reference else ()
        for number, (hidden_CD, labels_C) in enumerate(zip(*chunks, strict=True)):
            hidden_CD.requires_grad_()
            with self._precision(labels_BT.device):
                logits_CV = head(hidden_CD)
            nats_C = cross_entropy(logits_CV.float(), labels_C, reduction="none")
            total = nats_C.sum()
            if reference:
                total = total + reference.penalty(logits_CV, reference.head(before[number]))
            (total * weight).backward()  # type: ignore[no-untyped-call]
            sums.add()
            nats.append(nats_C.detach())
            gradient = hidden_CD.grad
            gradients.append(torch.zeros_like(hidden_CD) if gradient is None else gradient)
        sums.apply()
        if hidden_PD.requires_grad:
            hidden_PD.backward(torch.cat(gradients))
        return torch.cat(nats)


class _GradientSums:
    """Sums the gradients of many chunks in float32, for parameters of a head in bfloat16.

    In bfloat16, a sum of 128 chunks is off by 1.6%.
    """

    def __init__(self, head: Any) -> None:
        self.sums: dict[Tensor, Tensor] = {}
        self.parameters = []
        for parameter in head.parameters():
            if parameter.requires_grad and parameter.dtype is not torch.float32:
                self.parameters.append(parameter)

    def add(self) -> None:
        """Add the gradients of a chunk, and those of earlier micro-batches before the first."""
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if parameter in self.sums:
                self.sums[parameter].add_(parameter.grad)
            else:
                self.sums[parameter] = parameter.grad.float()
            parameter.grad = None

    def apply(self) -> None:
        """Make the sums the gradients of the parameters."""
        for parameter, total in self.sums.items():
            parameter.grad = total.to(parameter.dtype)


class ChunkedInsideLoss(Loss):
    """Computes the logits of a part of the tokens at a time, inside the forward pass of the model.

    FSDP gathers the whole head of a sharded model only during this forward pass.
    """

    def backward(
        self,
        inputs: Mapping[str, Tensor],
        labels_BT: Tensor,
        weight: float,
        reference: ReferenceModel | None = None,
    ) -> Tensor:
        """Add the gradient and return the nats."""
        if reference:
            msg = "a sharded model has no reference model"  # the trainer refuses it first
            raise NotImplementedError(msg)
        predicted_BT = labels_BT != IGNORED
        head = self.model.get_output_embeddings()
        plain = head.forward
        nats: list[Tensor] = []

        def chunked(hidden_BTD: Tensor) -> Tensor:
            # A frozen head has no gradient to compute.
            trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
            chunks = _Chunks(plain, labels_BT[predicted_BT], _tokens_at_once(head), weight, nats)
            total: Tensor = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
                chunks, hidden_BTD[predicted_BT], *trained
            )
            return total

        # The model calls its head as usual and gets the loss in place of logits.
        head.forward = chunked
        try:
            with self._precision(labels_BT.device):
                total = self.model(**inputs, use_cache=False).logits
        finally:
            del head.forward
        total.backward()
        return torch.cat(nats)


@dataclass(frozen=True)
class _Chunks:
    """The arguments of `ChunkedCrossEntropy` that have no gradient; it appends to `nats`."""

    head: Callable[[Tensor], Tensor]
    labels_P: Tensor  # noqa: N815
    size: int
    weight: float
    nats: list[Tensor]


class ChunkedCrossEntropy(torch.autograd.Function):
    """Computes weight * (sum of nats of all predicted tokens), chunk by chunk.

    The forward pass also computes the gradients, because then the logits of a chunk are freed
    before the next chunk.
    """

    @staticmethod
    def forward(ctx: Any, chunks: _Chunks, hidden_PD: Tensor, *trained: Tensor) -> Tensor:
        """Return the loss; save the gradients of the hidden states and of the head's parameters."""
        of_hidden: list[Tensor] = []
        # A sum of many chunks in float32; autograd rounds it to the data type of the parameter.
        of_trained = [torch.zeros_like(one, dtype=torch.float32) for one in trained]
        parts = torch.split(hidden_PD, chunks.size), torch.split(chunks.labels_P, chunks.size)
        for hidden_CD, labels_C in zip(*parts, strict=True):
            with torch.enable_grad():
                leaf_CD = hidden_CD.detach().requires_grad_()
                logits_CV = chunks.head(leaf_CD).float()
                nats_C = cross_entropy(logits_CV, labels_C, reduction="none")
                gradients = torch.autograd.grad(nats_C.sum() * chunks.weight, [leaf_CD, *trained])
            chunks.nats.append(nats_C.detach())
            of_hidden.append(gradients[0])
            for so_far, gradient in zip(of_trained, gradients[1:], strict=True):
                so_far.add_(gradient)
        ctx.save_for_backward(torch.cat(of_hidden), *of_trained)
        return torch.cat(chunks.nats).sum() * chunks.weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the saved gradients, multiplied by the gradient of the loss."""
        return (None, *(saved.mul_(gradient) for saved in ctx.saved_tensors))


def _tokens_at_once(head: Any) -> int:
    """Return the number of tokens in a chunk."""
    weight = head.weight
    return max(1, int(LOGITS_AT_ONCE.get(weight.device.type, 1 << 25) // weight.shape[0]))


@torch.no_grad()
def head_is_last(model: Any, *, apart: bool = True) -> bool:
    """Test on a few tokens whether the logits are exactly `head(last hidden state)`.

    `apart` also tests that the body gives the same hidden state when it is called without the head,
    which is not possible for a sharded model. All processes of a sharded model must run the test.
    """
    head, body = model.get_output_embeddings(), model.base_model
    if head is None or body is model:
        return False
    ids = (torch.arange(1, 17, device=model.device) % head.weight.shape[0]).unsqueeze(0)
    seen: list[Tensor] = []
    plain, training = head.forward, model.training

    def recording(hidden: Tensor) -> Tensor:
        logits = plain(hidden)
        # Made large, because a softcap hardly changes small logits, as those of random weights.
        seen.extend((hidden, logits * (LARGE_LOGIT / logits.abs().max().clamp_min(1e-3))))
        return seen[-1]

    # Without dropout, so that two calls give the same hidden states.
    model.eval()
    head.forward = recording
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        del head.forward
    state = seen[0] if seen else None
    if apart:
        state = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
    model.train(training)
    # The head must run exactly once, and nothing may change its result (a scale, a softcap).
    if len(seen) != 2 or state is None:
        return False
    return _close(seen[1], logits) and _close(seen[0], state)


def _close(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape:
        return False
    # The order of sums can differ between the two calls.
    tolerance = 1e-4 * float(expected.abs().max())
    return torch.allclose(expected, actual.to(expected.dtype), rtol=1e-4, atol=tolerance)


def make_loss(model: Any, kind: str, *, autocast: bool, sharded: bool = False) -> Loss:
    """Return a chunked loss if `kind` is "chunked" and the model permits it, else `PlainLoss`."""
    if kind != "chunked" or not head_is_last(model, apart=not sharded):
        return PlainLoss(model, autocast)
    return ChunkedInsideLoss(model, autocast) if sharded else ChunkedLoss(model, autocast)
