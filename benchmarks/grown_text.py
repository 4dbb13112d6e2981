"""Text of any size from real text, with as many distinct words as real text of that size has.

Real documents are repeated, in another random order each time. Alone, repetition adds no word, so a
counter of words would do less work than on real text. Therefore words of the repeated documents are
replaced, such that the number of distinct words V grows with the number of words n as in the real
text of the language, V = K n^b (Heaps' law). K and b are fitted to the real text: b to its last two
doublings, where it is lowest, and K to its whole size.

The replacements are Simon's process (1955), which gives new words the frequencies of real ones. The
next word is, with the probability that keeps V on the law, a word that never occurred. Otherwise it
is a copy of the word at a random earlier place; if that place was not replaced, the document's own
word stays. A new word is the first half of a real word and the second half of another, so that its
characters and their neighbours are those of the language.
"""

from __future__ import annotations

import json
import math
import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unicodedata import category

from lingraft.corpus.corpus import COUNTS, Counts, DocumentWriter

PUNCTUATION = ".,!?:;\"'()[]«»“”‘’।،؛؟…-–\n\t"
DOUBLINGS = 2
"""The doublings of the real text to which the exponent is fitted."""


@dataclass
class Heaps:
    """Heaps' law of a language, fitted to real text: V = factor x n^exponent."""

    words: int
    distinct: int
    exponent: float

    @classmethod
    def fit(cls, documents: Sequence[str]) -> Heaps:
        """Fit the law to documents in random order."""
        total = sum(len(document.split()) for document in documents)
        seen: set[str] = set()
        words, early = 0, (0, 0)
        for document in documents:
            for word in document.split():
                words += 1
                seen.add(word.strip(PUNCTUATION))
            if not early[0] and words >= total >> DOUBLINGS:
                early = words, len(seen)
        exponent = math.log(len(seen) / early[1]) / math.log(words / early[0])
        return cls(words, len(seen), exponent)

    @property
    def factor(self) -> float:
        """The factor K, at which the law holds for the whole real text."""
        return self.distinct / self.words**self.exponent

    def at(self, words: int) -> float:
        """Return the number of distinct words in so many words."""
        return self.factor * words**self.exponent


@dataclass
class GrowingLanguage:
    """The documents of a language, and the replacements that were made so far."""

    documents: list[str]
    rng: random.Random
    words: int = 0
    known: set[str] = field(default_factory=set)
    replaced: list[str] = field(default_factory=list)
    # Every replaced place, as an index of `replaced`: four bytes for each.
    places: array[int] = field(default_factory=lambda: array("I"))

    def __post_init__(self) -> None:
        self.rng.shuffle(self.documents)
        self.law = Heaps.fit(self.documents)
        for document in self.documents:
            self.known.update(word.strip(PUNCTUATION) for word in document.split())
        halves = [_halves(word) for word in sorted(self.known) if len(word) > 1]
        self.heads = [head for head, _ in halves]
        self.tails = [tail for _, tail in halves]

    def read(self, *, repeated: bool) -> Iterator[str]:
        """Yield all documents once, with words replaced if they are read again."""
        self.rng.shuffle(self.documents)
        for document in self.documents:
            yield self._replace(document) if repeated else document
            self.words += len(document.split())

    def _replace(self, document: str) -> str:
        words = document.split(" ")
        # What is missing up to the end of the document: some places hold a number, or no word.
        missing = self.law.at(self.words + len(words)) - len(self.known)
        new = min(max(missing / len(words), 0), 0.5)
        old = (1 - new) * len(self.places) / self.words
        for place in self._places(len(words), new + old):
            core = words[place].strip(PUNCTUATION)
            if not core or core.isdigit():
                continue
            index = self._next_word(new / (new + old))
            self.places.append(index)
            words[place] = words[place].replace(core, self.replaced[index])
        return " ".join(words)

    def _places(self, size: int, probability: float) -> Iterator[int]:
        """Yield the places of a document that are replaced, each with this probability."""
        if probability <= 0:
            return
        place = -1
        while True:
            # The gap to the next place is geometric: only replaced places take time.
            place += 1 + int(math.log(1 - self.rng.random()) / math.log(1 - probability))
            if place >= size:
                return
            yield place

    def _next_word(self, share_of_new: float) -> int:
        """Return the index of the word of the next replaced place."""
        if self.places and self.rng.random() >= share_of_new:
            return self.places[int(self.rng.random() * len(self.places))]
        while True:
            word = self.rng.choice(self.heads) + self.rng.choice(self.tails)
            if word not in self.known:
                break
        self.known.add(word)
        self.replaced.append(word)
        return len(self.replaced) - 1


def _halves(word: str) -> tuple[str, str]:
    """Cut a word in the middle, not before a combining mark."""
    middle = len(word) // 2
    while middle < len(word) and category(word[middle]).startswith("M"):
        middle += 1
    return word[:middle], word[middle:]


def write_grown_text(
    texts: Mapping[str, list[str]], sizes: Sequence[int], folder: Path, seed: int = 0
) -> dict[str, GrowingLanguage]:
    """Write a corpus of each size, the smaller ones prefixes of the larger ones.

    The corpora are the folders `folder/SIZE`. Returns the languages with their laws.
    """
    languages = {}
    for language, documents in texts.items():
        languages[language] = GrowingLanguage(documents, random.Random(f"{seed} {language}"))
    with ExitStack() as stack:
        writers = {}
        for size in sizes:
            (folder / str(size)).mkdir(parents=True)
            path = folder / str(size) / "train.parquet"
            writers[size] = stack.enter_context(DocumentWriter(path))
        for text in _interleaved(list(languages.values()), seed):
            length = len(text.encode())
            unfinished = [size for size in sizes if writers[size].bytes < size]
            if not unfinished:
                break
            for size in unfinished:
                writers[size].write(text, length)
    for size, writer in writers.items():
        _complete(folder / str(size), writer.counts)
    return languages


def _interleaved(languages: Sequence[GrowingLanguage], seed: int) -> Iterator[str]:
    """Yield the documents of all languages, each in its share of the text, without an end."""
    rng = random.Random(seed)
    repeated = False
    while True:
        # One entry for each document: a random order has every language in its share.
        order: list[int] = []
        for index, language in enumerate(languages):
            order += [index] * len(language.documents)
        rng.shuffle(order)
        streams = [language.read(repeated=repeated) for language in languages]
        for index in order:
            yield next(streams[index])
        for stream in streams:
            next(stream, None)  # counts the words of the last document
        repeated = True


def _complete(folder: Path, counts: Counts) -> None:
    """Write the other files of a corpus."""
    with DocumentWriter(folder / "heldout.parquet"):
        pass
    splits = {"train": asdict(counts), "heldout": asdict(Counts())}
    content = {"format": 1, "language": "mul", "splits": splits}
    (folder / COUNTS).write_text(json.dumps(content), encoding="utf-8")
