"""Counting the words of a corpus, from which tokens are learned, within a limit on memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lingraft.corpus import Corpus
from lingraft.progress import Advance, progress
from lingraft.store import Draft
from lingraft.tokenizer import Family
from lingraft.tokenizer.special_text import describe_mentions, most_frequent_first
from lingraft.workers import Workers

# Distinct words per corpus. The index of the learner takes under 56 bytes a symbol; its peak with
# 600,000 words was 497 MB.
MAX_WORDS = 1_000_000

# Documents that a worker counts in one task: enough that sending them costs little.
_DOCUMENTS_PER_TASK = 1000


@dataclass(frozen=True)
class CorpusWords:
    """The units of a corpus with their counts, and the special tokens that its text spells."""

    language: str
    bytes: int
    units: Counter[str]
    mentions: Counter[str]


def count_words(family: Family, corpus: Corpus, workers: Workers) -> CorpusWords:
    """Count the units of the training documents; the result does not depend on the workers."""
    train = corpus.counts("train")
    mentions: Counter[str] = Counter()
    with progress(f"counting {corpus.language} pre-tokens", train.documents) as advance:
        texts = _count_mentions(corpus.documents("train"), advance, family, mentions)
        if workers.is_serial:
            units = family.units(texts)
        else:
            units = Counter()
            # Reads the documents lazily; the empty list at their end stops the iterator.
            tasks = iter(lambda: list(islice(texts, _DOCUMENTS_PER_TASK)), [])
            for task_units in workers.map(_units, family, tasks):
                units.update(task_units)
    return CorpusWords(corpus.language, train.bytes, units, mentions)


# A module-level function: processes and Ray tasks must be able to pickle it.
def _units(family: Family, texts: Sequence[str]) -> Counter[str]:
    return family.units(texts)


def _count_mentions(
    texts: Iterator[str], advance: Advance, family: Family, mentions: Counter[str]
) -> Iterator[str]:
    """Yield the texts unchanged, and count the special tokens that they spell in `mentions`."""
    for text in texts:
        mentions.update(family.special_text.mentions(text))
        yield text
        advance(1)


def limit_words(words: CorpusWords, draft: Draft) -> CorpusWords:
    """Keep the `MAX_WORDS` most frequent words; warn if there are more."""
    units, highest_left_out = most_frequent(words.units, MAX_WORDS)
    if len(units) < len(words.units):
        draft.warn(
            f"text in {words.language}: tokens are learned from the {MAX_WORDS:,} most frequent of "
            f"{len(words.units):,} distinct pre-tokens; each of the others occurs at most "
            f"{highest_left_out:,} times"
        )
    return replace(words, units=units)


def most_frequent(counts: Counter[str], limit: int) -> tuple[Counter[str], int]:
    """Return the `limit` most frequent words, and the highest count of the others (0 for none).

    Words with equal counts are taken in code point order, so the result does not depend on the
    order of counting.

    >>> most_frequent(Counter(b=1, a=1, c=2), 2)
    (Counter({'c': 2, 'a': 1}), 1)
    """
    if len(counts) <= limit:
        return counts, 0
    ranked = heapq.nsmallest(limit + 1, counts.items(), key=_by_frequency)
    return Counter(dict(ranked[:limit])), ranked[limit][1]


def _by_frequency(item: tuple[str, int]) -> tuple[int, str]:
    word, count = item
    return -count, word


def report_special_tokens(corpora: Sequence[CorpusWords], draft: Draft) -> None:
    """Warn of special tokens that the training text of a language spells, and note their counts."""
    total: Counter[str] = Counter()
    for words in corpora:
        total += words.mentions
    if total:
        draft.notes["special tokens spelled in the text"] = most_frequent_first(total)
    for words in corpora:
        if words.mentions:
            draft.warn(f"text in {words.language}: {describe_mentions(words.mentions)}")
