"""Cutting documents into windows of at most a context, so that every token is predicted exactly once.

A document is the token that begins a text (BOS, or EOS for models without one) followed by its ids. The first window
predicts as many tokens as the context holds; each later one moves by the stride and predicts the tokens that are new in
it, with the rest of the context before them. With a stride of the whole context this is what lm-eval's rolling
log-likelihood does.

Bits per byte: how well a model predicts text, independent of its vocabulary.

Every byte is scored, those of the first token too (BOS or else EOS is its context), and divided by the bytes of the
text itself. Long documents are read through a sliding window. The head, whose logits are the largest thing in memory,
is applied to a block of scored positions at a time, so that a document of any length fits.

On a processor this costs what the matrix products cost, and so does any scorer that reads one document at a time;
what batches by length save is the padding of mixed documents, and on an accelerator the many small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.errors import ModelError
from lingraft.evaluation.bootstrap import Floats
from lingraft.progress import progress
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.separators import start_of_document

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoringWindow:
    """Inputs `start` to `end` (exclusive) of a document's sequence; tokens `first` to `end` (inclusive) are scored."""

    document: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """How many tokens the model reads."""
        return self.end - self.start


def windows_of(document: int, tokens: int, context: int, stride: int) -> Iterator[ScoringWindow]:
    """Yield the windows of a document of so many tokens.

    >>> [(w.start, w.first, w.end) for w in windows_of(0, tokens=7, context=4, stride=2)]
    [(0, 1, 4), (2, 5, 6), (3, 7, 7)]
    """
    first = 1
    while first <= tokens:
        end = min(tokens, first - 1 + (context if first == 1 else stride))
        yield ScoringWindow(document, max(0, end - context), first, end)
        first = end + 1


def batches_of(windows: Sequence[ScoringWindow], tokens: int) -> Iterator[list[ScoringWindow]]:
    """Yield windows of similar length together, the longest first, at most so many tokens with their padding."""
    batch: list[ScoringWindow] = []
    for window in sorted(windows, key=lambda window: -window.length):
        if batch and batch[0].length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


LONGEST_CONTEXT = 2048
BATCH_TOKENS = {"cpu": 2048}
BATCH_TOKENS_ON_ACCELERATOR = 32768
"""A processor is as fast with few tokens at a time, whose states stay in its cache; an accelerator is not."""
LOGITS_AT_ONCE = 16 * 2**20
"""Numbers in one block of logits: 64 MB in float32."""


