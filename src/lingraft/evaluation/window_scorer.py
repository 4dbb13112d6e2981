"""Score windows of documents with a model: the nats of every predicted token.

A document that is longer than the context is read in windows, which overlap so that each token has
context; every token is predicted exactly once. Logits for all positions at once would take the most
memory, so the head is applied to a block of scored positions at a time. Whole logits are only made
if the model is sharded, or if a check on a few tokens shows that the body (the model without its
head) followed by the head does not give the model's own logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.checkpoint.logits import finish_logits
from lingraft.evaluation.bootstrap import Floats
from lingraft.tf32 import tf32_products

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoringWindow:
    """A window of a document's sequence: token 0 is the start token, the text begins at token 1.

    The model reads tokens `start` to `end` (exclusive) and predicts tokens `first` to `end`
    (inclusive): position i predicts token i + 1.
    """

    document: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """The number of tokens that the model reads."""
        return self.end - self.start

    @property
    def scored(self) -> int:
        """The number of tokens that are predicted."""
        return self.end + 1 - self.first


def split_into_windows(
    document: int, tokens: int, context: int, stride: int
) -> Iterator[ScoringWindow]:
    """Yield the windows of a document with `tokens` tokens.

    >>> [(w.start, w.first, w.end) for w in split_into_windows(0, tokens=7, context=4, stride=2)]
    [(0, 1, 4), (2, 5, 6), (3, 7, 7)]
    """
    first = 1
    while first <= tokens:
        end = min(tokens, first - 1 + (context if first == 1 else stride))
        yield ScoringWindow(document, max(0, end - context), first, end)
        first = end + 1


def batch_windows(windows: Sequence[ScoringWindow], tokens: int) -> Iterator[list[ScoringWindow]]:
    """Yield batches of at most `tokens` tokens, padding included, the longest windows first."""
    batch: list[ScoringWindow] = []
    # Windows of similar length share a batch, which keeps padding small.
    for window in sorted(windows, key=lambda window: -window.length):
        if batch and batch[0].length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


LOGITS_AT_ONCE = 16 * 2**20
"""Numbers in one block of logits: 64 MB in float32."""


@dataclass(frozen=True)
class WindowScorer:
    """A model whose head is applied to a block of positions at a time.

    `head` is `None` if that does not give the model's own logits: then the model is called whole.
    """

    model: Any
    head: Callable[[Tensor], Tensor] | None
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, model: Any, windows: Sequence[ScoringWindow], sequences: Sequence[Any]
    ) -> WindowScorer:
        """Separate the head; check on a few tokens that body and head give the model's logits."""
        # Reading a recipe imports this module, and must not import torch.
        import torch

        if _is_sharded(model):
            return cls(model, None, ("sharded: whole logits were made",))
        separate = cls(model, _build_head(model), ())
        if not windows:
            return separate
        sample = torch.from_numpy(sequences[windows[0].document][:8])[None].to(model.device)
        with torch.inference_mode():
            expected = model(input_ids=sample, use_cache=False).logits.float()
            try:
                logits = separate.head(separate.hidden(sample)) if separate.head else None
                same = (
                    logits is not None
                    and logits.shape == expected.shape
                    and torch.allclose(logits, expected, rtol=1e-3, atol=1e-3)
                )
            # Some architectures have no body that can be called without the head.
            except (AttributeError, TypeError, RuntimeError):
                same = False
        note = (
            f"{type(model).__name__}: the head could not be taken apart, so whole logits were made"
        )
        return separate if same else cls(model, None, (note,))

    def hidden(self, ids: Tensor) -> Tensor:
        """Return the inputs of the head, [batch, tokens, width]."""
        states: Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def nats(self, batch: Sequence[ScoringWindow], sequences: Sequence[Any]) -> Floats:
        """Return the nats of every scored token, in the order of the windows."""
        # FSDP keeps tensors that training uses later, which inference mode does not allow.
        with _scoring(sharded=_is_sharded(self.model)):
            states, targets, logits_of = self._scored(batch, sequences)
            return _losses(states, targets, logits_of)

    def margins(
        self, batch: Sequence[ScoringWindow], sequences: Sequence[Any], rivals: Any
    ) -> tuple[Any, Floats]:
        """Compare the logits of scored tokens with those of their rivals.

        `rivals` holds by id the id of a token's rival, -1 for tokens without one, which are left
        out. Returns for each other token its document, and its logit minus that of its rival.
        """
        import torch

        documents = np.concatenate([np.full(w.scored, w.document) for w in batch])
        with _scoring(sharded=_is_sharded(self.model)):
            states, targets, logits_of = self._scored(batch, sequences)
            rival_ids = torch.from_numpy(rivals).to(targets.device)[targets]
            has_rival = rival_ids >= 0
            chosen, of_rivals = targets[has_rival], rival_ids[has_rival]
            margins = _margins(states[has_rival], chosen, of_rivals, logits_of)
        return documents[has_rival.cpu().numpy()], margins

    def _scored(
        self, batch: Sequence[ScoringWindow], sequences: Sequence[Any]
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Return the states at scored positions, the tokens there, and the function to logits."""
        import torch

        width = batch[0].length
        # Padding at the end needs no mask: in a causal model, no scored position attends to it.
        inputs = np.zeros((len(batch), width), dtype=np.int64)
        scored = np.zeros((len(batch), width), dtype=bool)
        wanted = []
        for i, window in enumerate(batch):
            inputs[i, : window.length] = sequences[window.document][window.start : window.end]
            scored[i, window.first - 1 - window.start : window.length] = True
            wanted.append(sequences[window.document][window.first : window.end + 1])
        device = self.model.device
        ids, mask = torch.from_numpy(inputs).to(device), torch.from_numpy(scored).to(device)
        targets = torch.from_numpy(np.concatenate(wanted)).to(device)
        if self.head is None:
            flat = self.model(input_ids=ids, use_cache=False).logits[mask]
            return flat, targets, lambda logits: logits.float()
        return self.hidden(ids)[mask], targets, self.head


@contextmanager
def _scoring(*, sharded: bool) -> Iterator[None]:
    """Compute without gradients, and float32 products without TF32."""
    import torch

    with tf32_products(allowed=False), torch.no_grad() if sharded else torch.inference_mode():
        yield


def _is_sharded(model: Any) -> bool:
    """Return whether several processes share a model (FSDP).

    All of them must call such a model as a whole, and training continues with it afterwards.
    """
    # By name, so that torch's FSDP module need not be imported.
    return "FSDPModule" in [ancestor.__name__ for ancestor in type(model).__mro__]


def _build_head(model: Any) -> Callable[[Tensor], Tensor]:
    """Return the function from hidden states to logits."""
    head, finish = model.get_output_embeddings(), finish_logits(model)
    return lambda hidden: finish(head(hidden))


def _losses(states: Tensor, targets: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Floats:
    """Return the cross-entropy of each target in nats, a block of positions at a time."""
    import torch

    cross_entropy = torch.nn.functional.cross_entropy
    losses = [
        cross_entropy(logits_of(states[part]), targets[part], reduction="none")
        for part in _blocks(states, logits_of)
    ]
    result: Floats = torch.cat(losses).double().cpu().numpy()
    return result


def _margins(
    states: Tensor, tokens: Tensor, rivals: Tensor, logits_of: Callable[[Tensor], Tensor]
) -> Floats:
    """Return the logit of each token minus that of its rival, a block of positions at a time."""
    if not len(states):
        return np.zeros(0)
    margins = []
    for part in _blocks(states, logits_of):
        logits = logits_of(states[part])
        pair = logits.gather(1, tokens[part, None]) - logits.gather(1, rivals[part, None])
        margins.append(pair[:, 0].double().cpu().numpy())
    return np.concatenate(margins)


def _blocks(states: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Iterator[slice]:
    """Yield blocks of positions whose logits fit into `LOGITS_AT_ONCE`."""
    vocabulary = logits_of(states[:1]).shape[-1]
    block = max(1, LOGITS_AT_ONCE // vocabulary)
    for begin in range(0, len(states), block):
        yield slice(begin, begin + block)
