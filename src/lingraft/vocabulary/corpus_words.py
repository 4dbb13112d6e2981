"""Counting the words of a corpus, from which tokens are learned, within a limit on memory.

Workers read parts of the corpus from its folder and count the chunks between spaces. The distinct
chunks of all parts are then cut into units, again in parts (`lingraft.tokenizer.unit_table`). The
parts do not depend on the workers, and counts are sums, so the result does not depend on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from lingraft.corpus import Corpus
from lingraft.display_text import text_in
from lingraft.progress import progress
from lingraft.store import Draft
from lingraft.tokenizer import Family
from lingraft.tokenizer.special_text import describe_mentions, most_frequent_first
from lingraft.workers import HERE, Workers

if TYPE_CHECKING:
    import pyarrow as pa

    from lingraft.tokenizer.unit_table import TextChunks

# Distinct words per corpus. The index of the learner takes under 56 bytes a symbol; its peak with
# 600,000 words was 497 MB.
MAX_WORDS = 1_000_000

# Text that a worker counts in one task. It holds several times as much meanwhile.
PART_BYTES = 8 * 10**6
CHUNKS_PER_TASK = 250_000


@dataclass(frozen=True)
class CorpusWords:
    """The units of a corpus with their counts, and the special tokens that its text spells.

    If there are more units than were asked for, `units` are the most frequent of `distinct` ones,
    `highest_left_out` is the highest count of the others, and `kept_share` is the share of the text
    that `units` are, by the characters of units (in a byte-level tokenizer, these are bytes).
    """

    language: str
    bytes: int
    units: Counter[str]
    mentions: Counter[str]
    distinct: int
    highest_left_out: int = 0
    kept_share: float = 1.0


def count_words(
    family: Family, corpus: Corpus, workers: Workers, max_words: int | None = None
) -> CorpusWords:
    """Count the units of the training documents, and return the `max_words` most frequent ones.

    Of equally frequent ones, the first in code point order are returned. The result does not
    depend on the workers. Raises `StoreError` if the corpus cannot be read.
    """
    from lingraft.tokenizer import unit_table

    train = corpus.counts("train")
    mentions: Counter[str] = Counter()
    first, units = [], []
    parts = corpus.parts("train", PART_BYTES)
    # Starting workers takes seconds, so a single part is counted here.
    with (
        progress(f"counting {corpus.language} pre-tokens", train.documents) as advance,
        (workers if len(parts) > 1 else HERE).start(_count_or_cut, (family, corpus)) as run,
    ):

        def rest_of_parts() -> Iterator[pa.Table]:
            for counted in run(parts):
                mentions.update(counted.mentions)
                first.append(counted.chunks.first)
                units.append(counted.chunks.units)
                yield counted.chunks.rest
                advance(counted.documents)

        # Before `first`, which is complete then. Nothing else refers to the table of the rest.
        rest = _slices("cut_rest", unit_table.sum_tables(rest_of_parts()))
        slices = chain(_slices("cut_first", unit_table.sum_tables(first)), rest)
        table = unit_table.sum_tables(chain(units, run(slices)))
    table = unit_table.without_special(family, table)
    kept, highest_left_out = unit_table.most_frequent(table, max_words or len(table))
    kept_share = 1.0
    if len(kept) < len(table):
        kept_share = unit_table.count_characters(kept) / unit_table.count_characters(table)
    units_of_text, distinct = unit_table.counter_of(kept), len(table)
    del table, kept
    unit_table.release_memory()
    return CorpusWords(
        corpus.language,
        train.bytes,
        units_of_text,
        mentions,
        distinct,
        highest_left_out,
        kept_share,
    )


def _slices(function: str, chunks: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield chunks in the amounts of a task, each with the function that cuts them."""
    from lingraft.tokenizer import unit_table

    return zip(repeat(function), unit_table.split_rows(chunks, CHUNKS_PER_TASK))


class _CountedPart(NamedTuple):
    documents: int
    mentions: Counter[str]
    chunks: TextChunks


# A module-level function: processes and Ray tasks must be able to pickle it.
def _count_or_cut(shared: tuple[Family, Corpus], task: range | tuple[str, pa.Table]) -> Any:
    """Count the chunks of a part of the corpus, or cut chunks into units."""
    from lingraft.tokenizer import unit_table

    family, corpus = shared
    if not isinstance(task, range):
        function, chunks = task
        return getattr(unit_table, function)(family, chunks)
    texts = corpus.text_column("train", task)
    mentions = unit_table.count_mentions(family, texts)
    return _CountedPart(len(texts), mentions, unit_table.count_chunks(family, texts))


def report_left_out(words: CorpusWords, draft: Draft) -> None:
    """Warn if a corpus has more words than tokens are learned from."""
    if len(words.units) < words.distinct:
        draft.warn(
            f"{text_in(words.language)}: tokens are learned from the {len(words.units):,} most "
            f"frequent of {words.distinct:,} distinct pre-tokens; each of the others occurs at "
            f"most {words.highest_left_out:,} times"
        )


def report_special_tokens(corpora: Sequence[CorpusWords], draft: Draft) -> None:
    """Warn of special tokens that the training text of a language spells, and note their counts."""
    total: Counter[str] = Counter()
    for words in corpora:
        total += words.mentions
    if total:
        draft.notes["special tokens spelled in the text"] = most_frequent_first(total)
    for words in corpora:
        if words.mentions:
            draft.warn(f"{text_in(words.language)}: {describe_mentions(words.mentions)}")