@dataclass(frozen=True)
class DocumentScores:
    """Per document: nats (negative log-likelihood), bytes and tokens; and how they were scored."""

    nats: Floats
    bytes: Floats
    tokens: Floats
    context: int
    stride: int
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> Floats:
        """Bits of each document."""
        return self.nats * (1 / log(2))

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte over all documents."""
        return float(self.bits.sum() / self.bytes.sum())


def bits_per_byte(
    model: Any,
    tokenizer: ModelTokenizer,
    documents: Sequence[str],
    *,
    context: int | None = None,
    stride: int | None = None,
    batch_tokens: int | None = None,
) -> DocumentScores:
    """Score documents with a transformers model.

    `context` tokens are seen at once (default: the model's limit, at most 2,048), a window moves by `stride` (default:
    half of it). Raises `ModelError` for a context that the model does not have, or a model with neither BOS nor EOS.
    """
    ids = tokenizer.encode(documents)
    context = context_of(model, context)
    stride = stride_of(context, stride)
    nats, notes = nats_of(
        model, start_id(tokenizer), ids, context=context, stride=stride, batch_tokens=batch_tokens
    )
    return DocumentScores(
        nats,
        np.array([len(text.encode()) for text in documents], dtype=np.float64),
        np.array([len(part) for part in ids], dtype=np.float64),
        context,
        stride,
        notes,
    )


def stride_of(context: int, wanted: int | None = None) -> int:
    """Return by how many tokens a window moves: half of the context unless another stride is wanted."""
    return min(wanted or max(1, context // 2), context)


def nats_of(
    model: Any,
    start: int,
    ids: Sequence[Sequence[int]],
    *,
    context: int,
    stride: int,
    batch_tokens: int | None = None,
) -> tuple[Floats, tuple[str, ...]]:
    """Return the nats of each document, given by its ids and read behind `start`, and how they were computed."""
    sequences = [np.array([start, *part], dtype=np.int64) for part in ids]
    windows = [
        window
        for number, sequence in enumerate(sequences)
        for window in windows_of(number, len(sequence) - 1, context, stride)
    ]
    nats = np.zeros(len(ids))
    scorer = _Scorer.of(model, windows, sequences)
    size = batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ON_ACCELERATOR)
    if scorer.head is None:
        size = max(context, LOGITS_AT_ONCE // model.config.get_text_config().vocab_size)
    with progress("scoring", sum(window.length for window in windows), unit="tokens") as advance:
        for batch in batches_of(windows, size):
            owners = np.repeat(
                [window.document for window in batch], [w.end + 1 - w.first for w in batch]
            )
            nats += np.bincount(owners, weights=scorer.nats(batch, sequences), minlength=len(nats))
            advance(sum(window.length for window in batch))
    return nats, scorer.notes


def start_id(tokenizer: ModelTokenizer) -> int:
    """Return the id that stands before a text, as in packed text: BOS, or else the token that ends documents."""
    found = start_of_document(tokenizer, tokenizer.separator)
    if found is not None:
        return found
    msg = (
        f"{tokenizer.folder}: neither a BOS nor an EOS token, so nothing can stand before the first token; name one "
        f"in tokenizer_config.json (bos_token) or config.json (bos_token_id)"
    )
    raise ModelError(msg)


def context_of(model: Any, wanted: int | None = None) -> int:
    """Return how many tokens the model may see at once; raises `ModelError` where more are wanted than it has."""
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    limits = [
        limit
        for name in names
        if isinstance(limit := getattr(config, name, None), int) and limit > 0
    ]
    if wanted and limits and wanted > limits[0]:
        msg = (
            f"a context of {wanted:,} tokens is wanted, {model.name_or_path} has {limits[0]:,}; "
            f"lower evaluation.context"
        )
        raise ModelError(msg)
    return wanted or min([*limits[:1], LONGEST_CONTEXT])


@dataclass(frozen=True)
class _Scorer:
    """A model with its head apart, where that gives the model's own logits; else `head` is `None`."""

    model: Any
    head: Callable[[Tensor], Tensor] | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, model: Any, windows: Sequence[ScoringWindow], sequences: Sequence[Any]) -> _Scorer:
        """Take the head apart and check on a few tokens that body and head together are the model."""
        import torch

        if _is_sharded(model):
            return cls(model, None, ("sharded: whole logits were made",))
        apart = cls(model, _head_of(model), ())
        if not windows:
            return apart
        sample = torch.from_numpy(sequences[windows[0].document][:8])[None].to(model.device)
        with torch.inference_mode():
            expected = model(input_ids=sample, use_cache=False).logits.float()
            try:
                got = apart.head(apart.hidden(sample)) if apart.head else expected[..., :0]
                same = got.shape == expected.shape and torch.allclose(
                    got, expected, rtol=1e-3, atol=1e-3
                )
            except (AttributeError, TypeError, RuntimeError):
                same = False
        note = (
            f"{type(model).__name__}: the head could not be taken apart, so whole logits were made"
        )
        return apart if same else cls(model, None, (note,))

    def hidden(self, ids: Tensor) -> Tensor:
        """Return the hidden states that the head reads, [batch, tokens, width]."""
        states: Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def nats(self, batch: Sequence[ScoringWindow], sequences: Sequence[Any]) -> Floats:
        """Return the nats of every scored token, window after window."""
        import torch

        width = batch[0].length
        inputs = np.zeros(
            (len(batch), width), dtype=np.int64
        )  # causal: what pads the end is seen by nothing scored
        scored = np.zeros((len(batch), width), dtype=bool)
        for row, window in enumerate(batch):
            inputs[row, : window.length] = sequences[window.document][window.start : window.end]
            scored[row, window.first - 1 - window.start : window.length] = True
        wanted = np.concatenate([sequences[w.document][w.first : w.end + 1] for w in batch])
        device = self.model.device
        with torch.no_grad() if _is_sharded(self.model) else torch.inference_mode():
            ids, mask = torch.from_numpy(inputs).to(device), torch.from_numpy(scored).to(device)
            targets = torch.from_numpy(wanted).to(device)
            if self.head is None:
                flat = self.model(input_ids=ids, use_cache=False).logits[mask]
                return _losses(flat, targets, lambda logits: logits.float())
            return _losses(self.hidden(ids)[mask], targets, self.head)


def _is_sharded(model: Any) -> bool:
    """Say whether several processes hold a model: it has to be called as a whole, by all, and will be trained on."""
    return any(kind.__name__ == "FSDPModule" for kind in type(model).__mro__)


def _head_of(model: Any) -> Callable[[Tensor], Tensor]:
    head, cap = (
        model.get_output_embeddings(),
        getattr(model.config.get_text_config(), "final_logit_softcapping", None),
    )

    def logits_of(hidden: Tensor) -> Tensor:
        logits: Tensor = head(hidden).float()
        return (logits / cap).tanh() * cap if cap else logits

    return logits_of


def _losses(states: Tensor, targets: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Floats:
    import torch
    from torch.nn.functional import cross_entropy

    first = logits_of(states[:1])
    rows = max(1, LOGITS_AT_ONCE // first.shape[-1])
    losses = [
        cross_entropy(
            logits_of(states[begin : begin + rows]), targets[begin : begin + rows], reduction="none"
        )
        for begin in range(0, len(states), rows)
    ]
    result: Floats = torch.cat(losses).double().cpu().numpy()
    return result
