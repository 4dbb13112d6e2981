"""Pack documents into sequences of tokens on disk (`blocks`).

In the layout `stream`, documents follow each other and are cut into full sequences; only the last
one is short. Sequences overlap by one token, so every token of the text is predicted exactly once.
The first token of a document is predicted from BOS or EOS. In the layout `documents`, each document
is a sequence, cut at the block size. BOS is context and never predicted.

A sequence counts the bytes of text that its tokens cover (`shards.covered_bytes`).

Sequences are written one after another, so a corpus of any size needs a few megabytes of memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lingraft.corpus import Corpus
from lingraft.display_text import text_in
from lingraft.errors import CorpusError
from lingraft.packing.blocks import SPANS, SUMMARY, TOKENS, PackingSummary
from lingraft.packing.chat_encoder import NO_TEMPLATE, ChatEncoder
from lingraft.packing.config import PackingSettings
from lingraft.packing.shards import DOCUMENTS, Integers, Shard, tokenise_in_shards
from lingraft.progress import progress
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.chat_template import ChatTemplate
from lingraft.tokenizer.separators import Separators, separators_of
from lingraft.tokenizer.special_text import describe_mentions, most_frequent_first
from lingraft.workers import HERE, Workers

NO_TEXT = (
    "there is no text to train on: every document is empty; see the dropped documents in "
    "counts.json"
)


def pack_corpus(
    corpus: Corpus,
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    draft: Draft,
    *,
    context: int | None = None,
    split: str = "train",
    workers: Workers = HERE,
    scratch_dir: Path | None = None,
    separators: Separators | None = None,
    template: ChatTemplate | None = None,
) -> None:
    """Pack a split of a corpus into `draft`; raise `CorpusError` if it has no text.

    `context` is the context length of the model. `separators` are those of the source model: the
    folder of an extended tokenizer lacks some of the files that determine them. `template` renders
    conversations. `workers` tokenise the text in shards. These are stored in `scratch_dir`, so that
    a killed run can resume; neither changes the output.
    """
    separators = separators or separators_of(tokenizer, settings.separator)
    draft.notes["separators"] = separators.shown
    chats = None
    if template and corpus.has_chats:
        chats = ChatEncoder(tokenizer, template.at_training_date())
    if corpus.has_chats and chats is None:
        msg = f"{text_in(corpus.language)}: holds conversations (format: chat), and {NO_TEMPLATE}"
        raise CorpusError(msg)
    count = corpus.counts(split).documents
    with progress(f"packing {corpus.language}", count, unit="documents") as advance:

        def batches_with_progress() -> Iterator[list[str]]:
            for texts in corpus.batches(split, DOCUMENTS):
                yield texts
                advance(len(texts))

        batches = batches_with_progress()
        shards = tokenise_in_shards(
            batches, tokenizer, workers=workers, scratch_dir=scratch_dir, chats=chats
        )
        summary = pack_shards(
            shards, tokenizer, settings, draft.folder, context=context, separators=separators
        )
    draft.notes.update(_notes_of(summary))
    if summary.refused:
        reasons = ", ".join(f"{number:,}: {reason}" for reason, number in summary.refused.items())
        refused = sum(summary.refused.values())
        draft.warn(
            f"{text_in(corpus.language)}: {refused:,} conversations are left out ({reasons})"
        )
    if summary.mentions:
        draft.warn(f"{text_in(corpus.language)}: {describe_mentions(summary.mentions)}")


def _notes_of(summary: PackingSummary) -> dict[str, Any]:
    """Return the notes on packed text for the manifest."""
    return {**asdict(summary), "bytes_per_token": round(summary.bytes / max(summary.tokens, 1), 4)}


def pack_texts(
    batches: Iterable[Sequence[str]],
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    folder: Path,
) -> PackingSummary:
    """Tokenise batches of texts in this process and pack them into a folder."""
    shards = tokenise_in_shards(batches, tokenizer)
    return pack_shards(shards, tokenizer, settings, folder)


def pack_shards(
    shards: Iterable[Shard],
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    folder: Path,
    *,
    context: int | None = None,
    separators: Separators | None = None,
) -> PackingSummary:
    """Pack tokenised documents into a folder; raise `CorpusError` if there are none.

    Without `separators`, those of the tokenizer are used.
    """
    separators = separators or separators_of(tokenizer, settings.separator)
    before, after = separators.ids(tokenizer)
    block = settings.sequence_length(context)
    writer_class = _StreamWriter if settings.layout == "stream" else _DocumentWriter
    mentions, refused, chats = Counter[str](), Counter[str](), 0
    with (folder / TOKENS).open("wb") as tokens, (folder / SPANS).open("wb") as spans:
        writer = writer_class(tokens, spans, block, before, after)
        for shard in shards:
            mentions.update(shard.mentions)
            refused.update(shard.refused)
            chats += shard.chats
            for ids, sizes in shard:
                writer.add(ids, sizes)
        writer.close()
    summary = PackingSummary(
        block=block,
        rows=writer.sequences,
        tokens=writer.tokens,
        bytes=writer.bytes,
        documents=writer.documents,
        before=before,
        after=after,
        dropped_tokens=writer.dropped_tokens,
        dropped_bytes=writer.dropped_bytes,
        mentions=most_frequent_first(mentions),
        chats=chats,
        refused=most_frequent_first(refused),
        control=sorted(tokenizer.family.control),
    )
    if not summary.rows:
        raise CorpusError(NO_TEXT)
    # Written last: a folder without a summary is not complete.
    (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")
    return summary


class _SequenceWriter:
    """Writes sequences to the two files and counts them."""

    def __init__(
        self, tokens: BinaryIO, spans: BinaryIO, block: int, before: int | None, after: int | None
    ) -> None:
        self._token_file, self._span_file = tokens, spans
        self.block, self.before, self.after = block, before, after
        self.sequences = self.tokens = self.bytes = self.documents = 0
        self.dropped_tokens = self.dropped_bytes = 0
        self.start = 0

    def add(self, ids: Integers, sizes: Integers) -> None:
        """Append a document."""
        raise NotImplementedError

    def close(self) -> None:
        """Write the last sequence, if it is not written yet."""

    def _strip_separators(self, ids: Integers, sizes: Integers) -> tuple[Integers, Integers]:
        """Remove separators at the ends, which a chat template may have written; text has none."""
        first = int(len(ids) > 1 and int(ids[0]) == self.before)
        last = len(ids) - int(len(ids) > 1 and int(ids[-1]) == self.after)
        return ids[first:last], sizes[first:last]

    def _write_span(self, length: int, size: int, documents: int) -> None:
        span = np.array([self.start, length, size, documents], dtype=np.int64)
        self._span_file.write(span.tobytes())
        self.sequences += 1
        self.tokens += length
        self.bytes += size
        self.documents += documents

    def _write_tokens(self, ids: Integers) -> None:
        self._token_file.write(ids.astype(np.uint32).tobytes())


class _StreamWriter(_SequenceWriter):
    """Writes documents one after another.

    The ids are written at once, and the spans when a sequence is full. `_sizes` and `_begins`
    describe the tokens after the last full sequence: the bytes of each, and 1 for the first token
    of a document.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sizes = self._begins = np.zeros(0, dtype=np.int64)
        self._started = False

    def add(self, ids: Integers, sizes: Integers) -> None:
        """Append a document, with the separators before and after it."""
        ids, sizes = self._strip_separators(ids, sizes)
        # Without BOS, the first document of the stream needs EOS as context for its first token.
        context = self.before if self.before is not None else self.after
        has_context = self.before is not None or not self._started
        head = np.array([context] if has_context else [], dtype=np.int64)
        tail = np.array([self.after] if self.after is not None else [], dtype=np.int64)
        self._write_tokens(np.concatenate([head, ids, tail]))
        # The first token of the stream is context only: it belongs to no sequence.
        first = len(head) if self._started else 0
        counted, begins = np.zeros((2, first + len(ids) + len(tail)), dtype=np.int64)
        counted[first : first + len(ids)] = sizes
        begins[first] = 1
        self._sizes = np.concatenate([self._sizes, counted])
        self._begins = np.concatenate([self._begins, begins])
        self._started = True
        while len(self._sizes) >= self.block:
            self._cut(self.block)

    def close(self) -> None:
        """Write the last sequence, which is short."""
        if len(self._sizes):
            self._cut(len(self._sizes))

    def _cut(self, length: int) -> None:
        self._write_span(length, int(self._sizes[:length].sum()), int(self._begins[:length].sum()))
        self._sizes, self._begins = self._sizes[length:], self._begins[length:]
        self.start += length


class _DocumentWriter(_SequenceWriter):
    """Writes one document per sequence, cut at `block` predicted tokens."""

    def add(self, ids: Integers, sizes: Integers) -> None:
        """Append a document as a sequence."""
        ids, sizes = self._strip_separators(ids, sizes)
        context = self.before if self.before is not None else self.after
        predicted = [*ids, self.after] if self.after is not None else ids
        kept = predicted[: self.block]
        self._write_tokens(np.array([context, *kept], dtype=np.int64))
        size = int(sizes[: self.block].sum())
        self.dropped_tokens += len(predicted) - len(kept)
        self.dropped_bytes += int(sizes.sum()) - size
        self._write_span(len(kept), size, 1)
        # Sequences do not overlap here: each has its own context id.
        self.start += len(kept) + 1
