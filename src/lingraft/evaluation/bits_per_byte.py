"""Bits per byte: how well a model predicts text, independent of its vocabulary.

Every token is scored, including the first one, which is read after BOS (or EOS if there is no BOS).
The sum of the bits is divided by the UTF-8 bytes of the text.

A document that is longer than the context is read in windows, and every token is predicted exactly
once. The first window predicts as many tokens as the context holds. Each later window moves by the
stride and predicts only its new tokens, with the rest of the context in front of them. With a
stride of the whole context, this equals the rolling log-likelihood of lm-eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lingraft.checkpoint.config_files import context_of
from lingraft.errors import ModelError
from lingraft.evaluation.text_scores import (
    DocumentScores,
    Integers,
    ScoredIds,
    concatenate_ids,
)
from lingraft.evaluation.window_scorer import (
    LOGITS_AT_ONCE,
    ScoringWindow,
    WindowScorer,
    batch_windows,
    split_into_windows,
)
from lingraft.progress import progress
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.separators import start_of_document

LONGEST_CONTEXT = 2048
"""Default limit of the context in tokens."""
BATCH_TOKENS = {"cpu": 2048}
"""Tokens per batch by device type. On a CPU, few tokens are as fast as many, because their hidden
states stay in its cache."""
BATCH_TOKENS_ON_ACCELERATOR = 32768
"""Tokens per batch on any other device: an accelerator is only busy with many."""


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

    `context` is the window size in tokens (default: the model's limit, at most 2,048); a window
    moves by `stride` tokens (default: half of the context). Raises `ModelError` if the context is
    larger than the model's, and where `score_ids` does.
    """
    ids = tokenizer.encode(documents)
    context = choose_context(model, context)
    stride = choose_stride(context, stride)
    scored = score_ids(
        model, tokenizer, ids, context=context, stride=stride, batch_tokens=batch_tokens
    )
    return DocumentScores(
        scored.nats,
        np.array([len(text.encode()) for text in documents], dtype=np.float64),
        np.array(list(map(len, ids)), dtype=np.float64),
        context,
        stride,
        concatenate_ids(ids),
        scored.token_nats,
        scored.notes,
    )


def choose_stride(context: int, wanted: int | None = None) -> int:
    """Return the tokens by which a window moves: `wanted`, or half of the context."""
    return min(wanted or max(1, context // 2), context)


def score_ids(
    model: Any,
    tokenizer: ModelTokenizer,
    ids: Sequence[Sequence[int]],
    *,
    context: int,
    stride: int,
    batch_tokens: int | None = None,
) -> ScoredIds:
    """Return the nats of each document and of its tokens; `ids` are those of the tokenizer.

    Raises `ModelError` if the tokenizer has neither BOS nor EOS, or if the text has a token for
    which the model has no embedding row.
    """
    start = start_id(tokenizer)
    sequences = [np.array([start, *part], dtype=np.int64) for part in ids]
    _check_rows(model, tokenizer, sequences)
    windows: list[ScoringWindow] = []
    for number, sequence in enumerate(sequences):
        windows.extend(split_into_windows(number, len(sequence) - 1, context, stride))
    nats = np.zeros(len(ids))
    lengths = list(map(len, ids))
    token_nats, begins = np.zeros(sum(lengths)), np.cumsum([0, *lengths])
    scorer = WindowScorer.of(model, windows, sequences)
    size = batch_size(model, scorer, context, batch_tokens)
    with progress("scoring", sum(window.length for window in windows), unit="tokens") as advance:
        for batch in batch_windows(windows, size):
            documents, places, read = [], [], 0
            for window in batch:
                # Token 1 of a sequence is the first one of the document.
                begin = begins[window.document] + window.first - 1
                places.append(np.arange(begin, begin + window.scored))
                documents.append(window.document)
                read += window.length
            found = scorer.nats(batch, sequences)
            token_nats[np.concatenate(places)] = found
            owners = np.repeat(documents, list(map(len, places)))
            nats += np.bincount(owners, weights=found, minlength=len(nats))
            advance(read)
    return ScoredIds(nats, token_nats, scorer.notes)


def _check_rows(model: Any, tokenizer: ModelTokenizer, sequences: Sequence[Integers]) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max((int(sequence.max()) for sequence in sequences), default=0)
    if highest >= rows:
        msg = (
            f"{tokenizer.folder}: the text needs the token with the id {highest:,}, but the model "
            f"has {rows:,} embedding rows; add rows first (lingraft.resize), or use the model's "
            "own tokenizer"
        )
        raise ModelError(msg)


def batch_size(model: Any, scorer: WindowScorer, context: int, wanted: int | None = None) -> int:
    """Return the tokens that a model reads at once: `wanted`, or as many as its device suits."""
    if scorer.head is None:
        # The logits of all positions are in memory at once, not only a block of them.
        return int(max(context, LOGITS_AT_ONCE // model.config.get_text_config().vocab_size))
    return wanted or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ON_ACCELERATOR)


def start_id(tokenizer: ModelTokenizer) -> int:
    """Return the id before a text: the token that begins a document in packed text (BOS or EOS).

    Raises `ModelError` if the tokenizer has neither.
    """
    start = start_of_document(tokenizer, tokenizer.separator)
    if start is not None:
        return start
    msg = (
        f"{tokenizer.folder}: neither a BOS nor an EOS token, so the first token has no context; "
        "name one in tokenizer_config.json (bos_token) or config.json (bos_token_id)"
    )
    raise ModelError(msg)


def choose_context(model: Any, wanted: int | None = None) -> int:
    """Return the window size in tokens; raises `ModelError` if `wanted` is above the limit."""
    limit = context_of(model.config.get_text_config().to_dict())
    if wanted and limit and wanted > limit:
        msg = (
            f"{model.name_or_path}: a context of {wanted:,} tokens is wanted, but the model has "
            f"{limit:,}; lower evaluation.context"
        )
        raise ModelError(msg)
    return wanted or min(limit or LONGEST_CONTEXT, LONGEST_CONTEXT)
