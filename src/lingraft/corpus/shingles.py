"""The shingles of a text: the hashes of all runs of five words, by which near-duplicates are found.

The similarity of two documents is the share of shingles that both have (Jaccard). Case, digits and
punctuation do not count. In scripts without spaces between words, a character is a word.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import regex

from lingraft.text_units import UNSPACED_SCRIPTS, letters_in

SHINGLE_WORDS = 5
MIN_SHINGLES, MIN_COMPARED_CHARACTERS = 16, 100
"""Shorter documents are not compared: they are alike by chance."""
_WORD = regex.compile(rf"{letters_in(UNSPACED_SCRIPTS)}|[\p{{L}}\p{{M}}]+")

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def shingles(text: str) -> Hashes:
    """Return the shingles in order, without repetitions; none of a text too short to compare."""
    words = _WORD.findall(text.casefold()) if len(text) >= MIN_COMPARED_CHARACTERS else []
    count = len(words) - SHINGLE_WORDS + 1
    combined = np.zeros(max(count, 0), dtype=np.uint64)
    values = np.array(list(map(hash_word, words)), dtype=np.uint64)
    for offset in range(SHINGLE_WORDS if count > 0 else 0):
        combined = combined * _FACTOR + values[offset : offset + count]
    found: Hashes = np.unique(combined)
    return found if found.size >= MIN_SHINGLES else found[:0]


@lru_cache(maxsize=1 << 16)
def hash_word(word: str) -> int:
    """Return a hash of 64 bits."""
    # Not Python's hash, which differs from process to process: a finding is stored with the corpus.
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Return the similarity of two documents by their shingles.

    >>> jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64))
    0.5
    """
    common = np.intersect1d(one, other, assume_unique=True).size
    return float(common / (one.size + other.size - common))
