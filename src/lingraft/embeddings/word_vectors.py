"""Readers for files of word vectors (one language per file, the most frequent word first).

`.vec` and `.txt` (also `.gz`) hold an optional line "COUNT WIDTH", then a word and its numbers on
each line, as fastText writes them. `.npz` holds the arrays `words` (text) and `vectors`.
`.safetensors` holds a tensor `vectors`; the key `words` of its metadata is a JSON list of the
words. Nothing is unpickled. Suffixes: W words, E size of the vectors.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lingraft.errors import ModelError, one_line

# zipfile raises RuntimeError for a member that is encrypted or compressed in an unknown way, which
# is what a damaged header looks like.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of these formats raise for a damaged file."""

_HEADER = re.compile(r"(\d+) \d+\s*")


@dataclass(frozen=True)
class WordVectors:
    """Words, the most frequent first, and a float32 vector for each, [W, E]."""

    words: Sequence[str]
    vectors_WE: Any  # noqa: N815

    @property
    def width(self) -> int:
        """The size of a vector."""
        return int(self.vectors_WE.shape[1])


def read_word_vectors(path: Path, max_words: int) -> WordVectors:
    """Read the first `max_words` words of a file, by its suffix.

    Raises `ModelError` if the file is unreadable or empty, or holds a vector that is not finite.
    """
    readers = {".vec": _text, ".txt": _text, ".npz": _npz, ".safetensors": _safetensors}
    # The suffix before .gz names the format.
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind not in readers:
        msg = (
            f"{path}: word vectors are read from {', '.join(readers)} (.vec and .txt also .gz), "
            f"got {path.suffix!r}; convert the file to one of these"
        )
        raise ModelError(msg)
    with vector_errors(path):
        words, vectors_WE = readers[kind](path, max_words)
        if len(words) == len(vectors_WE):  # otherwise `check_vectors` reports both numbers
            words, vectors_WE = words[:max_words], vectors_WE[:max_words]
        # A number beyond float32 becomes inf, which is an error below.
        with np.errstate(over="ignore"):
            vectors_WE = np.asarray(vectors_WE, dtype=np.float32)
    return check_vectors(path, words, vectors_WE)


@contextmanager
def vector_errors(path: Path) -> Iterator[None]:
    """Raise `ModelError` with the path and the reason where a reader fails on a file."""
    try:
        yield
    except UNREADABLE as error:
        msg = (
            f"{path}: cannot be read as word vectors ({one_line(error)}); correct or replace the "
            "file"
        )
        raise ModelError(msg) from error


def check_vectors(path: Path, words: Sequence[str], vectors_WE: Any) -> WordVectors:
    """Return words and vectors that were read from a file.

    Raises `ModelError` if a word has no vector of its own, or one that is not finite.
    """
    if vectors_WE.ndim != 2 or len(words) != len(vectors_WE) or not len(words):
        msg = (
            f"{path}: {len(words):,} words, but vectors of shape {vectors_WE.shape}; "
            "each word needs one vector"
        )
        raise ModelError(msg)
    if not np.isfinite(vectors_WE).all():
        word = words[int(np.argwhere(~np.isfinite(vectors_WE))[0][0])]
        msg = f"{path}: the vector of {word!r} is not finite; remove it from the file"
        raise ModelError(msg)
    return WordVectors(words, vectors_WE)


def _text(path: Path, max_words: int) -> tuple[list[str], Any]:
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        header = _HEADER.fullmatch(file.readline())
        file.seek(0)
        words: list[str] = []
        vectors: list[Any] = []
        for number, word, values in itertools.islice(_lines(file), max_words):
            if vectors and len(values) != len(vectors[0]):
                msg = (
                    f"line {number}: {len(values)} numbers for {word!r}, "
                    f"{len(vectors[0])} for the words before"
                )
                raise ValueError(msg)
            words.append(word)
            try:
                vectors.append(np.array(values, dtype=np.float32))
            except ValueError as error:
                msg = f"line {number}: {error}"
                raise ValueError(msg) from None
    stated = int(header[1]) if header else 0
    if len(words) < min(stated, max_words):
        msg = (
            f"cut after {len(words):,} words, while its first line states {stated:,}; a file that "
            "was shortened on purpose states its own number"
        )
        raise ValueError(msg)
    return words, np.stack(vectors) if vectors else np.empty((0, 0))


def _lines(file: Iterator[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the number of each line, its word and its numbers."""
    for number, line in enumerate(file, 1):
        # Only a space separates: other white space may be part of a word.
        word, *values = line.rstrip().split(" ")
        if (number == 1 and len(values) == 1) or not values:  # the header "COUNT WIDTH"
            continue
        yield number, word, values


def _npz(path: Path, _max_words: int) -> tuple[list[str], Any]:
    # An array of objects would need pickle, which can run code.
    # Opened here: numpy leaves the file of a damaged archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return list(map(str, arrays["words"])), arrays["vectors"]


def _safetensors(path: Path, _max_words: int) -> tuple[list[str], Any]:
    try:
        with safe_open(path, "numpy") as file:
            words = json.loads((file.metadata() or {})["words"])
            return words, file.get_tensor("vectors")
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def read_dictionary(path: Path) -> list[tuple[str, str]]:
    """Read pairs (source word, target word), one per line, separated by a tab or a space.

    Raises `ModelError` if the file is unreadable or a line is not a pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read as a dictionary ({error}); correct the path or the file"
        raise ModelError(msg) from error
    pairs = []
    for number, line in enumerate(lines, 1):
        # With a tab, the two sides may hold spaces.
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) != 2:
            msg = (
                f"{path}, line {number}: expected a source word, a tab and a target word, "
                f"got {line[:60]!r}"
            )
            raise ModelError(msg)
        pairs.append((parts[0].strip(), parts[1].strip()))
    return pairs
